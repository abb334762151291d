package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// otherVariables are those that our programs know besides the settings.
var otherVariables = []string{"CLUSTER_DIR", "CLUSTER_INIT", "CLUSTER_FOUNDER", "CLUSTER_JOIN", "CLUSTER_SECRET", "CLUSTER_SECRET_FILE",
	"CLUSTER_CREDENTIALS", "CLUSTER_CREDENTIALS_FILE", "CLUSTER_TOKEN", "CLUSTER_FORCE_HTTP", "CLUSTER_CTL_HOST"}

// incumbent says which of our settings a variable of IPFS Cluster became. An
// empty one means that there is nothing to set any more.
var incumbent = map[string]string{
	"CLUSTER_LISTENMULTIADDRESS":                   "cluster.listen",
	"CLUSTER_ANNOUNCEMULTIADDRESS":                 "cluster.announce",
	"CLUSTER_LEAVEONSHUTDOWN":                      "cluster.leave_on_shutdown",
	"CLUSTER_REPLICATIONFACTORMIN":                 "replication.min",
	"CLUSTER_REPLICATIONFACTORMAX":                 "replication.max",
	"CLUSTER_RAFT_HEARTBEATTIMEOUT":                "raft.heartbeat_timeout",
	"CLUSTER_RAFT_ELECTIONTIMEOUT":                 "raft.election_timeout",
	"CLUSTER_RAFT_BACKUPSROTATE":                   "backup.keep",
	"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS":       "restapi.listen",
	"CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS":     "pinsvc.listen",
	"CLUSTER_IPFSPROXY_LISTENMULTIADDRESS":         "ipfsproxy.listen",
	"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS":         "http.users",
	"CLUSTER_PINSVCAPI_BASICAUTHCREDENTIALS":       "http.users",
	"CLUSTER_RESTAPI_SSLCERTFILE":                  "http.tls_cert",
	"CLUSTER_RESTAPI_SSLKEYFILE":                   "http.tls_key",
	"CLUSTER_PINSVCAPI_SSLCERTFILE":                "http.tls_cert",
	"CLUSTER_PINSVCAPI_SSLKEYFILE":                 "http.tls_key",
	"CLUSTER_STATELESS_CONCURRENTPINS":             "pins.concurrent",
	"CLUSTER_TAGS_TAGS":                            "tags",
	"CLUSTER_IPFSHTTP_NODEMULTIADDRESS":            "",
	"CLUSTER_IPFSPROXY_NODEMULTIADDRESS":           "",
	"CLUSTER_ID":                                   "",
	"CLUSTER_PRIVATEKEY":                           "",
	"CLUSTER_RESOURCEMANAGER_FILEDESCRIPTORSLIMIT": "",
}

var (
	// secretive are names that have to do with who may do what.
	secretive = regexp.MustCompile(`AUTH|CREDENTIAL|PASSW|USERS?(_|$)|TLS|SSL|CERT|SECRET|TOKEN`)
	// injected are what Kubernetes sets for a service that is called "cluster".
	injected = regexp.MustCompile(`^CLUSTER_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)?)$`)
)

// CheckEnvironment looks at the names of all variables ("NAME=value"). It
// returns remarks on those that look like settings and are none, and an error
// for those of them that were meant to protect the peer.
func CheckEnvironment(environment []string) (remarks []string, err error) {
	var problems []error
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "CLUSTER_") || isVariable(name) || injected.MatchString(name) {
			continue
		}
		text := name + " is no setting and changes nothing" + hint(name)
		if secretive.MatchString(name) && value != "" {
			problems = append(problems, errors.New(text))
		} else {
			remarks = append(remarks, text)
		}
	}
	slices.Sort(remarks)
	return remarks, errors.Join(problems...)
}

func isVariable(name string) bool {
	if slices.Contains(otherVariables, name) {
		return true
	}
	return slices.ContainsFunc(settings, func(s setting) bool {
		v := Variable(s.key)
		return name == v || name == v+"_FILE"
	})
}

// hint says what to set instead.
func hint(name string) string {
	key, ours := incumbent[name]
	switch {
	case ours && key != "":
		return fmt.Sprintf(": it is one of IPFS Cluster's; here it is %s (%s)", Variable(key), key)
	case ours:
		return ": it is one of IPFS Cluster's, and there is nothing to set here"
	}
	near, distance := "", len(name)/8+1
	for _, s := range settings {
		for _, v := range []string{Variable(s.key), Variable(s.key) + "_FILE"} {
			if d := editDistance(name, v); d < distance {
				near, distance = v, d
			}
		}
	}
	if near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return "; 'cluster-service config show' lists the settings with their variables"
}

// editDistance is how many letters one has to add, drop or change.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, above+1, before+cost)
			before = above
		}
	}
	return row[len(b)]
}
