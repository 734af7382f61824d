package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

//go:embed node
var nodeFiles embed.FS

// nodeSystem is a peer that runs on Node: a child process that answers calls.
type nodeSystem struct {
	title, script, told string
	dir                 string // of the scripts and the packages
}

// findNode installs the packages into the user's cache unless they are there, and
// fails where npm or the network is missing.
func findNode(ctx context.Context) ([]system, error) {
	dir, err := installNode(ctx)
	if err != nil {
		return nil, err
	}
	return []system{
		nodeSystem{"graphile-worker", "graphile", "graphile-worker 0.18.0 on Node 24; addJobs of 10,000 in bulk; 24 concurrent jobs, localQueue 500, completeJobBatchDelay 0 (its documented optimum); single jobs: concurrency as given, without local queue", dir},
		nodeSystem{"pg-boss", "pgboss", "pg-boss 12.38.0 on Node 24; insert of 10,000 in bulk; a partition of its own; 4 lanes that fetch 200 and complete them; LISTEN/NOTIFY for pickup", dir},
	}, nil
}

func installNode(ctx context.Context) (dir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cache, "awa", "bench-peers")
	files, err := fs.Sub(nodeFiles, "node")
	if err != nil {
		return "", err
	}
	want, err := fs.ReadFile(files, "package.json")
	if err != nil {
		return "", err
	}
	have, _ := os.ReadFile(filepath.Join(dir, "installed.json")) // none: nothing is installed
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		return errors.Join(err, os.WriteFile(filepath.Join(dir, path), content, 0o644))
	})
	if err != nil || bytes.Equal(have, want) {
		return dir, err
	}
	npm := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install: %w\n%s", err, out)
	}
	return dir, os.WriteFile(filepath.Join(dir, "installed.json"), want, 0o644)
}

func (s nodeSystem) name() string     { return s.title }
func (s nodeSystem) settings() string { return s.told }

func (nodeSystem) fresh(ctx context.Context, server *bench.Server) (*bench.Database, error) {
	return server.NewEmptyDatabase(ctx)
}

func (s nodeSystem) open(ctx context.Context, db *bench.Database) (session, error) {
	cfg, err := pgx.ParseConfig(db.URL())
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"host": cfg.Host, "port": cfg.Port, "user": cfg.User, "password": cfg.Password, "database": cfg.Database,
	})
	if err != nil {
		return nil, err
	}
	answers, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	node := filepath.Join(s.dir, "node_modules", "node", "bin", "node")
	p := &nodeSession{cmd: exec.Command(node, "main.mjs", s.script, string(config)), answers: bufio.NewReader(answers), pipe: answers}
	p.cmd.Dir, p.cmd.ExtraFiles, p.cmd.Stderr = s.dir, []*os.File{theirs}, &p.log
	if p.calls, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var ready bool
	defer context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })()
	if err := p.answer("open", &ready); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// nodeSession is a running child. One call at a time.
type nodeSession struct {
	cmd     *exec.Cmd
	calls   io.WriteCloser
	answers *bufio.Reader
	pipe    *os.File
	log     bytes.Buffer
}

func (s *nodeSession) close() error {
	err := errors.Join(s.calls.Close(), s.cmd.Wait(), s.pipe.Close())
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, s.log.Bytes())
	}
	return err
}

// ask calls one of the script's functions. When ctx ends the child is killed.
func (s *nodeSession) ask(ctx context.Context, call string, params map[string]any, result any) error {
	defer context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })()
	request := map[string]any{"call": call}
	for k, v := range params {
		request[k] = v
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := s.calls.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w\n%s", call, err, s.log.Bytes())
	}
	return s.answer(call, result)
}

// answer reads what a call returned. The first line says that the peer is ready.
func (s *nodeSession) answer(call string, result any) error {
	reply, err := s.answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", call, err, s.log.Bytes())
	}
	answer := struct {
		Result json.RawMessage
		Error  string
	}{}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", call, answer.Error)
	}
	return json.Unmarshal(answer.Result, result)
}

func (s *nodeSession) seconds(ctx context.Context, call string, params map[string]any) (time.Duration, error) {
	var took float64
	err := s.ask(ctx, call, params, &took)
	return time.Duration(took * float64(time.Second)), err
}

func (s *nodeSession) bulk(ctx context.Context, n, size int) (time.Duration, error) {
	return s.seconds(ctx, "bulk", map[string]any{"n": n, "size": size})
}

func (s *nodeSession) drain(ctx context.Context, n int) (time.Duration, error) {
	return s.seconds(ctx, "drain", map[string]any{"n": n})
}

func (s *nodeSession) produce(ctx context.Context, n int, d time.Duration) (rate float64, err error) {
	err = s.ask(ctx, "produce", map[string]any{"n": n, "duration": d.Seconds()}, &rate)
	return rate, err
}

func (s *nodeSession) oneJob(ctx context.Context, n int, d time.Duration) (rate float64, err error) {
	err = s.ask(ctx, "oneJob", map[string]any{"n": n, "duration": d.Seconds()}, &rate)
	return rate, err
}

func (s *nodeSession) traffic(ctx context.Context, d time.Duration) (perSecond []float64, err error) {
	err = s.ask(ctx, "traffic", map[string]any{"duration": d.Seconds()}, &perSecond)
	return perSecond, err
}

func (s *nodeSession) flow(ctx context.Context, l load) (*course, error) {
	var c course
	err := s.ask(ctx, "flow", map[string]any{
		"producers": l.producers, "rate": l.rate, "chunk": l.chunk, "every": l.every.Seconds(),
		"intervals": l.intervals(), "settling": settling.Seconds(),
	}, &c)
	return &c, err
}

func (s *nodeSession) hold(ctx context.Context) (release func() error, err error) {
	var done bool
	release = func() error { return s.ask(context.WithoutCancel(ctx), "release", nil, &done) }
	return release, s.ask(ctx, "hold", nil, &done)
}
