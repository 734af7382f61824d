package examples_test

import (
	"strings"
	"testing"
)

func TestOutbox(t *testing.T) {
	db := open(t)
	out := run(t, db.env, build(t, "outbox"))
	requireLines(t, out, "2 anvils: order 1", "to ship: 1")
	if !strings.Contains(out, "0 anvils: ERROR") {
		t.Error(out)
	}
	var order int
	err := db.QueryRow(t.Context(), `
		select o.id from outbox_orders as o
		join awa.jobs as j on j.kind = 'ship' and j.args = jsonb_build_object('order', o.id)`).Scan(&order)
	if err != nil || order != 1 {
		t.Errorf("order %d, %v", order, err)
	}
	requireHealthy(t, db)
}
