package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// proxy is a bad network between a client and the server.
type proxy struct {
	listener net.Listener
	network  string
	address  string

	accepted atomic.Int64
	delay    atomic.Int64 // of each packet, in nanoseconds
	refusing atomic.Bool  // new connections are closed at once
	silent   atomic.Bool  // new connections get no answer

	mu    sync.Mutex // guards what follows
	links map[*link]struct{}
	spy   func(sent []byte) fate // what is to become of a link that sent this
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	frozen         atomic.Bool            // packets vanish, and neither end is told
	answer         atomic.Pointer[[]byte] // what the client gets instead of the server's answer, its last
	held           atomic.Pointer[<-chan struct{}]
}

// fate is what becomes of a link.
type fate struct {
	cut    bool            // it breaks, before the server gets to know
	answer []byte          // the server gets to know, the client gets this, and the link ends
	held   <-chan struct{} // the server gets to know, and its answer waits until this is closed
}

// through is a proxy before the server of url, and the url by which to go through it.
func through(t *testing.T, database string) (*proxy, string) {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	c := cfg.ConnConfig
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, network: "tcp", address: net.JoinHostPort(c.Host, fmt.Sprint(c.Port)), links: map[*link]struct{}{}}
	if filepath.IsAbs(c.Host) {
		p.network, p.address = "unix", filepath.Join(c.Host, fmt.Sprintf(".s.PGSQL.%d", c.Port))
	}
	var all sync.WaitGroup
	all.Go(func() { p.accept(&all) })
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		all.Wait()
	})
	u := url.URL{Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Host: l.Addr().String(), Path: "/" + c.Database,
		RawQuery: "sslmode=disable&connect_timeout=1"}
	return p, u.String()
}

func (p *proxy) accept(all *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		if p.refusing.Load() {
			_ = client.Close()
			continue
		}
		server, err := net.Dial(p.network, p.address)
		if err != nil {
			_ = client.Close()
			continue
		}
		k := &link{client: client, server: server}
		k.frozen.Store(p.silent.Load())
		p.mu.Lock()
		p.links[k] = struct{}{}
		p.mu.Unlock()
		all.Go(func() { p.carry(k, client, server, true) })
		all.Go(func() { p.carry(k, server, client, false) })
	}
}

// carry carries one direction of a link.
func (p *proxy) carry(k *link, from, to net.Conn, up bool) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		switch {
		case err != nil && k.frozen.Load():
			// The end vanishes like all else. Both ends are closed by a cut.
			if up {
				_ = from.Close()
			}
			return
		case err != nil:
			p.end(k)
			return
		case k.frozen.Load():
			continue
		}
		time.Sleep(time.Duration(p.delay.Load()))
		if up {
			if f := p.watch(buffer[:n]); f.cut {
				p.end(k)
				return
			} else if f.answer != nil {
				k.answer.Store(&f.answer)
			} else if f.held != nil {
				k.held.Store(&f.held)
			}
		} else if held := k.held.Load(); held != nil {
			<-*held
		} else if answer := k.answer.Load(); answer != nil {
			_, _ = to.Write(*answer)
			p.end(k)
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			p.end(k)
			return
		}
	}
}

func (p *proxy) watch(sent []byte) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spy == nil {
		return fate{}
	}
	return p.spy(sent)
}

// on has the proxy look at what clients send, until f has decided a fate so often.
func (p *proxy) on(text string, times int, f fate) (decided *atomic.Int64) {
	decided = new(atomic.Int64)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spy = func(sent []byte) fate {
		if !bytes.Contains(sent, []byte(text)) || decided.Load() >= int64(times) {
			return fate{}
		}
		decided.Add(1)
		return f
	}
	return decided
}

func (p *proxy) end(k *link) {
	p.mu.Lock()
	delete(p.links, k)
	p.mu.Unlock()
	_ = k.client.Close()
	_ = k.server.Close()
}

func (p *proxy) all() (all []*link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		all = append(all, k)
	}
	return all
}

// cut breaks every link; both ends are told.
func (p *proxy) cut() {
	for _, k := range p.all() {
		p.end(k)
	}
}

// freeze lets every link that there is vanish; new ones work.
func (p *proxy) freeze() {
	for _, k := range p.all() {
		k.frozen.Store(true)
	}
}

// halfClose ends what the client hears, not what it says.
func (p *proxy) halfClose() {
	for _, k := range p.all() {
		k.frozen.Store(true)
		if c, ok := k.client.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
	}
}

// blackout is a network on which nothing passes, until it is ended.
func (p *proxy) blackout() (end func()) {
	p.silent.Store(true)
	p.freeze()
	return func() {
		p.silent.Store(false)
		p.cut() // what began meanwhile would wait for its answer
	}
}

// fill has a pool make as many connections as it may, and leaves them idle.
func fill(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	var held []*pgxpool.Conn
	for range pool.Config().MaxConns {
		c, err := pool.Acquire(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		c.Release()
	}
}
