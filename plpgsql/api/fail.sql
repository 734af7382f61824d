-- Fail, and the clock of retries.

create or replace function {{ .schema }}._backoff (p_attempt integer)
  returns interval
  language sql
  volatile
  parallel safe
as $$
  -- Doubling stops where the cap is reached, so no attempt overflows.
  select least(
    pg_catalog.make_interval(secs => pg_catalog.power(2, least(greatest(p_attempt, 1), 20) - 1) * (1 + pg_catalog.random() * 0.25)),
    interval '24 hours')
$$;

create or replace function {{ .schema }}.backoff (attempt integer)
  returns interval
  language sql
  volatile
  parallel safe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
  select {{ .schema }}._backoff(backoff.attempt)
$$;

comment on function {{ .schema }}.backoff is
  'The default delay after an attempt that failed: 1 s doubled per attempt, up to a quarter more at random, at most 24 hours.';

create or replace function {{ .schema }}.fail_many (
  receipts    {{ .schema }}.receipt[],
  errors      text[]   default null,
  retry_after interval default null,
  terminal    boolean  default false
)
  returns table (receipt {{ .schema }}.receipt, state {{ .schema }}.job_state)
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
begin
  if fail_many.errors is not null and cardinality(fail_many.errors) <> coalesce(cardinality(fail_many.receipts), 0) then
    perform _invalid(
      format('%s receipts and %s errors', coalesce(cardinality(fail_many.receipts), 0), cardinality(fail_many.errors)),
      'Pass one error per receipt, or none.');
  end if;
  perform _check_delay('retry_after', coalesce(fail_many.retry_after, '0'));
  if not coalesce(fail_many.terminal, false)
    and _defer_part(fail_many.receipts, fail_many.errors, fail_many.retry_after, 'r')
  then
    return query select u, 'retryable'::job_state from unnest(fail_many.receipts) as u;
    return;
  end if;
  return query
  select f.receipt, f.state
  from _fail_attempts(fail_many.receipts, fail_many.errors, fail_many.retry_after, coalesce(fail_many.terminal, false), 'r') as f;
end;
$$;

comment on function {{ .schema }}.fail_many is
  'Closes attempts as failed: each is deferred for a retry after retry_after (default backoff(attempt)), or failed for good when terminal or when its attempts are used up; a queue with dlq_enabled then keeps it among the dead letters. A job whose unique key another job took meanwhile is cancelled instead of retried. Returns each accepted receipt, in the order given, with the state its job came to; stale ones are left out. Waits for concurrent finishes of the same batches and for holders of the jobs'' unique keys. Raises AW006 for mismatched arrays or a negative delay.';

create or replace function {{ .schema }}.fail (
  receipt     {{ .schema }}.receipt,
  error       text     default null,
  retry_after interval default null,
  terminal    boolean  default false
)
  returns {{ .schema }}.job_state
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
begin
  perform _check_delay('retry_after', coalesce(fail.retry_after, '0'));
  if not coalesce(fail.terminal, false)
    and _defer_part(array[fail.receipt], array[fail.error], fail.retry_after, 'r')
  then
    return 'retryable'::job_state;
  end if;
  return (
    select f.state
    from _fail_attempts(array[fail.receipt], array[fail.error], fail.retry_after, coalesce(fail.terminal, false), 'r') as f);
end;
$$;

comment on function {{ .schema }}.fail is
  'Closes an attempt as failed and returns the state of the job: retryable, after retry_after or the default backoff; failed when terminal or when its attempts are used up, and in a queue with dlq_enabled then a dead letter; cancelled when another job took its unique key meanwhile. Null when the receipt is stale. Waits for a concurrent finish of the same batch and for holders of the job''s unique key. Raises AW006 for a negative delay, 40001 under a stale REPEATABLE READ snapshot.';
