{{- /* How a function of the API runs: with the rights of the schema's owner, on a path
that no caller can bend, and without JIT, which costs more than it saves here. */ -}}
  language plpgsql
  volatile
  parallel unsafe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set jit = off
