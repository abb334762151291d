package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	kubernetes "sigs.k8s.io/yaml"

	"holdfast/config"
)

const root = "../.."

// object is a part of a YAML document.
type object = map[string]any

// at walks down a path such as "spec.template.spec.containers.0.image"; nil if
// there is nothing.
func at(value any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		switch here := value.(type) {
		case object:
			value = here[part]
		case []any:
			if index := int(part[0] - '0'); index < len(here) {
				value = here[index]
			} else {
				return nil
			}
		default:
			return nil
		}
	}
	return value
}

func manifests(t *testing.T) map[string]object {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "deploy/kubernetes/holdfast.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]object{}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document object
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		kind, _ := document["kind"].(string)
		name, _ := at(document, "metadata.name").(string)
		if out[kind+" "+name] != nil || kind == "" || name == "" {
			t.Errorf("%q %q is there twice, or has no name", kind, name)
		}
		out[kind+" "+name] = document
	}
}

// schema has the API's own type for each kind.
var schema = map[string]func() any{
	"Service":             func() any { return &corev1.Service{} },
	"PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
	"StatefulSet":         func() any { return &appsv1.StatefulSet{} },
}

// TestKubernetesSchema decodes every manifest into the API's own types, which
// must know every field: Kubernetes drops a misspelt one in silence.
func TestKubernetesSchema(t *testing.T) {
	for name, document := range manifests(t) {
		text, err := yaml.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(name, " ")
		if schema[kind] == nil {
			t.Errorf("%s: there is no schema for it here", name)
			continue
		}
		if err := kubernetes.UnmarshalStrict(text, schema[kind]()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong := []byte("spec: {template: {spec: {containers: [{name: a, redinessProbe: {}}]}}}")
	if err := kubernetes.UnmarshalStrict(wrong, schema["StatefulSet"]()); err == nil {
		t.Error("a misspelt field is not noticed")
	}
}

func TestKubernetesManifests(t *testing.T) {
	all := manifests(t)
	for name, version := range map[string]string{"Service holdfast": "v1", "Service holdfast-peers": "v1",
		"PodDisruptionBudget holdfast": "policy/v1", "StatefulSet holdfast": "apps/v1"} {
		if all[name]["apiVersion"] != version {
			t.Errorf("%s: apiVersion %v, want %s", name, all[name]["apiVersion"], version)
		}
	}
	set := all["StatefulSet holdfast"]
	const container = "spec.template.spec.containers.0."
	for path, want := range map[string]any{
		"spec.serviceName":                                     "holdfast-peers",
		"spec.podManagementPolicy":                             "Parallel",
		"spec.template.spec.securityContext.runAsNonRoot":      true,
		container + "securityContext.readOnlyRootFilesystem":   true,
		container + "securityContext.allowPrivilegeEscalation": false,
		container + "securityContext.capabilities.drop.0":      "ALL",
		container + "resources.limits.memory":                  "2Gi",
		"spec.volumeClaimTemplates.0.metadata.name":            "data",
	} {
		if got := at(set, path); got != want {
			t.Errorf("the StatefulSet's %s is %v, want %v", path, got, want)
		}
	}
	for probe, want := range map[string]string{"startupProbe": "alive", "livenessProbe": "alive", "readinessProbe": "ready"} {
		command, _ := at(set, container+probe+".exec.command").([]any)
		if !slices.Equal(command, []any{"cluster-service", "health", want}) {
			t.Errorf("the %s runs %v, and a peer without a leader must be %s by it", probe, command, want)
		}
	}
	if at(all["Service holdfast-peers"], "spec.clusterIP") != "None" || at(all["Service holdfast-peers"], "spec.publishNotReadyAddresses") != true {
		t.Error("the peers' service is not headless, or hides peers that are starting")
	}
	if at(all["PodDisruptionBudget holdfast"], "spec.maxUnavailable") != 1 {
		t.Error("more than one peer may be taken away at once")
	}
	label, _ := at(set, "spec.template.metadata.labels").(object)
	if label["app.kubernetes.io/name"] != "holdfast" {
		t.Errorf("the pods have the labels %v", label)
	}
	for name, path := range map[string]string{"Service holdfast": "spec.selector", "Service holdfast-peers": "spec.selector",
		"PodDisruptionBudget holdfast": "spec.selector.matchLabels", "StatefulSet holdfast": "spec.selector.matchLabels"} {
		if got, ok := at(all[name], path).(object); !ok || len(got) != 1 || got["app.kubernetes.io/name"] != "holdfast" {
			t.Errorf("%s selects %v, and the pods have %v", name, got, label)
		}
	}
}

// TestSettingsExist looks up every variable of the deployments in the programs'
// settings, for a misspelt one would have no effect.
func TestSettingsExist(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), "grep", "-rhoE", `CLUSTER_[A-Z_]+`, filepath.Join(root, "cluster-service"), filepath.Join(root, "cluster-ctl")).Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(help))
	for _, line := range (config.Effective{}).Lines() {
		names = append(names, config.Variable(line.Key), config.Variable(line.Key)+"_FILE")
	}
	for _, path := range []string{"docker-compose.yml", "deploy/kubernetes/holdfast.yaml", "deploy/systemd/holdfast.service"} {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`CLUSTER_[A-Z_]*[A-Z]`).FindAllString(string(data), -1) {
			if !slices.Contains(names, name) {
				t.Errorf("%s sets %s, which nothing reads", path, name)
			}
		}
	}
}

// The image's health check, which is that of docker-compose.yml, waits until the
// peer can take writes.
func TestImageHealthCheck(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `CMD ["cluster-service", "health", "ready"]`; !strings.Contains(string(data), want) {
		t.Errorf("the health check is not %s", want)
	}
}

// TestSystemdUnit lets systemd itself look at the unit.
func TestSystemdUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here")
	}
	unit, err := os.ReadFile(filepath.Join(root, "deploy/systemd/holdfast.service"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(unit), "/usr/local/bin/cluster-service daemon", "/bin/sh") // it wants a program that is there
	text = strings.ReplaceAll(text, "Documentation=man:cluster-service(8)\n", "")
	path := filepath.Join(t.TempDir(), "holdfast.service")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil || strings.Contains(string(out), "holdfast.service:") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"Type=notify", "ProtectSystem=strict", "NoNewPrivileges=yes", "ExecReload=/bin/kill -HUP $MAINPID", "CapabilityBoundingSet=\n", "StateDirectory=holdfast", "WatchdogSec="} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
}
