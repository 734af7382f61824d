package cli

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A loop is healthy for a minute after each round that succeeded, and not before one has.
func TestHealth(t *testing.T) {
	m := (&app{}).newMeter()
	for _, c := range []struct {
		good time.Time
		want int
	}{
		{time.Unix(0, 0), http.StatusServiceUnavailable},
		{time.Now().Add(-healthyFor / 2), http.StatusOK},
		{time.Now().Add(-healthyFor - time.Second), http.StatusServiceUnavailable},
	} {
		m.good.Store(c.good.UnixNano())
		w := httptest.NewRecorder()
		m.health(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		if w.Code != c.want {
			t.Errorf("last good round %s: %d, want %d", c.good, w.Code, c.want)
		}
	}
}
