-- awa's error class. Each message names the value, each hint the remedy.
--
--   AW001  stale receipt (only where a call is told to be strict)
--   AW002  not found
--   AW003  wrong state for this operation
--   AW004  duplicate
--   AW005  storage needs rebase()
--   AW006  invalid argument
--   AW007  queue is full
--   40001  retry the same call in a new transaction

create or replace function {{ .schema }}._invalid (p_message text, p_hint text)
  returns void
  language plpgsql
  volatile
as $$
begin
  raise exception using errcode = 'AW006', message = p_message, hint = p_hint;
end;
$$;

-- Nothing happened, and the same call may succeed in another transaction.
create or replace function {{ .schema }}._serialization_failure (p_message text)
  returns void
  language plpgsql
  volatile
as $$
begin
  raise exception using errcode = '40001', message = p_message, hint = 'Retry the whole transaction.';
end;
$$;

-- A snapshot that predates a rotation or prune cannot tell where things are.
create or replace function {{ .schema }}._stale_snapshot (p_what text)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _serialization_failure(pg_catalog.format('%s: the storage moved on since this transaction''s snapshot', p_what));
end;
$$;
