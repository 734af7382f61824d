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
    installed_servers
  )
  return 1
}

# The program directories of every packaged server, newest first.
installed_servers() {
  printf '%s\n' /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin \
    /usr/local/opt/postgresql@*/bin /home/linuxbrew/.linuxbrew/opt/*/bin \
    /usr/pgsql-*/bin /Applications/Postgres.app/*/*/*/bin | sort -rV
}

# What pg_config of that installation says: pg_says --sharedir. Fails where a
# server comes without pg_config.
pg_says() {
  "$(pg_bin)/pg_config" "$1" 2>/dev/null
}

# The directories of type --pkglibdir or --sharedir: of that installation, then
# of the packaged servers.
pg_dirs() {
  pg_says "$1" || true
  local bin
  while read -r bin; do
    [ ! -x "$bin/pg_config" ] || "$bin/pg_config" "$1"
  done < <(installed_servers)
}

# The directory of pg_isolation_regress and isolationtester, which test a server
# of any version. Debian's client package has them without pg_config.
isolation_dir() {
  local dir
  while read -r dir; do
    if [ -x "$dir/pgxs/src/test/isolation/pg_isolation_regress" ]; then
      echo "$dir/pgxs/src/test/isolation"
      return
    fi
  done < <(pg_dirs --pkglibdir; printf '%s\n' /usr/lib/postgresql/*/lib | sort -rV)
  return 1
}

# The SQL of pgTAP, for servers that do not have it as an extension.
pgtap_sql() {
  local dir file
  while read -r dir; do
    file=$(find "$dir/extension" -name 'pgtap--*.sql' ! -name 'pgtap--*--*' 2>/dev/null | sort -rV | head -n 1)
    if [ -n "$file" ]; then
      echo "$file"
      return
    fi
  done < <(pg_dirs --sharedir; printf '%s\n' /usr/share/postgresql/* | sort -rV)
  return 1
}

# The programs of a server that is not in PATH, as with Homebrew.
command -v psql >/dev/null || PATH=$PATH:$(pg_bin || true)
