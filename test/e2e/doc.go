// Package e2e tests real processes: peers of a cluster on the loopback with real disks, real sockets and real kills.
//
// The tests have the build tag e2e, because together they take minutes:
//
//	make e2e
//	go test -tags e2e -count 1 -v -run TestRealTree ./test/e2e
//
// E2E_KEEP=folder keeps the peers' folders and logs in that folder, and
// E2E_SEED=number repeats the random choices of an earlier run.
package e2e
