//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
)

// writeCertificate replaces the files of a certificate with a given number.
func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "peer"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A certificate that was replaced is shown after SIGHUP; a broken one leaves the
// old one in use and is an alert, until a good one is there.
func TestCertificateIsReplaced(t *testing.T) {
	base := workDir(t)
	certFile, keyFile := filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem")
	writeCertificate(t, certFile, keyFile, 1)
	p := newPeer(t, base, "peer0", map[string]string{"CLUSTER_HTTP_TLS_CERT": certFile, "CLUSTER_HTTP_TLS_KEY": keyFile})
	p.mustService("init", "--private")
	p.start()
	// The certificate is of this test and signs itself.
	settings := &tls.Config{InsecureSkipVerify: true}
	shows := func(ports []int, want int64) {
		t.Helper()
		for _, port := range ports {
			eventually(t, startTime, fmt.Sprintf("certificate %d on port %d", want, port), func(context.Context) error {
				conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), settings)
				if err != nil {
					return err
				}
				defer conn.Close()
				if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != want {
					return fmt.Errorf("it is %d", got)
				}
				return nil
			})
		}
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}}
	alerts := func(what string, want bool) {
		t.Helper()
		eventually(t, startTime, what, func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/health/alerts", p.ports.rest), nil)
			if err != nil {
				return err
			}
			response, err := web.Do(r)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			var list []api.Alert
			if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
				return err
			}
			got := false
			for _, a := range list {
				got = got || a.Name == api.AlertCertificate || a.Name == api.AlertSettings
			}
			if got != want {
				return errors.New(fmt.Sprint(list))
			}
			return nil
		})
	}
	all := []int{p.ports.rest, p.ports.proxy, p.ports.pinsvc}
	shows(all, 1)
	alerts("no alert", false)
	writeCertificate(t, certFile, keyFile, 2)
	p.signal(syscall.SIGHUP)
	shows(all, 2)
	for name, text := range map[string]string{"cut": "-----BEGIN CERTIFICATE-----\nMIIB", "empty": "", "without its key": ""} {
		if name == "without its key" {
			writeCertificate(t, certFile, filepath.Join(base, "other.pem"), 3)
		} else if err := os.WriteFile(certFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGHUP)
		alerts("an alert of a certificate that is "+name, true)
		shows(all, 2)
	}
	writeCertificate(t, certFile, keyFile, 4)
	p.signal(syscall.SIGHUP)
	shows(all, 4)
	alerts("no alert any more", false)
	if !p.running() {
		t.Error("the peer has ended")
	}
}
