//go:build e2e

// Package docs runs the commands of the documents as a newcomer would.
package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	root      = "../.."
	devReady  = "http://127.0.0.1:9094/id" // of the first peer of dev
	startTime = 5 * time.Minute            // also compiles everything
	stopTime  = time.Minute
)

// pages are run in this order, each in one shell.
var pages = []string{"README.md", "docs/development.md", "docs/deployment.md", "docs/backup.md", "docs/bulk.md"}

func TestCommandsOfPages(t *testing.T) {
	startDev(t)
	for _, page := range pages {
		t.Run(page, func(t *testing.T) {
			commands := commandsOf(t, page)
			if len(commands) == 0 {
				t.Fatal("the page has no commands")
			}
			var script strings.Builder
			for _, c := range commands {
				switch {
				case strings.HasPrefix(c, "go test "): // would run this test again
				case strings.Contains(c, "cluster-service dev"): // runs already
				default:
					fmt.Fprintf(&script, "echo %s >&2\n%s\n", quote("$ "+c), c)
				}
			}
			shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script.String())
			shell.Dir = root
			out, err := shell.CombinedOutput()
			if err != nil {
				t.Fatalf("the last command failed: %v\n%s", err, out)
			}
			t.Logf("%s", out)
			if page == "README.md" && !bytes.Contains(out, []byte("PINNED")) {
				t.Errorf("nothing is PINNED")
			}
		})
	}
}

// commandsOf returns what follows "$ " in the sh blocks of a page.
func commandsOf(t *testing.T, page string) []string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	inside := false
	for line := range strings.Lines(string(src)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case inside:
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				out = append(out, command)
			}
		}
	}
	return out
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// startDev starts the README's three peers and stops them when the test ends.
func startDev(t *testing.T) {
	t.Helper()
	if resp, err := http.Get(devReady); err == nil {
		resp.Body.Close()
		t.Fatalf("something listens where the first peer should: %s", devReady)
	}
	var out bytes.Buffer
	dev := exec.Command("go", "run", "./cluster-service", "dev")
	dev.Dir, dev.Stdout, dev.Stderr = root, &out, &out
	dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Wait() }()
	t.Cleanup(func() { stopDev(t, dev, ended, &out) })

	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get(devReady); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("dev ended: %v", err)
		case <-ctx.Done():
			t.Fatalf("dev was not ready within %s", startTime)
		}
	}
}

// stopDev does what ^C does.
func stopDev(t *testing.T, dev *exec.Cmd, ended chan error, out *bytes.Buffer) {
	t.Helper()
	// The group may be gone already; then Wait has said why.
	_ = syscall.Kill(-dev.Process.Pid, syscall.SIGINT)
	select {
	case err := <-ended:
		// After ^C "go run" ends with 1, however well the program ended.
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
			t.Errorf("dev: %v", err)
		}
		if resp, err := http.Get(devReady); err == nil {
			resp.Body.Close()
			t.Errorf("dev ended and left a peer behind")
		}
		if t.Failed() {
			t.Logf("%s", out)
		}
	case <-time.After(stopTime):
		_ = syscall.Kill(-dev.Process.Pid, syscall.SIGKILL)
		<-ended
		t.Errorf("dev did not stop within %s of ^C\n%s", stopTime, out.String())
	}
}

// Each benchmark of docs/benchmarks.md runs, once and small.
func TestBenchmarksOfPage(t *testing.T) {
	src, err := os.ReadFile(filepath.Join(root, "docs/benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	small := strings.NewReplacer("-listed 1000000", "-listed 2000", "-pins 10000000", "-pins 20000")
	commands := regexp.MustCompile("`(go test [^`]* -bench [^`]*)`").FindAllStringSubmatch(string(src), -1)
	if len(commands) < 6 {
		t.Errorf("the page has %d benchmarks", len(commands))
	}
	for _, match := range commands {
		command := match[1]
		if !strings.Contains(command, " -benchtime ") {
			command = strings.Replace(command, " -bench ", " -benchtime 1x -bench ", 1)
		}
		command = regexp.MustCompile(`-benchtime \d+x`).ReplaceAllString(small.Replace(command), "-benchtime 1x")
		t.Run(command, func(t *testing.T) {
			run := exec.CommandContext(t.Context(), "bash", "-c", command)
			run.Dir, run.Env = root, append(os.Environ(), "BENCH_BYTES=1048576")
			out, err := run.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("\nBenchmark")) {
				t.Errorf("%v; it says\n%s", err, out)
			}
		})
	}
}
