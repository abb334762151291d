package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// seal adds a checksum to a JSON object, as its last field: a wrong bit in a
// number is another number. Programs that do not know it pass it over.
func seal(object []byte) []byte {
	body := bytes.TrimSuffix(object, []byte("}"))
	sum := sha256.Sum256(body)
	return fmt.Appendf(bytes.Clone(body), "%s%s\"}", sealMark, hex.EncodeToString(sum[:]))
}

const sealMark = `,"sum":"`

var errSeal = errors.New("it is damaged: its checksum does not match its content")

// checkSeal compares an object with its checksum. Earlier versions wrote none.
func checkSeal(object []byte) error {
	at := bytes.LastIndex(object, []byte(sealMark))
	if at < 0 {
		return nil
	}
	sum := sha256.Sum256(object[:at])
	if string(object[at:]) != sealMark+hex.EncodeToString(sum[:])+`"}` {
		return errSeal
	}
	return nil
}

// sealedLogs gives every entry a checksum, in its extensions, and looks at it with
// every read: raft-wal has sums of what was written last, and asks for them only
// when it is opened. Entries of earlier versions have none.
type sealedLogs struct{ raft.LogStore }

const entrySeal = "hfc1" // begins the extensions of an entry with a checksum

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(entry *raft.Log) uint32 {
	head := binary.LittleEndian.AppendUint64(nil, entry.Index)
	head = append(binary.LittleEndian.AppendUint64(head, entry.Term), byte(entry.Type))
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, entry.Data)
}

// StoreLog stores an entry.
func (s sealedLogs) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs stores entries. Those of raft are not changed.
func (s sealedLogs) StoreLogs(entries []*raft.Log) error {
	sealed := make([]*raft.Log, len(entries))
	for i, entry := range entries {
		with := *entry
		with.Extensions = binary.LittleEndian.AppendUint32([]byte(entrySeal), sumOf(entry))
		sealed[i] = &with
	}
	return s.LogStore.StoreLogs(sealed)
}

var errEntryDamaged = errors.New("it is damaged: its checksum does not match its content")

// GetLog reads an entry.
func (s sealedLogs) GetLog(index uint64, out *raft.Log) error {
	if err := s.LogStore.GetLog(index, out); err != nil {
		return err
	}
	if len(out.Extensions) == 0 && out.Index == index {
		return nil
	}
	if out.Index != index || string(out.Extensions) != string(binary.LittleEndian.AppendUint32([]byte(entrySeal), sumOf(out))) {
		return errEntryDamaged
	}
	out.Extensions = nil
	return nil
}
