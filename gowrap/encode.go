package awa

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// document turns what a caller passed as args or metadata into JSON. A
// json.RawMessage and a []byte are taken as JSON already; nil stays nil, which
// leaves the default to the server.
func document(field string, v any) (json.RawMessage, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return v, nil
	case []byte:
		return v, nil
	}
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return doc, nil
}

// required is document for an argument without a default: nil is a JSON null, which
// the server refuses by name.
func required(field string, v any) (json.RawMessage, error) {
	doc, err := document(field, v)
	if doc == nil {
		doc = json.RawMessage("null")
	}
	return doc, err
}

// encodable refuses texts that json.Marshal would change without a word: two keys
// might become one.
func encodable(tags []string, texts ...string) error {
	for _, list := range [][]string{texts, tags} {
		for _, text := range list {
			if !utf8.ValidString(text) {
				return fmt.Errorf("%q is not valid UTF-8", text)
			}
		}
	}
	return nil
}

// jobDocument is a job as the server reads it from JSON.
type jobDocument struct {
	Kind           string          `json:"kind"`
	Args           json.RawMessage `json:"args,omitzero"`
	Queue          string          `json:"queue,omitempty"`
	Priority       int             `json:"priority,omitempty"`
	RunAt          *time.Time      `json:"run_at,omitempty"`
	Delay          string          `json:"delay,omitempty"`
	MaxAttempts    int             `json:"max_attempts,omitempty"`
	Tags           []string        `json:"tags,omitempty"`
	Metadata       json.RawMessage `json:"metadata,omitzero"`
	UniqueKey      string          `json:"unique_key,omitempty"`
	UniqueStates   string          `json:"unique_states,omitempty"`
	OrderingKey    string          `json:"ordering_key,omitempty"`
	Deadline       string          `json:"deadline,omitempty"`
	ConcurrencyKey string          `json:"concurrency_key,omitempty"`
	After          []int64         `json:"after,omitempty"`
	FollowUps      *FollowUps      `json:"follow_ups,omitempty"`
}

// marshal completes the job and writes it.
func (d jobDocument) marshal(args, metadata any) (doc []byte, err error) {
	if err = encodable(d.Tags, d.Kind, d.Queue, d.OrderingKey, d.ConcurrencyKey); err != nil {
		return nil, err
	}
	if d.Args, err = document("args", args); err != nil {
		return nil, err
	}
	if d.Metadata, err = document("metadata", metadata); err != nil {
		return nil, err
	}
	return json.Marshal(d)
}

// microseconds writes a duration as PostgreSQL reads an interval; zero is empty.
func microseconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%d microseconds", signed(d).Microseconds())
}

// ArgsOf encodes items as the arguments of one job each, for
// EnqueueManyParams.Args.
//
// Errors: ErrInvalidArgument for an item that json.Marshal refuses.
func ArgsOf[T any](items []T) ([]json.RawMessage, error) {
	docs := make([]json.RawMessage, len(items))
	for i, item := range items {
		doc, err := json.Marshal(item)
		if err != nil {
			return nil, refuse("args of", fmt.Errorf("item %d: %w", i, err))
		}
		docs[i] = doc
	}
	return docs, nil
}
