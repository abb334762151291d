package main

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/restapi"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cluster-ctl": main})
}

// TestScripts runs the binary against the real HTTP handler over a cluster in
// memory. UPDATE_SCRIPTS=1 rewrites the expected outputs; read the diff.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		UpdateScripts:      os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitcode},
		Setup: func(env *testscript.Env) error {
			fake := newFakeCluster()
			server := httptest.NewServer(restapi.New(fake, fake, restapi.Config{}))
			env.Defer(server.Close)
			env.Setenv("CLUSTER_CTL_HOST", server.URL)
			return nil
		},
	})
}

// exitcode is "exitcode N command...": the command must end with that code.
func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N command [argument...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		if failed.ExitCode() != want {
			ts.Fatalf("exit code %d, want %d", failed.ExitCode(), want)
		}
	case err != nil:
		ts.Fatalf("%v", err)
	case want != 0:
		ts.Fatalf("exit code 0, want %d", want)
	}
}
