// Judges Kubernetes manifests: by the API's schemas, and by the Pod Security admission's own rules. Each argument is a
// file of YAML documents, or a folder that Kustomize builds; the first one is the folder of the API's OpenAPI documents.
// Prints one JSON document.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	k8syaml "sigs.k8s.io/yaml"
)

type verdict struct {
	Path      string     `json:"path"`
	Problem   string     `json:"problem,omitempty"`
	Documents []document `json:"documents"`
}

type document struct {
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Problems []string `json:"problems"`
	Baseline []string `json:"baseline"`
	// What is forbidden by restricted: its own rules, and those of baseline.
	Restricted []string       `json:"restricted"`
	Object     map[string]any `json:"object"`
}

func main() {
	check := schemas{folder: os.Args[1], known: map[string]*spec.Schema{}}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		fail(err)
	}
	verdicts := []verdict{}
	for _, path := range os.Args[2:] {
		documents, err := judge(path, check, evaluator)
		said := verdict{Path: path, Documents: documents}
		if err != nil {
			said.Problem = err.Error()
		}
		verdicts = append(verdicts, said)
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func judge(path string, check schemas, evaluator policy.Evaluator) ([]document, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	documents := []document{}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		one, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(one)) == 0 {
			continue
		}
		said := document{Problems: []string{}, Baseline: []string{}, Restricted: []string{}}
		object := &unstructured.Unstructured{}
		if err := k8syaml.UnmarshalStrict(one, &object.Object); err != nil {
			return nil, err
		}
		problems, err := check.validate(object)
		if err != nil {
			return nil, err
		}
		said.Problems = append(said.Problems, problems...)
		said.Kind, said.Name, said.Object = object.GetKind(), object.GetName(), object.Object
		pod, err := podOf(object)
		if err != nil {
			said.Problems = append(said.Problems, err.Error())
		}
		if pod != nil {
			said.Baseline = violations(evaluator, api.LevelBaseline, pod)
			said.Restricted = violations(evaluator, api.LevelRestricted, pod)
		}
		documents = append(documents, said)
	}
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return os.ReadFile(path)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		return nil, err
	}
	return built.AsYaml()
}

// The pod that an object makes, read as strictly as the API server does when asked to.
func podOf(object *unstructured.Unstructured) (*corev1.PodTemplateSpec, error) {
	strict := func(into any) error {
		return runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, into, true)
	}
	switch object.GetKind() {
	case "DaemonSet":
		var set appsv1.DaemonSet
		err := strict(&set)
		return &set.Spec.Template, err
	case "Job":
		var job batchv1.Job
		err := strict(&job)
		return &job.Spec.Template, err
	case "Pod", "Deployment", "StatefulSet", "ReplicaSet", "CronJob":
		return nil, fmt.Errorf("%s: no such pods are judged here", object.GetKind())
	}
	return nil, nil
}

func violations(evaluator policy.Evaluator, level api.Level, pod *corev1.PodTemplateSpec) []string {
	said := []string{}
	metadata := metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}
	for _, result := range evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &metadata, &pod.Spec) {
		if !result.Allowed {
			said = append(said, strings.TrimSpace(result.ForbiddenReason+": "+result.ForbiddenDetail))
		}
	}
	return said
}
