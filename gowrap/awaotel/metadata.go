package awaotel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	awa "github.com/awaqueue/awa/gowrap"
)

// Inject adds the trace context of ctx to the metadata of a job that is about to
// be enqueued. Fields of the metadata that are there already stay, but for those
// of the propagator. Without a span in ctx nothing changes.
//
// Errors: metadata that is no JSON object.
func (t *Telemetry) Inject(ctx context.Context, p *awa.EnqueueParams) error {
	return t.inject(ctx, &p.Metadata)
}

// InjectMany is Inject for jobs that are enqueued together.
func (t *Telemetry) InjectMany(ctx context.Context, p *awa.EnqueueManyParams) error {
	return t.inject(ctx, &p.Metadata)
}

func (t *Telemetry) inject(ctx context.Context, metadata *any) error {
	carrier := fields{}
	t.propagator.Inject(ctx, carrier)
	if len(carrier) == 0 {
		return nil
	}
	object, err := objectOf(*metadata)
	if err != nil {
		return fmt.Errorf("awaotel: metadata: %w", err)
	}
	for name, value := range carrier {
		doc, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("awaotel: metadata: %w", err)
		}
		object[name] = doc
	}
	*metadata = object
	return nil
}

// objectOf reads metadata in any of the forms that EnqueueParams allows.
func objectOf(metadata any) (map[string]json.RawMessage, error) {
	var doc []byte
	switch m := metadata.(type) {
	case nil:
		return map[string]json.RawMessage{}, nil
	case json.RawMessage:
		doc = m
	case []byte:
		doc = m
	default:
		var err error
		if doc, err = json.Marshal(m); err != nil {
			return nil, err
		}
	}
	if len(bytes.TrimSpace(doc)) == 0 {
		return map[string]json.RawMessage{}, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(doc, &object); err != nil {
		return nil, err
	}
	if object == nil { // null
		object = map[string]json.RawMessage{}
	}
	return object, nil
}

// Extract returns ctx with the trace context that a job carries, as that of a
// remote parent. Without any, ctx comes back as it is. Middleware calls it; it is
// here for programs with a loop of their own.
func (t *Telemetry) Extract(ctx context.Context, job *awa.Job) context.Context {
	if len(job.Metadata) <= len(`{}`) {
		return ctx
	}
	// Metadata belongs to the application: what is no string is not ours.
	var object map[string]any
	if json.Unmarshal(job.Metadata, &object) != nil {
		return ctx
	}
	carrier := fields{}
	for name, value := range object {
		if s, ok := value.(string); ok {
			carrier.Set(name, s)
		}
	}
	return t.propagator.Extract(ctx, carrier)
}

// fields carries what a propagator writes. Names are in lower case, as W3C writes
// them, whatever the propagator does.
type fields map[string]string

func (f fields) Get(name string) string { return f[strings.ToLower(name)] }
func (f fields) Set(name, value string) { f[strings.ToLower(name)] = value }
func (f fields) Keys() []string {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	return names
}
