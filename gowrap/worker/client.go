package worker

import (
	"context"
	"errors"
	"time"
)

// Client works on queues. Its methods are safe for concurrent use. It runs once:
// for another run make another client.
type Client struct {
	cfg Config
	mux *Mux
}

// batch is what one claim returned.
type batch struct{}

// New returns a client that hands jobs to mux. It connects to nothing yet.
// Errors say what is wrong with the config.
func New(cfg Config, mux *Mux) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if mux == nil {
		return nil, errors.New("worker: mux is nil")
	}
	return &Client{cfg: cfg, mux: mux}, nil
}

// Run starts the client and works until ctx is done or Stop is called, then
// stops: it claims no more, lets handlers finish for up to SoftStopTimeout,
// cancels the contexts of the others, and gives unfinished attempts back, not
// counted.
func (c *Client) Run(ctx context.Context) error { return errors.New("worker: not implemented") }

// Start is Run in the background. When ctx is done the client stops as by Stop.
func (c *Client) Start(ctx context.Context) error { return errors.New("worker: not implemented") }

// Stop asks the client to stop and waits until it has, or ctx is done; then
// handlers' contexts are cancelled without further delay.
func (c *Client) Stop(ctx context.Context) error { return errors.New("worker: not implemented") }

// Stopped is closed when the client has stopped.
func (c *Client) Stopped() <-chan struct{} { return nil }

var _ = time.Second
