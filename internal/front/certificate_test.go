package front

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

const day = 24 * time.Hour

// shown is the serial number of the certificate for a handshake a minute later.
func (c *Certificate) shown(t *testing.T) string {
	t.Helper()
	c.mu.Lock()
	c.looked = c.looked.Add(-lookAgain)
	c.mu.Unlock()
	got, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return got.Leaf.SerialNumber.String()
}

// Renewed files are noticed; those that cannot be used change nothing, are told
// of, and are tried again.
func TestRenewedCertificate(t *testing.T) {
	files := newCertificate(t, filepath.Join(t.TempDir(), "tls"), 90*day)
	c := files.load(t)
	first := c.shown(t)
	files.write(t, 90*day)
	second := c.shown(t)
	if second == first {
		t.Error("the renewed certificate is not shown")
	}
	if problems := c.Conditions(); len(problems) > 0 {
		t.Errorf("all is well, but %v", problems)
	}
	if err := os.WriteFile(files.cert, []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.shown(t) != second {
		t.Error("the old one is not kept")
	}
	if problems := c.Conditions(); len(problems) != 1 || problems[0].Name != api.AlertCertificate || !strings.Contains(problems[0].Message, files.cert) {
		t.Errorf("conditions %v", problems)
	}
	if err := c.Reload(files.cert, files.key); err == nil {
		t.Error("reloaded a file that is none")
	}
	files.write(t, 90*day)
	if err := c.Reload(files.cert, files.key); err != nil {
		t.Error(err)
	}
	if c.shown(t) == second || len(c.Conditions()) > 0 {
		t.Errorf("the good files are not used: %v", c.Conditions())
	}
}

func TestCertificateThatEnds(t *testing.T) {
	for name, test := range map[string]struct {
		valid time.Duration
		want  string
	}{"long": {15 * day, ""}, "soon": {13 * day, "expires on"}, "over": {-time.Hour, "expired on"}} {
		c := newCertificate(t, filepath.Join(t.TempDir(), "tls"), test.valid).load(t)
		problems := c.Conditions()
		if test.want == "" && len(problems) > 0 || test.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Message, test.want)) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
