package deploy_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-cdc/lockstep/config"
)

// object is what these tests look at of a Kubernetes object.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				Containers []container
				Volumes    []struct{ Name string }
			}
		}
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
	}
}

type container struct {
	Args         []string
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
	StartupProbe   probe `yaml:"startupProbe"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

func TestManifestsMountWhatTheConfigurationNames(t *testing.T) {
	data, err := os.ReadFile("kubernetes/lockstep.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]object{}
	for part := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var o object
		if err := yaml.Unmarshal(part, &o); err != nil {
			t.Fatal(err)
		}
		objects[o.Kind] = o
	}
	c, err := config.Parse("lockstep.yaml", []byte(objects["ConfigMap"].Data["lockstep.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	spec := objects["StatefulSet"].Spec
	main := spec.Template.Spec.Containers[0]
	var mounts []string
	for _, m := range main.VolumeMounts {
		known := m.Name == spec.VolumeClaimTemplates[0].Metadata.Name
		for _, v := range spec.Template.Spec.Volumes {
			known = known || v.Name == m.Name
		}
		if !known {
			t.Errorf("there is no volume %s", m.Name)
		}
		mounts = append(mounts, m.MountPath)
	}
	files := []string{c.DataDir, main.Args[2]}
	for _, m := range c.Groups[0].Members {
		files = append(files, m.PasswordFile)
	}
	for _, file := range files {
		mounted := false
		for _, m := range mounts {
			mounted = mounted || file == m || strings.HasPrefix(file, m+"/")
		}
		if !mounted {
			t.Errorf("%s is on no volume (%v)", file, mounts)
		}
	}
	for _, p := range []probe{main.StartupProbe, main.LivenessProbe, main.ReadinessProbe} {
		if p.HTTPGet.Path != "/-/healthy" { // what is being read for the first time has to be seen by Prometheus
			t.Errorf("a probe asks %q", p.HTTPGet.Path)
		}
	}
}
