package daemon

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"

	"holdfast/config"
	"holdfast/internal/front"
	"holdfast/internal/spool"
	"holdfast/restapi"
)

// openFronts opens the HTTP listeners and the admin socket.
func (d *Daemon) openFronts(s *stages) error {
	d.rest, d.proxy, d.pinsvc, d.gateway = &front.Front{}, &front.Front{}, &front.Front{}, &front.Front{}
	if d.opts.Seams.simulated() {
		return nil
	}
	c := d.opts.Config
	var err error
	if d.spools, err = spool.Open(filepath.Join(d.opts.Dir, "spool"), spool.Limits{}); err != nil {
		return err
	}
	if d.descriptors.scarce {
		d.logger.Warn("the limit of open files is low: clients get few connections, and a large pinset may need more; set 65536 (LimitNOFILE of systemd, ulimit -n, --ulimit nofile of a container)")
	}
	for _, text := range c.Warnings() {
		d.logger.Warn(text)
	}
	d.tell = append(d.tell, d.reloadConditions)
	if err := checkSwarmPorts(c); err != nil {
		return err
	}
	d.guard = front.NewGuard(access(c), d.logger.With("part", "http"))
	shared := front.Shared{Guard: d.guard, Outside: d.outside.Load, Events: d.httpEvents(), Logger: d.logger,
		Limits: front.Limits{Connections: d.descriptors.perAPI}, Timeouts: front.Timeouts{Pause: c.UploadPause}}
	if c.TLSCert != "" {
		certificate, err := front.LoadCertificate(c.TLSCert, c.TLSKey, d.logger.With("part", "http"))
		if err != nil {
			return err
		}
		d.certificate, shared.Certificate = certificate, certificate
		d.tell = append(d.tell, certificate.Conditions)
	}
	public := restapi.NewPublicHealth(d)
	health := func(r *http.Request) bool { return r.URL.Path == "/health" }
	open := []struct {
		into *(*front.Front)
		api  front.API
	}{
		// Bulk writes hold nothing for a client that thinks.
		{&d.rest, front.API{Name: "restapi", Listen: c.RESTListen, Deny: front.DenyREST, Open: func(r *http.Request) bool { return restapi.IsHealth(r.URL.Path) },
			Health: restapi.NewHealth(d), Public: public, Tells: func(r *http.Request) bool { return r.URL.Path == "/health/alerts" || r.URL.Path == "/metrics" },
			Patient: func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Path == "/pins" }}},
		{&d.proxy, front.API{Name: "ipfsproxy", Listen: c.ProxyListen, Deny: front.DenyKubo, Open: health, Public: public}},
		{&d.pinsvc, front.API{Name: "pinsvc", Listen: c.PinsvcListen, Deny: front.DenyPinning, Open: health, Public: public}},
		{&d.gateway, front.API{Name: "ipfs.gateway", Listen: c.IPFSGatewayListen, Deny: front.DenyREST}},
	}
	for _, o := range open {
		o.api.Hint = "; is another peer running? Choose another with " + config.Variable(o.api.Name+".listen")
		f, err := front.Open(o.api, shared)
		if err != nil {
			return errors.Join(err, s.stop())
		}
		*o.into = f
		if len(o.api.Listen) > 0 {
			d.metrics.HTTPListens(o.api.Name)
			s.start(o.api.Name, f.Run)
			d.tell = append(d.tell, f.Conditions)
		}
	}
	s.start("admin socket", func(ctx context.Context) error { return serveAdmin(ctx, d.opts.Dir, d.adminHandler()) })
	return nil
}

func access(c config.Config) front.Access {
	return front.Access{Users: c.Users, Hosts: c.AllowedHosts}
}
