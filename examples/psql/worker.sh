#!/usr/bin/env bash
# A worker with psql alone.
#
#   worker.sh QUEUE            works until it is stopped
#   worker.sh QUEUE --drain    works until the queue has no available job
set -euo pipefail

queue=${1:?queue}
drain=${2:-}

# Each call is a transaction of its own. Values go in as psql variables, which
# quotes them; rows come out one a line, fields apart by a tab.
sql() { psql -qXAt -F $'\t' -v ON_ERROR_STOP=1 -v queue="$queue" "$@"; }

claim() {
  sql <<'SQL'
select receipt, attempt, kind, args
from awa.claim(:'queue', max_jobs => 10, worker => 'worker.sh', lease => '1 minute');
SQL
}

# jsonb writes no line break and no tab, so a row is a line.
work() {
  local receipt attempt kind args output accepted
  while IFS=$'\t' read -r receipt attempt kind args; do
    if output=$(handle "$kind" "$args" </dev/null 2>&1); then # its input would be the other jobs
      echo "$output"
      accepted=$(sql -v receipt="$receipt" <<<"select awa.complete(:'receipt')")
      [ "$accepted" = t ] || echo "too late: another worker has the job" >&2
    else
      echo "attempt $attempt of $kind failed: $output" >&2
      sql -v receipt="$receipt" -v error="${output:0:4000}" <<<"select awa.fail(:'receipt', :'error')" >/dev/null
    fi
  done
}

# What the jobs are about.
handle() {
  case $1 in
    greet) name=$(field name <<<"$2") && echo "Hello, $name!" ;;
    *) echo "no handler for kind $1"; return 1 ;;
  esac
}

# field NAME reads one field of a JSON object; the server is good at that.
field() { sql -v name="$1" -v doc="$(cat)" <<<"select :'doc'::jsonb ->> :'name'"; }

while true; do
  jobs=$(claim)
  if [ -n "$jobs" ]; then
    work <<<"$jobs"
  elif [ "$drain" = --drain ]; then
    break
  else
    sql -c 'select awa.maintain()' >/dev/null # promotes what is due, reclaims what is done
    sleep 1
  fi
done
