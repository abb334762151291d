//go:build e2e

package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	root           = "../.."
	composeModule  = "github.com/docker/compose/v2"
	composeVersion = "v2.40.3"
)

// composeCommand is how Compose v2 is called here.
var composeCommand []string

func TestMain(m *testing.M) {
	if out, err := command(context.Background(), "", nil, "docker", "version"); err != nil {
		fmt.Printf("\n*** NOT TESTED: the docker-compose deployment. No Docker engine answers here: %v\n%s\n\n", err, out)
		return
	}
	code, err := prepare(m)
	if err != nil {
		fmt.Println("prepare the deployment's test:", err)
		code = 1
	}
	os.Exit(code)
}

func prepare(m *testing.M) (int, error) {
	var err error
	if composeCommand, err = findCompose(); err != nil {
		return 1, err
	}
	if err := standIn(); err != nil {
		return 1, fmt.Errorf("make a stand-in of the Go image: %w", err)
	}
	return m.Run(), nil
}

// findCompose returns the engine's own Compose v2, or builds it once.
func findCompose() ([]string, error) {
	if out, err := command(context.Background(), "", nil, "docker", "compose", "version", "--short"); err == nil {
		fmt.Println("Compose", strings.TrimSpace(out))
		return []string{"docker", "compose"}, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(cache, "holdfast-test", "docker-compose-"+composeVersion)
	if _, err := os.Stat(binary); !errors.Is(err, os.ErrNotExist) {
		return []string{binary}, err
	}
	begun := time.Now()
	if err := buildCompose(binary); err != nil {
		return nil, fmt.Errorf("build Compose %s: %w", composeVersion, err)
	}
	fmt.Printf("built Compose %s into %s in %s\n", composeVersion, binary, time.Since(begun).Round(time.Second))
	return []string{binary}, nil
}

// buildCompose builds in a module of its own, for its dependencies are not ours.
func buildCompose(binary string) error {
	dir, err := os.MkdirTemp("", "compose-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return err
	}
	temp := binary + ".new"
	for _, args := range [][]string{
		{"mod", "init", "composebuild"},
		{"get", composeModule + "@" + composeVersion},
		{"build", "-mod=mod", "-trimpath", "-ldflags", "-s -w -X " + composeModule + "/internal.Version=" + composeVersion, "-o", temp, composeModule + "/cmd"},
	} {
		if out, err := command(context.Background(), dir, nil, "go", args...); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return os.Rename(temp, binary)
}

// command runs a program and returns what it printed on standard output, or on
// both streams if it failed.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String() + problems.String(), fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out.String(), nil
}
