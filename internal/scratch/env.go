package scratch

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Env is this process's environment, changed so that psql and every other
// libpq program talk to the database, with DATABASE_URL beside it.
func (db *Database) Env() ([]string, error) {
	config, err := pgx.ParseConfig(db.URL)
	if err != nil {
		return nil, err
	}
	set := map[string]string{
		"DATABASE_URL": db.URL,
		"PGHOST":       config.Host,
		"PGPORT":       strconv.Itoa(int(config.Port)),
		"PGUSER":       config.User,
		"PGDATABASE":   config.Database,
	}
	if config.Password != "" {
		set["PGPASSWORD"] = config.Password
	}
	return merge(os.Environ(), set), nil
}

// elsewhere are variables that would lead a libpq program to another server.
var elsewhere = []string{"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE"}

// forget is for a process whose server is a throw-away one: what the environment says
// of others, such as a service file or a channel binding, would keep its clients away.
// PGOPTIONS, with which tests are run under other settings, stays.
func forget() {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "PG_") && name != "PGOPTIONS" {
			_ = os.Unsetenv(name) // only a name that the environment cannot have fails
		}
	}
}

func merge(env []string, set map[string]string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := set[name]
		return replaced || slices.Contains(elsewhere, name)
	})
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	return env
}
