package adder

import (
	"bufio"
	"errors"
	"io"
	"mime/multipart"

	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"

	"holdfast/api"
)

// A CAR's header holds its roots; a section holds a CID and a block.
const (
	maxCARHeader  = 64 << 10
	maxCARSection = MaxBlockBytes + 256
)

// carImporter puts the blocks of CARs (version 1 or 2) as they are. Every block
// is checked against its CID before it is put. An error with code invalid says
// what is wrong with a CAR: a bad hash, a wrong number of roots, an unknown
// codec, or a block that is linked and missing.
type carImporter struct {
	plan    plan
	put     func(cid.Cid, []byte) error
	emit    func(api.AddedOutput) error
	memory  *share
	closure *closure

	roots         []api.AddedOutput
	byCid         map[cid.Cid]int // into roots
	blocks, bytes uint64
}

// run reads a whole upload: one CAR with one root, or with ManyRoots several
// CARs that are complete together. It returns the outputs of the roots.
func (im *carImporter) run(upload *multipart.Reader) ([]api.AddedOutput, error) {
	parts := 0
	for {
		part, err := upload.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if parts++; parts > 1 && !im.plan.params.ManyRoots {
			return nil, api.Errorf(api.CodeInvalid, "the upload has more than one part; a CAR is added alone")
		}
		var from io.Reader = part
		if im.plan.params.Progress {
			from = &progressReader{from: part, name: part.FileName(), emit: im.emit}
		}
		if err := im.read(from, part.FileName()); err != nil {
			return nil, err
		}
	}
	if parts == 0 {
		return nil, api.Errorf(api.CodeInvalid, "the upload has no CAR; send it as a part of multipart/form-data")
	}
	if err := im.closure.whole(); err != nil {
		return nil, err
	}
	if im.plan.params.ManyRoots {
		return im.roots, im.emit(api.AddedOutput{Bytes: im.bytes, Blocks: im.blocks})
	}
	im.roots[0].Bytes, im.roots[0].Blocks = im.bytes, im.blocks
	return im.roots, nil
}

// read puts the blocks of one CAR.
func (im *carImporter) read(from io.Reader, name string) error {
	reader, err := car.NewBlockReader(bufio.NewReaderSize(from, 64<<10),
		car.MaxAllowedHeaderSize(maxCARHeader), car.MaxAllowedSectionSize(maxCARSection))
	if err != nil {
		return carError("read the header of the CAR", err)
	}
	if len(reader.Roots) != 1 && !im.plan.params.ManyRoots {
		return api.Errorf(api.CodeInvalid, "the CAR has %d roots; exactly one can be added, so split it or give it a common root", len(reader.Roots))
	}
	for _, root := range reader.Roots {
		if err := im.addRoot(root, name); err != nil {
			return err
		}
	}
	for {
		block, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return carError("read a block of the CAR", err)
		}
		if err := im.add(block.Cid(), block.RawData()); err != nil {
			return err
		}
	}
}

func (im *carImporter) addRoot(root cid.Cid, name string) error {
	if _, again := im.byCid[root]; !again {
		if err := im.memory.take(bytesPerRoot + len(name)); err != nil {
			return err
		}
		im.byCid[root] = len(im.roots)
		im.roots = append(im.roots, api.AddedOutput{Name: name, Cid: api.NewCid(root)})
	}
	return im.closure.want(root)
}

// add takes one block whose data was checked against its CID.
func (im *carImporter) add(c cid.Cid, data []byte) error {
	size, err := im.closure.see(c, data)
	if err != nil {
		return err
	}
	if i, ok := im.byCid[c]; ok {
		im.roots[i].Size = size
	}
	im.blocks, im.bytes = im.blocks+1, im.bytes+uint64(len(data))
	return im.put(c, data)
}

// carError tells a bad CAR from an output that nobody took.
func carError(doing string, err error) error {
	var coded *api.Error
	if errors.As(err, &coded) {
		return err
	}
	return api.Errorf(api.CodeInvalid, "%s: %w", doing, err)
}
