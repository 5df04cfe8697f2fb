package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
)

// The API's own schemas: one OpenAPI 3 document for each group and version.
type schemas struct {
	folder string
	known  map[string]*spec.Schema
}

// What the validator of the API server says of an object.
func (s schemas) validate(object *unstructured.Unstructured) ([]string, error) {
	schema, err := s.of(object)
	if err != nil {
		return nil, err
	}
	result := validate.NewSchemaValidator(schema, nil, object.GetKind(), strfmt.Default).Validate(object.Object)
	problems := []string{}
	for _, err := range result.Errors {
		problems = append(problems, err.Error())
	}
	return problems, nil
}

func (s schemas) of(object *unstructured.Unstructured) (*spec.Schema, error) {
	kind := object.GroupVersionKind()
	if schema, found := s.known[kind.String()]; found {
		return schema, nil
	}
	path := filepath.Join(s.folder, "apis", kind.Group, kind.Version+".json")
	if kind.Group == "" {
		path = filepath.Join(s.folder, "api", kind.Version+".json")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var document struct {
		Components struct {
			Schemas map[string]map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	for _, schema := range document.Components.Schemas {
		kinds, _ := schema["x-kubernetes-group-version-kind"].([]any)
		for _, each := range kinds {
			is, _ := each.(map[string]any)
			if is["group"] != kind.Group || is["version"] != kind.Version || is["kind"] != kind.Kind {
				continue
			}
			whole, err := json.Marshal(closed(schema, document.Components.Schemas))
			if err != nil {
				return nil, err
			}
			found := &spec.Schema{}
			if err := json.Unmarshal(whole, found); err != nil {
				return nil, err
			}
			s.known[kind.String()] = found
			return found, nil
		}
	}
	return nil, fmt.Errorf("there is no schema of %s", kind)
}

// A schema with what it refers to put in its place, and closed against fields that it does not name, as a strict API
// server reads objects. No schema of the kinds that we make refers to itself.
func closed(schema map[string]any, all map[string]map[string]any) map[string]any {
	result := map[string]any{}
	for key, value := range schema {
		result[key] = value
	}
	if name, found := result["$ref"].(string); found {
		return closed(all[strings.TrimPrefix(name, "#/components/schemas/")], all)
	}
	// Documents of the API use it for one thing only: to give a reference a description and a default.
	if parts, found := result["allOf"].([]any); found && len(parts) == 1 {
		delete(result, "allOf")
		for key, value := range closed(parts[0].(map[string]any), all) {
			result[key] = value
		}
		return result
	}
	// Which types it can be, oneOf says beside it; this format the validator takes for a type of its own.
	if result["format"] == "int-or-string" {
		delete(result, "format")
	}
	if items, found := result["items"].(map[string]any); found {
		result["items"] = closed(items, all)
	}
	if more, found := result["additionalProperties"].(map[string]any); found {
		result["additionalProperties"] = closed(more, all)
	}
	if properties, found := result["properties"].(map[string]any); found {
		each := map[string]any{}
		for name, property := range properties {
			each[name] = closed(property.(map[string]any), all)
		}
		result["properties"] = each
		if _, open := result["additionalProperties"]; !open {
			result["additionalProperties"] = false
		}
	}
	return result
}
