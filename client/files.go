package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/textproto"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/api"
)

// Files are local files to add. As with ipfs add, a symbolic link is added as
// a link, wherever it stands.
type Files struct {
	Paths     []string  // "-" is Stdin; "." has the name of the folder that it is
	Recursive bool      // without it a directory is refused
	Hidden    bool      // take what begins with a dot inside directories, too
	Follow    bool      // replace those of Paths that are symbolic links by what they lead to
	Stdin     io.Reader // nil: os.Stdin
	// Progress, when set, is called with the bytes of file content that were
	// read so far, from one goroutine.
	Progress func(bytes int64)
}

// AddPaths uploads local files and calls emit for every output, as Add does.
// What cannot be read ends the add before the cluster pins anything.
func (c *Client) AddPaths(ctx context.Context, files Files, params api.AddParams, emit func(api.AddedOutput) error) error {
	roots, err := files.roots()
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	walk := &walk{files: files, form: form}
	done := make(chan error, 1)
	go func() {
		err := walk.all(ctx, roots)
		w.CloseWithError(err) // nil is io.EOF
		done <- err
	}()
	err = c.Add(ctx, r, form.FormDataContentType(), params, emit)
	r.CloseWithError(errUploadOver)
	if err != nil && slices.Contains(files.Paths, "-") {
		// Nothing can end a read of a terminal: the walk ends with its next line.
		select {
		case walked := <-done:
			return cmp.Or(readFailure(walked), err)
		default:
			return err
		}
	}
	return cmp.Or(readFailure(<-done), err)
}

// readFailure is why the files could not be read; the request then failed as a
// consequence. nil: they could.
func readFailure(walked error) error {
	if errors.Is(walked, errUploadOver) || errors.Is(walked, io.ErrClosedPipe) {
		return nil
	}
	return walked
}

// errUploadOver ends the walk when the request is over.
var errUploadOver = errors.New("the request is over")

// Size returns the bytes of file content that AddPaths would read; Stdin
// counts nothing.
func (f Files) Size() (int64, error) {
	roots, err := f.roots()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, root := range roots {
		err := filepath.WalkDir(root.path, func(at string, entry fs.DirEntry, err error) error {
			if err != nil || root.stdin {
				return err
			}
			if at != root.path && !f.Hidden && strings.HasPrefix(entry.Name(), ".") {
				if entry.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
			if entry.IsDir() && depth(root.path, at) > api.MaxAddDepth {
				return api.ErrTooDeep
			}
			if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
				total += info.Size()
			}
			return nil
		})
		if errors.Is(err, api.ErrTooDeep) {
			return 0, err
		}
		if err != nil && !root.stdin {
			return 0, unreadable(err)
		}
	}
	return total, nil
}

// depth is how many folders lead from a root to what is at a path beneath it,
// the root and the last among them.
func depth(root, at string) int {
	if at == root {
		return 1
	}
	return 2 + strings.Count(strings.TrimPrefix(at, root+string(filepath.Separator)), string(filepath.Separator))
}

// root is one of the paths to add, under the name that it gets.
type root struct {
	path, name string
	stdin      bool
}

// roots checks the paths before anything is sent.
func (f Files) roots() ([]root, error) {
	var out []root
	seen := map[string]string{}
	for _, given := range f.Paths {
		if given == "-" {
			out = append(out, root{stdin: true})
			continue
		}
		r, err := f.root(given)
		if err != nil {
			return nil, err
		}
		if first, twice := seen[r.name]; twice {
			return nil, api.Errorf(api.CodeInvalid, "%s and %s have the same name; add them one after the other, or rename one", first, given)
		}
		seen[r.name] = given
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "there is nothing to add; name at least one file")
	}
	return out, nil
}

func (f Files) root(given string) (root, error) {
	at, err := filepath.Abs(given)
	if err == nil && f.Follow {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return root{}, unreadable(err)
	}
	info, err := os.Lstat(at)
	if err != nil {
		return root{}, unreadable(err)
	}
	if info.IsDir() && !f.Recursive {
		return root{}, api.Errorf(api.CodeInvalid, "%s is a directory; add -r to add it with all that is in it", given)
	}
	return root{path: at, name: filepath.Base(at)}, nil
}

func unreadable(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeNotFound, "cannot add: %w", err)
	}
	return api.Errorf(api.CodeInvalid, "cannot add: %w", err)
}

// walk writes files as the parts of a form.
type walk struct {
	files Files
	form  *multipart.Writer
	read  int64
}

func (k *walk) all(ctx context.Context, roots []root) error {
	for _, r := range roots {
		if r.stdin {
			in := k.files.Stdin
			if in == nil {
				in = os.Stdin
			}
			if err := k.content("", in); err != nil {
				return err
			}
			continue
		}
		info, err := os.Lstat(r.path)
		if err != nil {
			return unreadable(err)
		}
		if err := k.entry(ctx, r.path, r.name, info.Mode()); err != nil {
			return err
		}
	}
	return k.form.Close()
}

// entry writes the part of one file, or of a directory and all beneath it.
func (k *walk) entry(ctx context.Context, at, name string, mode fs.FileMode) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	switch {
	case mode.IsDir():
		return k.directory(ctx, at, name)
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(at)
		if err != nil {
			return unreadable(err)
		}
		w, err := k.part(name, "application/symlink")
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, target)
		return err
	case mode.IsRegular():
		file, err := os.Open(at)
		if err != nil {
			return unreadable(err)
		}
		defer file.Close()
		return k.content(name, file)
	}
	return api.Errorf(api.CodeInvalid, "%s is neither a file, a directory nor a symbolic link (%s)", at, mode.Type())
}

func (k *walk) directory(ctx context.Context, at, name string) error {
	if 1+strings.Count(name, "/") > api.MaxAddDepth {
		return api.ErrTooDeep
	}
	if _, err := k.part(name, "application/x-directory"); err != nil {
		return err
	}
	entries, err := os.ReadDir(at)
	if err != nil {
		return unreadable(err)
	}
	for _, e := range entries {
		if !k.files.Hidden && strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := k.entry(ctx, filepath.Join(at, e.Name()), path.Join(name, e.Name()), e.Type()); err != nil {
			return err
		}
	}
	return nil
}

func (k *walk) content(name string, r io.Reader) error {
	w, err := k.part(name, "application/octet-stream")
	if err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			k.read += int64(n)
			if k.files.Progress != nil {
				k.files.Progress(k.read)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unreadable(err)
		}
	}
}

// part begins a part; names are escaped as Kubo's clients do.
func (k *walk) part(name, contentType string) (io.Writer, error) {
	header := textproto.MIMEHeader{}
	header.Set("Content-Disposition", fmt.Sprintf(`form-data; name="file"; filename="%s"`, url.QueryEscape(name)))
	header.Set("Content-Type", contentType)
	return k.form.CreatePart(header)
}
