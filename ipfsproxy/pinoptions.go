package ipfsproxy

import (
	"strconv"
	"strings"
	"time"

	"holdfast/api"
)

// pinOptions reads the cluster's own pin options, which clients of the
// incumbent's proxy may send along with Kubo's. All errors have code invalid.
func (c *call) pinOptions(now time.Time) (api.PinOptions, error) {
	o := api.PinOptions{Name: c.text("name"), Mode: api.ModeRecursive}
	for name, to := range map[string][]*int{
		"replication-min": {&o.ReplicationFactorMin}, "replication-max": {&o.ReplicationFactorMax},
	} {
		if err := c.factor(name, to...); err != nil {
			return o, err
		}
	}
	if err := c.factor("replication", &o.ReplicationFactorMin, &o.ReplicationFactorMax); err != nil {
		return o, err
	}
	for _, text := range c.commas("user-allocations") {
		id, err := api.DecodePeer(text)
		if err != nil {
			return o, err
		}
		o.UserAllocations = append(o.UserAllocations, id)
	}
	var err error
	if o.Origins, err = api.ParseOrigins(c.commas("origins")); err != nil {
		return o, err
	}
	if o.ExpireAt, err = c.expiry(now); err != nil {
		return o, err
	}
	for name, text := range c.options {
		if key, ok := strings.CutPrefix(name, "meta-"); ok && key != "" {
			if o.Metadata == nil {
				o.Metadata = make(map[string]string)
			}
			o.Metadata[key] = text
		}
	}
	return o, o.Validate()
}

func (c *call) factor(name string, to ...*int) error {
	if c.text(name) == "" {
		return nil
	}
	value, err := strconv.Atoi(c.text(name))
	if err != nil {
		return api.Errorf(api.CodeInvalid, "option %q: %q is not a number of peers", name, c.text(name))
	}
	for _, factor := range to {
		*factor = value
	}
	return nil
}

func (c *call) expiry(now time.Time) (time.Time, error) {
	if text := c.text("expire-at"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || !at.After(now) {
			return time.Time{}, api.Errorf(api.CodeInvalid, "option \"expire-at\": %q is not a time in the future, such as 2030-01-31T12:00:00Z", text)
		}
		return at, nil
	}
	if text := c.text("expire-in"); text != "" {
		in, err := time.ParseDuration(text)
		if err != nil || in < time.Second {
			return time.Time{}, api.Errorf(api.CodeInvalid, "option \"expire-in\": %q is not a duration of a second or more, such as 72h", text)
		}
		return now.Add(in), nil
	}
	return time.Time{}, nil
}

// commas splits a list; an absent or empty option has no items.
func (c *call) commas(name string) []string {
	if c.text(name) == "" {
		return nil
	}
	return strings.Split(c.text(name), ",")
}
