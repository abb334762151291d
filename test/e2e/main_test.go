//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Programs under test, built once per run.
var (
	serviceBin string
	ctlBin     string
	repoRoot   string // of the tree that is tested
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	wd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	repoRoot = filepath.Dir(filepath.Dir(wd))
	bin, err := os.MkdirTemp("", "holdfast-e2e-bin-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./cluster-service", "./cluster-ctl")
	build.Dir = repoRoot
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	serviceBin, ctlBin = filepath.Join(bin, "cluster-service"), filepath.Join(bin, "cluster-ctl")
	if oldPrograms() == "" {
		fmt.Print("\n*** NOT TESTED: the upgrade from an earlier version (TestUpgradeOneByOne). Set OLD_BIN to the folder with its programs; see docs/development.md\n\n")
	}
	return m.Run(), nil
}
