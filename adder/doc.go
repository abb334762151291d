// Package adder turns uploaded files into pinned DAGs: it makes the blocks, streams them to the peers that shall hold them, and proposes the pin once they stand there.
package adder
