-- Rate limits: a token bucket per queue, exact over all workers. Its state is the
-- newest row of a ledger; claimers of a limited queue take turns.

-- Waits for the turn of a queue's claimers, at its bucket and its slots; it lasts until
-- the transaction ends. False, with nothing waited for, when the caller has a lane or
-- another queue's turn in hand.
create or replace function {{ .schema }}._await_turn (p_queue text)
  returns boolean
  language plpgsql
  volatile
as $$
begin
  if not pg_try_advisory_xact_lock(_lock_class(3), _queue_key(p_queue)) then
    if _may_have_turns() and exists (select from _turns_in_hand('{1,3}')) then
      return false;
    end if;
    perform pg_advisory_xact_lock(_lock_class(3), _queue_key(p_queue));
  end if;
  perform set_config('{{ .schema }}.lane', 'held', true);
  return true;
end;
$$;

-- What is in the bucket now. -1 when its newest row is dated in the future, after the clock was
-- set back, and holds less than a token: nothing would flow in until that time comes again.
create or replace function {{ .schema }}._tokens (p_queue text, p_rate double precision, p_burst integer, p_now timestamptz)
  returns double precision
  language plpgsql
  volatile
as $$
declare
  v_burst double precision := coalesce(p_burst, ceil(p_rate));
begin
  return coalesce((
    select case when p.at > p_now and p.tokens < 1 then -1
      else least(v_burst, p.tokens + greatest(extract(epoch from p_now)::double precision - extract(epoch from p.at)::double precision, 0) * p_rate)
      end
    from rate_points as p
    where p.queue = p_queue
    order by p.point desc
    limit 1), v_burst);
end;
$$;

-- How many jobs of a limited queue may be claimed now, whose turn the caller has.
create or replace function {{ .schema }}._allowed_jobs (p_queue text, p_rate double precision, p_burst integer)
  returns integer
  language plpgsql
  volatile
as $$
declare
  v_tokens double precision;
begin
  if _keeps_snapshot() then
    perform _probe_bucket(p_queue);
  end if;
  v_tokens := _tokens(p_queue, p_rate, p_burst, _now());
  if v_tokens = -1 then
    perform _spend_tokens(p_queue, p_rate, p_burst, 0);  -- it fills from now
  end if;
  -- A little more, to make up for rounding.
  return floor(least(greatest(v_tokens, 0) + 1e-6, 1000000))::integer;
end;
$$;

-- The same for a caller without a turn: none if it cannot have one. A limit that changed while
-- the turn was awaited holds; one that was removed does until the next claim. Returns the limit
-- as well, by which what was claimed has to be spent.
create or replace function {{ .schema }}._await_tokens (
  p_queue text, inout p_rate double precision, inout p_burst integer, out jobs integer
)
  language plpgsql
  volatile
as $$
declare
  v_rate  double precision;
  v_burst integer;
begin
  jobs := 0;
  perform _enter_ring();
  if not _await_turn(p_queue) then
    return;
  end if;
  select m.rate_limit, m.rate_burst into v_rate, v_burst
  from queue_meta as m where m.queue = p_queue and m.rate_limit is not null;
  if found then
    p_rate := v_rate;
    p_burst := v_burst;
  end if;
  jobs := _allowed_jobs(p_queue, p_rate, p_burst);
end;
$$;

create or replace function {{ .schema }}._spend_tokens (p_queue text, p_rate double precision, p_burst integer, p_jobs integer)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_now timestamptz := _now();
begin
  insert into rate_points (queue, point, tokens, at, ready_slot)
  select p_queue, coalesce((select p.point from rate_points as p where p.queue = p_queue order by p.point desc limit 1), 0) + 1,
    greatest(_tokens(p_queue, p_rate, p_burst, v_now), 0) - p_jobs, v_now, _current_slot();
end;
$$;

-- Under a transaction-long snapshot: whether another session has spent tokens since. As in
-- _probe_cursor.
create or replace function {{ .schema }}._probe_bucket (p_queue text)
  returns void
  language plpgsql
  volatile
as $$
begin
  insert into rate_points (queue, point, tokens, at, ready_slot)
  select p_queue, coalesce((select p.point from rate_points as p where p.queue = p_queue order by p.point desc limit 1), 0) + 1,
    0, now(), s.slot
  from generate_series(0, {{ sub (int .segments) 1 }}) as s (slot);
  raise exception using errcode = 'AW000', message = 'undo';
exception
  when sqlstate 'AW000' then
    null;
  when unique_violation then
    perform _stale_snapshot(format('claim of queue %L', p_queue));
end;
$$;
