package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/tern/v2/migrate"
)

// release is what this binary can install, with its templates filled in.
type release struct {
	migrations []*migrate.Migration
	code       string
	hash       string // of code, so that a database can say what it holds
}

func (r release) latest() int { return len(r.migrations) }

// pending are the migrations beyond version.
func (r release) pending(version int) []*migrate.Migration {
	return r.migrations[min(version, len(r.migrations)):]
}

// disableTx is tern's mark for a migration that cannot run in a transaction.
var disableTx = regexp.MustCompile(`(?m)^---- tern: disable-tx ----$`)

// compile fills in the templates for a ring of the given size.
func (o Options) compile(segments int) (release, error) {
	data := map[string]any{"schema": o.Schema, "segments": segments}

	m, err := migrate.NewMigrator(context.Background(), nil, o.versionTable())
	if err != nil {
		return release{}, fmt.Errorf("install: %w", err)
	}
	m.Data = data // before loading: that is when tern runs the templates
	if err := m.LoadMigrations(o.Migrations); err != nil {
		return release{}, fmt.Errorf("install: migrations: %w", err)
	}
	for _, mig := range m.Migrations {
		if disableTx.MatchString(mig.UpSQL) {
			return release{}, fmt.Errorf("install: migration %s asks to run outside a transaction, but an install is one transaction", mig.Name)
		}
		if err := complete(mig.Name, mig.UpSQL); err != nil {
			return release{}, err
		}
	}

	pkg, err := migrate.LoadCodePackage(o.Code)
	if err != nil {
		return release{}, fmt.Errorf("install: code: %w", err)
	}
	code, err := pkg.Eval(data)
	if err != nil {
		return release{}, fmt.Errorf("install: code: %w", err)
	}
	if err := complete("code", code); err != nil {
		return release{}, err
	}
	sum := sha256.Sum256([]byte(code))
	return release{m.Migrations, code, hex.EncodeToString(sum[:])}, nil
}

// complete refuses a text in which a template asked for data that does not
// exist: text/template says so in the output alone.
func complete(name, sql string) error {
	if before, _, found := strings.Cut(sql, "<no value>"); found {
		return fmt.Errorf("install: %s line %d: the template asks for data that does not exist",
			name, 1+strings.Count(before, "\n"))
	}
	return nil
}
