// Package node is the embedded IPFS node: a Kubo core with its repository, without the daemon around it.
package node
