//go:build e2e

package compose

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// standIn imports an image with the name of the Dockerfile's base image from
// this machine's file system, unless there is one: Go, a shell, certificates,
// and the module cache as a proxy.
func standIn() error {
	ctx := context.Background()
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		return err
	}
	version := regexp.MustCompile(`(?m)^ARG GO_VERSION=(\S+)$`).FindSubmatch(dockerfile)
	if version == nil {
		return errors.New("the Dockerfile does not say which Go it wants")
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return err
	}
	image, comment := "golang:"+string(version[1]), fmt.Sprintf("%s, %x", standInComment, sha256.Sum256(sums))
	there, err := command(ctx, "", nil, "docker", "image", "inspect", "--format", "{{.Comment}}", image)
	if there = strings.TrimSpace(there); err == nil && (there == comment || !strings.HasPrefix(there, standInComment)) {
		fmt.Printf("building from the image %s that is here (%s)\n", image, there)
		return nil
	}
	if have := strings.TrimPrefix(runtime.Version(), "go"); have != string(version[1]) {
		return fmt.Errorf("the Dockerfile wants Go %s, and this machine has %s", version[1], have)
	}
	fmt.Println("building from a stand-in of", image, "made of this machine's files")
	cmd := exec.Command("docker", "import", "--message", comment,
		"--change", "ENV PATH=/usr/local/go/bin:/usr/bin:/bin",
		"--change", "ENV GOPROXY=file:///goproxy GOSUMDB=off GOTOOLCHAIN=local GOPATH=/go", "-", image)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	err = errors.Join(writeStandIn(stdin), stdin.Close(), cmd.Wait())
	if err != nil {
		return fmt.Errorf("docker import: %w\n%s", err, out.String())
	}
	return nil
}

const standInComment = "holdfast test stand-in"

// archive writes files of this machine into an image.
type archive struct {
	*tar.Writer
	seen map[string]bool
}

func writeStandIn(w io.Writer) error {
	a := archive{tar.NewWriter(w), map[string]bool{}}
	for dir, mode := range map[string]int64{"tmp": 0o1777, "root": 0o700, "go": 0o755} {
		if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode}); err != nil {
			return err
		}
	}
	passwd := "root:x:0:0:root:/root:/bin/sh\n"
	if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644, Size: int64(len(passwd))}); err != nil {
		return err
	}
	if _, err := io.WriteString(a, passwd); err != nil {
		return err
	}
	for _, program := range []string{"/bin/sh", "/bin/mkdir", "/bin/chmod"} {
		if err := a.program(program); err != nil {
			return err
		}
	}
	if err := a.file("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt"); err != nil {
		return err
	}
	goroot, err := command(context.Background(), root, nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	if err := a.tree(strings.TrimSpace(goroot), "/usr/local/go", nil); err != nil {
		return err
	}
	if err := a.modules(); err != nil {
		return err
	}
	return a.Close()
}

// file adds one file under a name; a link becomes what it points to.
func (a archive) file(path, name string) error {
	if a.seen[name] {
		return nil
	}
	a.seen[name] = true
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: int64(info.Mode().Perm()), Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(a, f)
	return err
}

// program adds a program and the libraries that it is linked with.
func (a archive) program(path string) error {
	out, err := command(context.Background(), "", nil, "ldd", path)
	if err != nil {
		return err
	}
	for _, word := range strings.Fields(out) {
		if strings.HasPrefix(word, "/") {
			if err := a.file(word, word); err != nil {
				return err
			}
		}
	}
	return a.file(path, path)
}

// tree adds the files of a folder, all or those that are wanted.
func (a archive) tree(dir, name string, wanted func(string) bool) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || wanted != nil && !wanted(path) {
			return err
		}
		return a.file(path, name+strings.TrimPrefix(path, dir))
	})
}

// modules adds what a module proxy would serve: the modules that this one
// needs, and the descriptions of all.
func (a archive) modules() error {
	out, err := command(context.Background(), root, nil, "go", "mod", "download", "-json")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	cache, err := command(context.Background(), root, nil, "go", "env", "GOMODCACHE")
	if err != nil {
		return err
	}
	download := filepath.Join(strings.TrimSpace(cache), "cache", "download")
	for decoder := json.NewDecoder(strings.NewReader(out)); decoder.More(); {
		var module struct{ Zip string }
		if err := decoder.Decode(&module); err != nil {
			return err
		}
		if err := a.file(module.Zip, "/goproxy"+strings.TrimPrefix(module.Zip, download)); err != nil {
			return err
		}
	}
	return a.tree(download, "/goproxy", func(path string) bool {
		return strings.HasSuffix(path, ".mod") || strings.HasSuffix(path, ".info")
	})
}
