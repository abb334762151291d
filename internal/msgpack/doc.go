// Package msgpack checks a stream of MessagePack against limits before a decoder sees it.
package msgpack
