package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// healthyFor is how long a loop counts as healthy after a round that succeeded: some
// tasks take ten seconds and more where very much is due.
const healthyFor = time.Minute

// maxScrapes is how many scrapes run at a time. Each has a connection to the database, and
// whoever reaches the address may ask: the others are told 503.
const maxScrapes = 4

// listen serves /metrics, for Prometheus, and /healthz on an address until stop is
// called, which lets a scrape that is under way end.
func (a *app) listen(address string, m *meter) (stop func(), err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	mux := http.NewServeMux()
	// What there is, without what there is not: the loop's own counters tell why.
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /healthz", m.health)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("maintain: Metrics are no longer served", "error", err)
		}
	}()
	a.log.Info("serving /metrics and /healthz", "address", listener.Addr().String())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}, nil
}

func (m *meter) health(w http.ResponseWriter, _ *http.Request) {
	if time.Since(time.Unix(0, m.good.Load())) > healthyFor {
		http.Error(w, "no round of maintenance succeeded within "+healthyFor.String(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}
