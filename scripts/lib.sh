# Shared by the scripts: where PostgreSQL is. Sourced, not run.

# The directory of initdb and postgres, found in the order of internal/localpg.
pg_bin() {
  local dir
  if [ -n "${AWA_PG_BIN:-}" ]; then
    echo "$AWA_PG_BIN"
    return
  fi
  while read -r dir; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
      echo "$dir"
      return
    fi
  done < <(
    initdb=$(command -v initdb) && dirname "$(realpath "$initdb")"
    pg_config --bindir 2>/dev/null
    printf '%s\n' /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin \
      /usr/local/opt/postgresql@*/bin /usr/pgsql-*/bin | sort -rV
  )
  return 1
}

# What pg_config of that installation says: pg_says --sharedir.
pg_says() {
  "$(pg_bin)/pg_config" "$1"
}

# The directory of pg_isolation_regress and isolationtester.
isolation_dir() {
  local dir
  for dir in "$(pg_says --pkglibdir)" $(printf '%s\n' /usr/lib/postgresql/*/lib | sort -rV); do
    if [ -x "$dir/pgxs/src/test/isolation/pg_isolation_regress" ]; then
      echo "$dir/pgxs/src/test/isolation"
      return
    fi
  done
  return 1
}

# The programs of a server that is not in PATH, as with Homebrew.
command -v psql >/dev/null || PATH=$PATH:$(pg_bin || true)
