package awa

import (
	"encoding/json"
	"testing"
	"time"
)

func TestCallLeavesOutWhatIsZero(t *testing.T) {
	b := New().value("f").text("a", "").integer("b", 0).interval("c", 0).timestamp("d", time.Time{}).
		texts("e", nil).document("g", nil)
	if got := b.build(); got != "select awa.f()" || len(b.args) != 0 {
		t.Errorf("%s %v", got, b.args)
	}
}

func TestCallNumbersPlaceholders(t *testing.T) {
	b := WithSchema(`o"dd`).columns("f.x", "g").text("a", "1").receipt(Receipt{1, 2, 3, 4}).integer("b", 5)
	want := `select f.x from "o""dd".g(a => $1::text, receipt => row($2::smallint,$3::bigint,$4::bigint,$5::bigint)::"o""dd".receipt, b => $6::integer) as f`
	if got := b.build(); got != want || len(b.args) != 6 {
		t.Errorf("%s %v", got, b.args)
	}
}

func TestClientIsAValue(t *testing.T) {
	if New() != WithSchema("awa") || New() != (Client{}) || New() == WithSchema("other") {
		t.Error("clients of one schema differ")
	}
}

func TestSchemaIsTheNameGiven(t *testing.T) {
	for _, name := range []string{"awa", "other", `o"d d""`} {
		if got := WithSchema(name).Schema(); got != name {
			t.Errorf("%s, want %s", got, name)
		}
	}
}

func TestReceiptArray(t *testing.T) {
	for want, receipts := range map[string][]Receipt{
		`{}`:                                  nil,
		`{"(1,2,3,4)"}`:                       {{1, 2, 3, 4}},
		`{"(-1,-2,-3,-4)","(0,1048576,0,0)"}`: {{-1, -2, -3, -4}, {0, 1 << 20, 0, 0}},
	} {
		if got := receiptArray(receipts); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestStateMask(t *testing.T) {
	for want, states := range map[string][]JobState{
		"00000000": {"unknown"},
		"11000000": {StateScheduled, StateAvailable},
		"00000001": {StateWaitingExternal},
		"00101000": {StateRetryable, StateRunning, StateRunning},
	} {
		if got := InStates(states...).String(); got != want {
			t.Errorf("%v: %s, want %s", states, got, want)
		}
	}
}

func TestJobAsJSON(t *testing.T) {
	got, err := json.Marshal(EnqueueParams{
		Kind: "k", Args: []byte("[1]"), UniqueKey: []byte{1, 0xff}, UniqueStates: InStates(StateAvailable),
		RunAt: time.Unix(0, 0).UTC(), Deadline: time.Minute,
	})
	want := `{"kind":"k","args":[1],"run_at":"1970-01-01T00:00:00Z","unique_key":"\\x01ff","unique_states":"01000000","deadline":"60000000 microseconds"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}
