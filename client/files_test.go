package client_test

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/client"
	"holdfast/restapi/fake"
)

// recordParts is an adder that notes every part as "type filename content".
func recordParts(parts *[]string) *fake.Service {
	return &fake.Service{OnAdd: func(body *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
		for {
			part, err := body.NextRawPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read the upload: %w", err)
			}
			content, err := io.ReadAll(part)
			if err != nil {
				return fmt.Errorf("read the upload: %w", err)
			}
			_, kind, _ := strings.Cut(part.Header.Get("Content-Type"), "/")
			*parts = append(*parts, fmt.Sprintf("%s %s %s", kind, part.Header.Get("Content-Disposition"), content))
			if err := emit(api.AddedOutput{Name: part.FileName(), Cid: cidA}); err != nil {
				return err
			}
		}
	}}
}

func tree(t *testing.T) string {
	dir := t.TempDir()
	for name, content := range map[string]string{"top/b file.txt": "bee", "top/a": "", "top/.hidden": "h", "top/sub/ü&\"": "umlaut", "lone": "1"} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("sub", filepath.Join(dir, "top", "link")), os.Symlink("lone", filepath.Join(dir, "alias"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func part(kind, name, content string) string {
	return fmt.Sprintf(`%s form-data; name="file"; filename="%s" %s`, kind, url.QueryEscape(name), content)
}

func TestAddPaths(t *testing.T) {
	dir := tree(t)
	top := []string{part("x-directory", "top", ""), part("octet-stream", "top/a", ""), part("octet-stream", "top/b file.txt", "bee"),
		part("symlink", "top/link", "sub"), part("x-directory", "top/sub", ""), part("octet-stream", `top/sub/ü&"`, "umlaut")}
	for _, tc := range []struct {
		name  string
		files client.Files
		size  int64
		want  []string
	}{
		{"directory", client.Files{Paths: []string{dir + "/top/"}, Recursive: true}, 9, top},
		{"hidden", client.Files{Paths: []string{dir + "/top"}, Recursive: true, Hidden: true}, 10,
			slices.Insert(slices.Clone(top), 1, part("octet-stream", "top/.hidden", "h"))},
		{"a hidden file that is named", client.Files{Paths: []string{dir + "/top/.hidden"}}, 1, []string{part("octet-stream", ".hidden", "h")}},
		{"link", client.Files{Paths: []string{dir + "/alias"}}, 0, []string{part("symlink", "alias", "lone")}},
		{"link followed", client.Files{Paths: []string{dir + "/alias"}, Follow: true}, 1, []string{part("octet-stream", "lone", "1")}},
		{"several and stdin", client.Files{Paths: []string{dir + "/lone", "-", dir + "/top/a"}, Stdin: strings.NewReader("in")}, 1,
			[]string{part("octet-stream", "lone", "1"), part("octet-stream", "", "in"), part("octet-stream", "a", "")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			var bytes int64
			c := serve(t, recordParts(&got))
			tc.files.Progress = func(n int64) { bytes = n }
			size, err := tc.files.Size()
			if err != nil || size != tc.size {
				t.Errorf("size %d, %v", size, err)
			}
			n := 0
			err = c.AddPaths(t.Context(), tc.files, api.NewAddParams(), func(api.AddedOutput) error { n++; return nil })
			if err != nil || n != len(tc.want) {
				t.Errorf("%d outputs, %v", n, err)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("parts\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			if tc.files.Stdin == nil && bytes != size {
				t.Errorf("progress ended at %d of %d", bytes, size)
			}
		})
	}
}

func TestAddPathsRefusals(t *testing.T) {
	dir := tree(t)
	c := connect(t, client.Config{Addrs: []string{"http://127.0.0.1:1"}})
	for _, tc := range []struct {
		files client.Files
		code  api.Code
		has   string
	}{
		{client.Files{}, api.CodeInvalid, "nothing to add"},
		{client.Files{Paths: []string{dir + "/absent"}}, api.CodeNotFound, "absent"},
		{client.Files{Paths: []string{dir + "/top"}}, api.CodeInvalid, "add -r"},
		{client.Files{Paths: []string{dir + "/lone", dir + "/top/../lone"}}, api.CodeInvalid, "same name"},
		{client.Files{Paths: []string{dir + "/lone"}}, api.CodeUnavailable, "127.0.0.1:1"},
	} {
		err := c.AddPaths(t.Context(), tc.files, api.NewAddParams(), nil)
		if api.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.has) {
			t.Errorf("%v: %v", tc.files, err)
		}
	}
}

// A file that cannot be read is named, and the peer sees that the upload did
// not end.
func TestAddPathsReadError(t *testing.T) {
	var parts []string
	service := recordParts(&parts)
	add, seen := service.OnAdd, make(chan error, 1)
	service.OnAdd = func(body *multipart.Reader, p api.AddParams, emit func(api.AddedOutput) error) error {
		err := add(body, p, emit)
		seen <- err
		return err
	}
	c := serve(t, service)
	bad := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), failingReader{})
	err := c.AddPaths(t.Context(), client.Files{Paths: []string{"-"}, Stdin: bad}, api.NewAddParams(), func(api.AddedOutput) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "the disk broke") {
		t.Errorf("client: %v", err)
	}
	if err := <-seen; err == nil {
		t.Error("the peer took a part of an upload for the whole")
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the disk broke") }

func TestAddErrors(t *testing.T) {
	full := api.Errorf(api.CodeNoSpace, "the disk is full")
	stop := errors.New("enough")
	body := func() (string, io.Reader) {
		var sb strings.Builder
		w := multipart.NewWriter(&sb)
		for i := range 3 {
			p, _ := w.CreateFormFile("file", fmt.Sprint(i))
			_, _ = io.WriteString(p, strings.Repeat("y", 1<<20))
		}
		_ = w.Close()
		return w.FormDataContentType(), strings.NewReader(sb.String())
	}
	emits := func(n int) *fake.Service {
		return &fake.Service{OnAdd: func(_ *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
			for range n {
				if err := emit(api.AddedOutput{Cid: cidA}); err != nil {
					return err
				}
			}
			return full
		}}
	}
	for _, n := range []int{0, 1} {
		for _, stream := range []bool{true, false} {
			params := api.NewAddParams()
			params.StreamChannels = stream
			contentType, r := body()
			err := serve(t, emits(n)).Add(t.Context(), r, contentType, params, func(api.AddedOutput) error { return nil })
			if api.CodeOf(err) != api.CodeNoSpace || err.Error() != "the disk is full" {
				t.Errorf("after %d, stream %v: %v", n, stream, err)
			}
		}
	}
	contentType, r := body()
	watched := api.NewAddParams()
	watched.Progress = true
	err := serve(t, emits(2)).Add(t.Context(), r, contentType, watched, func(api.AddedOutput) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("emit's error: %v", err)
	}
	params := api.NewAddParams()
	params.Chunker, params.Format = "size-1", "tar"
	contentType, r = body()
	if err := serve(t, emits(0)).Add(t.Context(), r, contentType, params, nil); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("refused parameters: %v", err)
	}
}

// An upload that no peer has begun to read goes to the next.
func TestAddFailsOverUntouched(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	starting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
	}))
	defer starting.Close()
	var parts []string
	c := serve(t, recordParts(&parts), dead.URL, starting.URL)
	dir := tree(t)
	err := c.AddPaths(t.Context(), client.Files{Paths: []string{dir + "/lone"}}, api.NewAddParams(), func(api.AddedOutput) error { return nil })
	if err != nil || len(parts) != 1 {
		t.Errorf("%q, %v", parts, err)
	}
}

// Folders that nest too deep are refused here, as the peer refuses them.
func TestDepthOfFolders(t *testing.T) {
	for levels, tooDeep := range map[int]bool{api.MaxAddDepth: false, api.MaxAddDepth + 1: true} {
		top := t.TempDir()
		if err := os.MkdirAll(top+strings.Repeat("/d", levels-1), 0o755); err != nil {
			t.Fatal(err)
		}
		tree := client.Files{Paths: []string{top}, Recursive: true}
		if _, err := tree.Size(); errors.Is(err, api.ErrTooDeep) != tooDeep {
			t.Errorf("%d levels: %v", levels, err)
		}
		if !tooDeep {
			continue
		}
		var parts []string
		err := serve(t, recordParts(&parts)).AddPaths(t.Context(), tree, api.NewAddParams(), func(api.AddedOutput) error { return nil })
		if !errors.Is(err, api.ErrTooDeep) {
			t.Errorf("%d levels: %v", levels, err)
		}
	}
}
