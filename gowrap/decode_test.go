package awa

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// An array that splitArray reads is what pgx makes of it, and the others are left to pgx.
func TestArraysAreReadAsPgxDoes(t *testing.T) {
	types := pgtype.NewMap()
	for _, tt := range []struct {
		text string
		here bool
	}{
		{`{a}`, true},
		{`{a,b c,"d,e"}`, true},
		{`{"say \"x\" and \\ and \\\""}`, true},
		{`{"","{}","null","NULL"}`, true},
		{`{"{\"at\": \"2026-01-01T00:00:00+00:00\", \"error\": \"line\\nline\", \"attempt\": 1}",1,true}`, true},
		{`{ünï,"日本,語"}`, true},
		{`{a,NULL,b}`, false},
		{`{null}`, false},
		{`{{a,b},{c,d}}`, false},
		{`[0:1]={a,b}`, false},
	} {
		elements, here := splitArray([]byte(tt.text))
		if here != tt.here {
			t.Errorf("%s: read here %v", tt.text, here)
		}
		var want []string
		if err := types.Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(tt.text), &want); here && err != nil {
			t.Errorf("%s: %v", tt.text, err)
		}
		if here && !slices.EqualFunc(elements, want, func(e []byte, w string) bool { return string(e) == w }) {
			t.Errorf("%s: %q, want %q", tt.text, elements, want)
		}
	}
	for _, torn := range []string{``, `{`, `{}`, `{"a}`, `{"a\`, `{"a\}`, `{a,}`, `{,a}`} {
		if elements, ok := splitArray([]byte(torn)); ok {
			t.Errorf("%s: %q", torn, elements)
		}
	}
}

// What a claim returns outlives the buffer that it was read from.
func TestArraysAreCopied(t *testing.T) {
	text := []byte(`{"[1]",2}`)
	d := jobDecoder{
		fields: []pgconn.FieldDescription{{DataTypeOID: pgtype.JSONBArrayOID, Format: pgtype.TextFormatCode}},
		values: [][]byte{text},
	}
	var docs []json.RawMessage
	array(&d, 0, &docs)
	copy(text, strings.Repeat("x", len(text)))
	docs[0] = append(docs[0], 'y')
	if got := fmt.Sprintf("%s", docs); got != "[[1]y 2]" || d.err != nil {
		t.Error(got, d.err)
	}
}

func BenchmarkArray(b *testing.B) {
	d := jobDecoder{
		fields: []pgconn.FieldDescription{{DataTypeOID: pgtype.JSONBArrayOID, Format: pgtype.TextFormatCode}},
		values: [][]byte{[]byte(`{"{\"at\": \"2026-01-01T00:00:00+00:00\", \"error\": \"connection refused\", \"attempt\": 1}"}`)},
	}
	for b.Loop() {
		var docs []json.RawMessage
		array(&d, 0, &docs)
		if len(docs) != 1 || !bytes.HasPrefix(docs[0], []byte(`{"at"`)) {
			b.Fatal(docs)
		}
	}
}
