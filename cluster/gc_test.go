package cluster

import "testing"

// Space that garbage collection made is known to the leader when it returns.
func TestGarbageCollectionIsReported(t *testing.T) {
	w := newWorld(t, 1, nil)
	if _, err := w.cluster.LocalRepoGC(t.Context()); err != nil || w.reports != 1 {
		t.Errorf("%d reports, %v", w.reports, err)
	}
}
