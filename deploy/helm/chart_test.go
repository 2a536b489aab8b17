// Package helm_test renders the chart as Helm does, and holds it against the plain manifests and the types of Kubernetes. It is a module
// of its own, so that lockstep's does not have Helm's.
package helm_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

type object = map[string]any

// render makes what `helm template NAME` does in the namespace monitoring, by kind.
func render(name, values string) (map[string][]byte, error) {
	chart, err := loader.Load("lockstep")
	if err != nil {
		return nil, err
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	all, err := chartutil.ToRenderValues(chart, given, chartutil.ReleaseOptions{Name: name, Namespace: "monitoring", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	kinds := map[string][]byte{}
	for file, text := range files {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var o struct{ Kind string }
		if err := yaml.UnmarshalStrict([]byte(text), &object{}); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", file, err, text)
		}
		if err := yaml.Unmarshal([]byte(text), &o); err != nil || kinds[o.Kind] != nil {
			return nil, fmt.Errorf("%s: a second %q (%v)", file, o.Kind, err)
		}
		kinds[o.Kind] = []byte(text)
	}
	return kinds, nil
}

func mustRender(t *testing.T, name, values string) map[string][]byte {
	t.Helper()
	kinds, err := render(name, values)
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// parse reads YAML without what the chart adds to each object, and with the configuration as what it says.
func parse(t *testing.T, text []byte) object {
	t.Helper()
	var o object
	if err := yaml.UnmarshalStrict(text, &o); err != nil {
		t.Fatal(err)
	}
	strip(o)
	if data, ok := o["data"].(object); ok {
		var config object
		if err := yaml.UnmarshalStrict([]byte(data["lockstep.yaml"].(string)), &config); err != nil {
			t.Fatal(err)
		}
		data["lockstep.yaml"] = config
	}
	return o
}

func strip(v any) {
	switch v := v.(type) {
	case object:
		for _, key := range []string{"app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/config"} {
			delete(v, key)
		}
		for key, inside := range v {
			if strip(inside); key == "annotations" && len(inside.(object)) == 0 {
				delete(v, key)
			}
		}
	case []any:
		for _, inside := range v {
			strip(inside)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheDefaultsAreThePlainManifests(t *testing.T) {
	got, want := map[string]object{}, map[string]object{}
	for kind, text := range mustRender(t, "lockstep", "serviceMonitor: {enabled: true}") {
		got[kind] = parse(t, text)
	}
	parts := bytes.Split(read(t, "../kubernetes/lockstep.yaml"), []byte("\n---\n"))
	for _, part := range append(parts, read(t, "../kubernetes/servicemonitor.yaml")) {
		o := parse(t, part)
		want[o["kind"].(string)] = o
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-plain +chart\n%s", diff)
	}
}

// all is a release with everything that can be asked for.
const all = `
image: {repository: registry.example/lockstep, tag: "1.2", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
config: {web: {allowed_hosts: [lockstep.example, eu-lockstep]}, alerts: null}
existingSecret: passwords
extraArgs: [--web.config.file, /run/secrets/lockstep/web.yaml]
scheme: HTTPS
persistence: {size: 100Gi, storageClassName: fast}
networkPolicy: {namespaces: [monitoring, grafana]}
podDisruptionBudget: {maxUnavailable: 0}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}, runbooks: "https://git.example/lockstep/"}
podAnnotations: {example.org/team: databases}
nodeSelector: {kubernetes.io/arch: arm64}
tolerations: [{key: databases, operator: Exists, effect: NoSchedule}]
affinity: {nodeAffinity: {}}
`

// objects are those of Kubernetes' own kinds, read by its types: there is no field that they do not have.
type objects struct {
	ConfigMap           corev1.ConfigMap
	StatefulSet         appsv1.StatefulSet
	Service             corev1.Service
	NetworkPolicy       networkingv1.NetworkPolicy
	PodDisruptionBudget policyv1.PodDisruptionBudget
}

func typed(t *testing.T, kinds map[string][]byte) (o objects) {
	t.Helper()
	into := map[string]any{"ConfigMap": &o.ConfigMap, "StatefulSet": &o.StatefulSet, "Service": &o.Service, "NetworkPolicy": &o.NetworkPolicy, "PodDisruptionBudget": &o.PodDisruptionBudget}
	versions := map[string]string{"ConfigMap": "v1", "StatefulSet": "apps/v1", "Service": "v1", "NetworkPolicy": "networking.k8s.io/v1", "PodDisruptionBudget": "policy/v1"}
	for kind, v := range into {
		if err := yaml.UnmarshalStrict(kinds[kind], v); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if !bytes.Contains(kinds[kind], []byte("apiVersion: "+versions[kind]+"\n")) {
			t.Errorf("%s is not of %s", kind, versions[kind])
		}
	}
	return o
}

func TestObjectsFitTogether(t *testing.T) {
	for _, c := range []struct{ name, values string }{{"lockstep", ""}, {"eu-lockstep", all}, {"x", "fullnameOverride: eu-lockstep\n"}} {
		o := typed(t, mustRender(t, c.name, c.values))
		pod := o.StatefulSet.Spec.Template
		for what, selector := range map[string]map[string]string{
			"StatefulSet": o.StatefulSet.Spec.Selector.MatchLabels, "Service": o.Service.Spec.Selector,
			"NetworkPolicy": o.NetworkPolicy.Spec.PodSelector.MatchLabels, "PodDisruptionBudget": o.PodDisruptionBudget.Spec.Selector.MatchLabels,
		} {
			for key, value := range selector {
				if pod.Labels[key] != value {
					t.Errorf("%s: %s selects %s=%s, the pod has %v", c.name, what, key, value, pod.Labels)
				}
			}
			if selector["app.kubernetes.io/instance"] != c.name {
				t.Errorf("%s: %s selects pods of other releases by %v", c.name, what, selector)
			}
		}
		if o.StatefulSet.Spec.ServiceName != o.Service.Name || o.Service.Spec.ClusterIP != corev1.ClusterIPNone || *o.StatefulSet.Spec.Replicas != 1 {
			t.Errorf("%s: the Service of the StatefulSet is %q, that of the chart %+v", c.name, o.StatefulSet.Spec.ServiceName, o.Service)
		}
		main := pod.Spec.Containers[0]
		port := main.Ports[0]
		if o.Service.Spec.Ports[0].TargetPort.String() != port.Name || o.NetworkPolicy.Spec.Ingress[0].Ports[0].Port.String() != port.Name || !strings.HasSuffix(config(t, o)["listen"].(string), fmt.Sprint(":", port.ContainerPort)) {
			t.Errorf("%s: ports are %+v, %+v, %+v", c.name, o.Service.Spec.Ports, o.NetworkPolicy.Spec.Ingress, main.Ports)
		}
		for _, probe := range []*corev1.Probe{main.StartupProbe, main.LivenessProbe, main.ReadinessProbe} {
			if get := probe.HTTPGet; get.Path != "/-/healthy" || get.Port.String() != port.Name || (get.Scheme == corev1.URISchemeHTTPS) != (c.values == all) {
				t.Errorf("%s: a probe asks %+v", c.name, get)
			}
		}
		volumes := map[string]bool{o.StatefulSet.Spec.VolumeClaimTemplates[0].Name: true}
		for _, v := range pod.Spec.Volumes {
			volumes[v.Name] = true
			if v.ConfigMap != nil && v.ConfigMap.Name != o.ConfigMap.Name {
				t.Errorf("%s: the pod mounts the ConfigMap %s", c.name, v.ConfigMap.Name)
			}
		}
		for _, m := range main.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: there is no volume %s", c.name, m.Name)
			}
		}
		hosts := config(t, o)["web"].(object)["allowed_hosts"].([]any)
		if hosts[0] != o.Service.Name || hosts[1] != o.Service.Name+".monitoring.svc" || (c.values == all) != slices.Contains(hosts, any("lockstep.example")) || len(hosts) > 3 {
			t.Errorf("%s: lockstep is known as %v", c.name, hosts)
		}
	}
}

func config(t *testing.T, o objects) (c object) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(o.ConfigMap.Data["lockstep.yaml"]), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsAskedForIsMade(t *testing.T) {
	kinds := mustRender(t, "eu-lockstep", all)
	o := typed(t, kinds)
	pod := o.StatefulSet.Spec.Template
	main := pod.Spec.Containers[0]
	if main.Image != "registry.example/lockstep:1.2" || main.ImagePullPolicy != corev1.PullAlways || pod.Spec.ImagePullSecrets[0].Name != "registry" {
		t.Errorf("the image is %s %s %v", main.Image, main.ImagePullPolicy, pod.Spec.ImagePullSecrets)
	}
	if !slices.Equal(main.Args[len(main.Args)-2:], []string{"--web.config.file", "/run/secrets/lockstep/web.yaml"}) {
		t.Errorf("it is started with %v", main.Args)
	}
	if pod.Annotations["example.org/team"] != "databases" || pod.Spec.NodeSelector["kubernetes.io/arch"] != "arm64" || pod.Spec.Tolerations[0].Key != "databases" || pod.Spec.Affinity.NodeAffinity == nil {
		t.Errorf("the pod is %+v", pod)
	}
	claim := o.StatefulSet.Spec.VolumeClaimTemplates[0].Spec
	if *claim.StorageClassName != "fast" || claim.Resources.Requests.Storage().String() != "100Gi" || pod.Spec.Volumes[1].Secret.SecretName != "passwords" {
		t.Errorf("volumes are %+v, %+v", claim, pod.Spec.Volumes)
	}
	if n := len(o.NetworkPolicy.Spec.Ingress[0].From); n != 2 || o.PodDisruptionBudget.Spec.MaxUnavailable.IntValue() != 0 {
		t.Errorf("%d namespaces may ask, and %v", n, o.PodDisruptionBudget.Spec.MaxUnavailable)
	}
	if _, has := config(t, o)["alerts"]; has {
		t.Errorf("alerts that were taken out are configured: %s", o.ConfigMap.Data)
	}
	var monitor struct {
		Metadata struct{ Labels map[string]string }
		Spec     struct {
			Endpoints []struct{ Port, Scheme string }
		}
	}
	if err := yaml.Unmarshal(kinds["ServiceMonitor"], &monitor); err != nil || monitor.Metadata.Labels["release"] != "prometheus" || monitor.Spec.Endpoints[0].Scheme != "https" {
		t.Errorf("%+v, %v", monitor, err)
	}
	bare := mustRender(t, "lockstep", "networkPolicy: {enabled: false}\npodDisruptionBudget: {enabled: false}")
	if got := slices.Sorted(maps.Keys(bare)); !slices.Equal(got, []string{"ConfigMap", "Service", "StatefulSet"}) {
		t.Errorf("of the least there are %v", got)
	}
}

// A pod that reads another configuration is another pod.
func TestAChangedConfigurationIsRolledOut(t *testing.T) {
	sums := map[string]bool{}
	for _, values := range []string{"", "config: {lag_budget: 60s}", "image: {tag: \"2\"}"} {
		sums[typed(t, mustRender(t, "lockstep", values)).StatefulSet.Spec.Template.Annotations["checksum/config"]] = true
	}
	if len(sums) != 2 {
		t.Errorf("two configurations have the sums %v", sums)
	}
}

func TestRulesAreThoseThatAreTested(t *testing.T) {
	var want, plain, linked struct {
		Spec struct{ Groups []any } `json:"spec"`
	}
	text := read(t, "../prometheus/lockstep.rules.yaml")
	if err := yaml.Unmarshal(text, &want.Spec); err != nil || len(want.Spec.Groups) == 0 {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(mustRender(t, "lockstep", "prometheusRule: {enabled: true}")["PrometheusRule"], &plain); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, plain); diff != "" {
		t.Error(diff)
	}
	made := mustRender(t, "eu-lockstep", all)["PrometheusRule"]
	if err := yaml.Unmarshal(made, &linked); err != nil || len(linked.Spec.Groups) != len(want.Spec.Groups) {
		t.Errorf("%d groups, %v", len(linked.Spec.Groups), err)
	}
	if n := bytes.Count(made, []byte("runbook_url: https://git.example/lockstep/docs/runbooks/")); n == 0 || n != bytes.Count(text, []byte("runbook_url:")) {
		t.Errorf("%d runbooks are linked", n)
	}
}

func TestValuesThatCannotBeMeantAreRefused(t *testing.T) {
	for values, says := range map[string]string{
		"replicas: 2":                                      "replicas",
		"image: {tga: x}":                                  "tga",
		"config: {data_dir: /data}":                        "data_dir",
		"config: {listen: 0.0.0.0:80}":                     "listen",
		"config: {groups: []}":                             "groups",
		"existingSecret: \"\"":                             "existingSecret",
		"scheme: https":                                    "scheme",
		"memoryLimit: 2GB of it":                           "memoryLimit",
		"networkPolicy: {namespaces: []}":                  "namespaces",
		"networkPolicy: {enabled: \"no\"}":                 "enabled",
		"serviceMonitor: {interval: 5}":                    "interval",
		"prometheusRule: {runbook: \"https://x.example\"}": "runbook",
		"podAnnotations: {a: 1}":                           "podAnnotations",
		"fullnameOverride: " + strings.Repeat("long-", 20): "fullnameOverride",
	} {
		if _, err := render("lockstep", values); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", values, err)
		}
	}
}
