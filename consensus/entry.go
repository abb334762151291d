package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A log entry is a version byte, the number of commands as a uvarint, and each
// command as its length (uvarint) and its bytes. Entries are kept for ever by
// peers that lag, so a version's layout never changes.
const (
	entryVersion     = 1
	maxEntryCommands = 1 << 16
)

var errEntryTruncated = errors.New("entry ends early")

// encodeEntry frames commands. No commands at all is a barrier: it takes a
// place in the log and changes nothing.
func encodeEntry(commands [][]byte) []byte {
	size := 1 + binary.MaxVarintLen32
	for _, command := range commands {
		size += binary.MaxVarintLen32 + len(command)
	}
	out := append(make([]byte, 0, size), entryVersion)
	out = binary.AppendUvarint(out, uint64(len(commands)))
	for _, command := range commands {
		out = binary.AppendUvarint(out, uint64(len(command)))
		out = append(out, command...)
	}
	return out
}

// decodeEntry reads what encodeEntry wrote. The commands share data's memory.
func decodeEntry(data []byte) ([][]byte, error) {
	if len(data) == 0 {
		return nil, errEntryTruncated
	}
	if data[0] != entryVersion {
		return nil, fmt.Errorf("entry has version %d, this program knows version %d; install the version that the other peers run", data[0], entryVersion)
	}
	data = data[1:]
	count, data, err := takeUvarint(data)
	if err != nil {
		return nil, fmt.Errorf("read number of commands: %w", err)
	}
	// Every command takes a byte at least, which bounds what a broken count
	// can make us allocate.
	if count > maxEntryCommands || count > uint64(len(data)) {
		return nil, fmt.Errorf("entry of %d bytes claims %d commands", len(data), count)
	}
	commands := make([][]byte, count)
	for i := range commands {
		var length uint64
		if length, data, err = takeUvarint(data); err != nil {
			return nil, fmt.Errorf("read length of command %d: %w", i, err)
		}
		if length > uint64(len(data)) {
			return nil, fmt.Errorf("read command %d: %w", i, errEntryTruncated)
		}
		commands[i], data = data[:length:length], data[length:]
	}
	if len(data) != 0 {
		return nil, fmt.Errorf("%d bytes follow the last command", len(data))
	}
	return commands, nil
}

func takeUvarint(data []byte) (uint64, []byte, error) {
	value, n := binary.Uvarint(data)
	if n <= 0 {
		return 0, nil, errEntryTruncated
	}
	return value, data[n:], nil
}
