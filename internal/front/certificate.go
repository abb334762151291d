package front

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"holdfast/api"
)

const (
	lookAgain   = time.Minute         // how often the files are looked at
	expiresSoon = 14 * 24 * time.Hour // when a certificate's end is an alert
)

// Certificate is what the APIs show with TLS. Its files may be replaced at any
// time; new ones that cannot be used leave the old certificate in use.
type Certificate struct {
	logger *slog.Logger

	mu       sync.Mutex
	certFile string
	keyFile  string
	current  *tls.Certificate
	seen     [2]fileState // the files when they were last read
	looked   time.Time
	problem  error // why the files cannot be used; nil: they are in use
}

// fileState tells whether a file is another one than before.
type fileState struct {
	modified time.Time
	size     int64
	inode    os.FileInfo
}

// LoadCertificate reads the PEM files of certificate chain and key.
func LoadCertificate(certFile, keyFile string, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	if err := c.read(); err != nil {
		return nil, err
	}
	c.looked = time.Now()
	c.tellEnd(time.Now())
	return c, nil
}

// get returns the certificate for a handshake. It looks at the files now and
// then, so that nobody needs to tell that they were renewed.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookAgain {
		c.look(now)
	}
	return c.current, nil
}

// look reads the files if they have changed, or failed before.
func (c *Certificate) look(now time.Time) {
	c.looked = now
	if c.problem == nil && c.unchanged() {
		return
	}
	c.reload()
}

// Reload reads the files again, which may be others now.
func (c *Certificate) Reload(certFile, keyFile string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certFile, c.keyFile = certFile, keyFile
	c.looked = time.Now()
	return c.reload()
}

func (c *Certificate) reload() error {
	before, changed := c.current, !c.unchanged()
	err := c.read()
	switch {
	case err != nil && (c.problem == nil || changed):
		c.logger.Error("the TLS certificate's files cannot be used, the one before stays in use", "err", err)
	case err == nil && !sameCertificate(before, c.current):
		c.logger.Info("TLS certificate reloaded", "file", c.certFile, "expires", c.current.Leaf.NotAfter)
		c.tellEnd(time.Now())
	}
	c.problem = err
	return err
}

func sameCertificate(a, b *tls.Certificate) bool { return a.Leaf.Equal(b.Leaf) }

func (c *Certificate) read() error {
	c.seen = c.stat()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("http.tls_cert %s and http.tls_key %s: %w", c.certFile, c.keyFile, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("http.tls_cert %s: %w", c.certFile, err)
		}
	}
	c.current = &pair
	return nil
}

func (c *Certificate) stat() (now [2]fileState) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			now[i] = fileState{info.ModTime(), info.Size(), info}
		}
	}
	return now
}

func (c *Certificate) unchanged() bool {
	for i, now := range c.stat() {
		then := c.seen[i]
		if now.inode == nil || then.inode == nil || !os.SameFile(now.inode, then.inode) || now.size != then.size || !now.modified.Equal(then.modified) {
			return false
		}
	}
	return true
}

func (c *Certificate) tellEnd(now time.Time) {
	if text := c.end(now); text != "" {
		c.logger.Warn(text)
	}
}

// end says in words that the certificate ends soon, or has ended.
func (c *Certificate) end(now time.Time) string {
	end := c.current.Leaf.NotAfter
	const todo = "renew it and put the new files in their place: they are read within a minute, or at once with SIGHUP"
	switch {
	case now.After(end):
		return fmt.Sprintf("the TLS certificate in %s expired on %s, clients refuse it; %s", c.certFile, end.UTC().Format(time.RFC3339), todo)
	case now.Before(c.current.Leaf.NotBefore):
		return fmt.Sprintf("the TLS certificate in %s is not valid before %s, clients refuse it; look at this machine's clock", c.certFile, c.current.Leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.Add(expiresSoon).After(end):
		return fmt.Sprintf("the TLS certificate in %s expires on %s; %s", c.certFile, end.UTC().Format(time.RFC3339), todo)
	}
	return ""
}

// Conditions tells of a certificate that ends, and of files that cannot be used.
func (c *Certificate) Conditions() []api.Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) >= lookAgain {
		c.look(now) // nobody may be connecting
	}
	var found []api.Condition
	if c.problem != nil {
		found = append(found, api.Condition{Name: api.AlertCertificate, Subject: c.certFile,
			Message: fmt.Sprintf("the renewed TLS certificate cannot be used, and the one before stays in use until %s: %v", c.current.Leaf.NotAfter.UTC().Format(time.RFC3339), c.problem)})
	}
	if text := c.end(now); text != "" {
		found = append(found, api.Condition{Name: api.AlertCertificate, Message: text})
	}
	return found
}
