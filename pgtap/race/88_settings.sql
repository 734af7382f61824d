-- Settings of a server, a database, a role or a session that change how values are
-- written and how statements are planned change nothing that the engine does.
select plan(5);
set client_min_messages = warning;
-- Alone: sets the clock, in transactions that commit.
do $$ begin perform pg_advisory_lock(hashtext('awa pgtap')); end $$;

-- A queue's life, in transactions of its own, and what is left of it: times as seconds
-- from the beginning, everything else in one form whatever the session's is.
create procedure pg_temp.live (inout told text)
  language plpgsql as $$
declare
  t0 timestamptz := to_timestamp(2208988800);  -- 2040-01-01T00:00Z, a Sunday
  c  awa.claimed_job;
  -- Written so: in a plain string it would be another one where standard_conforming_strings is off.
  x  text := chr(92);
begin
  perform awa.reset();
  perform set_config('awa.now', t0::text, false);
  perform awa.configure_queue('tap/88', '{"priority_aging_interval": "1 day 02:03:04.5",
    "rate_limit": 1234.56789, "concurrency_limit": 1, "failed_retention": "P1DT2H"}');
  perform awa.enqueue('later', '{"n": 0.1, "big": 1e300}', 'tap/88', run_at => t0 + interval '1 day 1.5 seconds', deadline => interval '1 day 02:00', tags => array['a"b', 'c' || x || 'd', 'null', '', '{}']),
    awa.enqueue('keyed', '"x"', 'tap/88', unique_key => decode('00ff5c27', 'hex'), metadata => jsonb_build_object(x, '"', 'é', null), max_attempts => 2),
    awa.enqueue('snoozed', 'null', 'tap/88', ordering_key => 'o', priority => 1),
    awa.enqueue('parked', '1', 'tap/88', concurrency_key => 'c'), awa.enqueue('parked', '2', 'tap/88', concurrency_key => 'c'),
    awa.enqueue('followed', '3', 'tap/88', follow_ups => '{"completed": [{"kind": "follows", "delay": "1 day 00:00:01", "deadline": "PT90M", "tags": ["t"]}]}'),
    awa.enqueue('dead', '4', 'tap/88', max_attempts => 1),
    awa.enqueue_many('[{"kind": "object", "run_at": "2040-02-03T04:05:06.789Z", "deadline": "02:00:00", "tags": ["x,y"]}, {"kind": "gone"}, {"kind": "cancelled"}]'::jsonb, 'tap/88');
  perform awa.enqueue('after', '5', 'tap/88', after => array[(select j.id from awa.jobs as j where j.queue = 'tap/88' and j.kind = 'followed')]);
  told := coalesce(awa.enqueue('keyed', 'false', 'tap/88', unique_key => decode('00ff5c27', 'hex')) = (select j.id from awa.jobs as j where j.queue = 'tap/88' and j.kind = 'keyed'), false)::text;
  commit;
  for c in select k.* from awa.claim('tap/88', 100, lease => interval '1 hour') as k order by k.job_id loop
    perform awa.set_progress(c.receipt, 50, 'half', '{"at": 0.30}');
    case c.kind
      when 'keyed' then perform awa.fail(c.receipt, 'a' || x || 'b "c" é', retry_after => interval '1 day 03:00');
      when 'snoozed' then perform awa.snooze(c.receipt, interval '2 hours');
      when 'dead' then perform awa.fail(c.receipt, 'e'), awa.move_failed_to_dlq(c.job_id, 'by hand');
      when 'cancelled' then perform awa.cancel(c.job_id, 'no''t wanted');
      when 'gone' then perform awa.delete_job_compat(c.job_id);
      else perform awa.complete(c.receipt);
    end case;
  end loop;
  commit;
  update awa.jobs as j set run_at = j.run_at + interval '1 month', metadata = j.metadata || jsonb_build_object('u', x), tags = '{n,"null"}' where j.queue = 'tap/88' and j.kind in ('object', 'later');
  perform awa.upsert_schedule('tap/88', '30 7 * * MON-FRI', 'fired', queue => 'tap/88', timezone => 'America/St_Johns', deadline => interval '90 minutes')
  from generate_series(1, 2);
  told := told || e'\n' || awa.count_batch_jobs('cancel', '{"queue": "tap/88", "created_after": "2039-12-31T23:00Z", "created_before": "2040-01-01T00:00:01+00"}');
  commit;
  set transaction isolation level read committed;
  perform awa.maintain();
  commit;
  perform set_config('awa.now', (t0 + interval '1 day 12 hours')::text, false);
  perform awa.retry_from_dlq(q.id, run_at => t0 + interval '3 days') from awa.dlq_entries as q where q.queue = 'tap/88';
  commit;
  for i in 1 .. 20 loop
    commit;
    set transaction isolation level read committed;
    perform awa.maintain();
    commit;
    exit when not exists (select from awa.jobs as j where j.queue = 'tap/88' and j.kind = 'snoozed' and j.state = 'scheduled')
      and exists (select from awa.jobs as j where j.queue = 'tap/88' and j.kind = 'fired');
  end loop;
  told := told || e'\n' || (
    select string_agg(concat_ws('|', j.kind, j.state, case when j.run_at between t0 and t0 + interval '1 year' then extract(epoch from j.run_at - t0)::numeric(20, 3) end, j.priority, j.attempt, j.max_attempts, j.args, encode(j.unique_key, 'hex'),
        j.metadata - 'awa:follows' - 'awa:run_at' - 'awa:after', array_to_json(j.tags), j.progress, j.errors[1] ->> 'error', extract(epoch from (j.errors[1] ->> 'at')::timestamptz - t0)::numeric(20, 3),
        j.finalized_at is not null, extract(epoch from j.deadline_at - t0)::numeric(20, 3)), e'\n' order by j.kind collate "C", j.args)
    from awa.jobs as j where j.queue = 'tap/88')
    || e'\n' || (select concat_ws('|', q.available, q.scheduled, q.retryable, q.running, q.waiting_external, q.completed, q.failed, q.cancelled, q.dlq) from awa.queue_counts('tap/88') as q)
    || e'\n' || (select concat_ws('|', extract(epoch from s.next_fire_at - t0), extract(epoch from s.deadline)) from awa.cron_schedules as s where s.name = 'tap/88')
    || e'\n' || (select concat_ws('|', extract(epoch from m.priority_aging_interval), m.rate_limit = 1234.56789, extract(epoch from m.failed_retention)) from awa.queue_meta as m where m.queue = 'tap/88')
    || e'\n' || encode(awa.unique_key_of('k', 'q', '{"b": 1.50, "a": "x"}'), 'hex')
    || e'\n' || (select count(*) from awa.check());
  perform set_config('awa.now', '', false);
end;
$$;
create function pg_temp.with_settings (p_settings text[])
  returns void
  language plpgsql as $$
begin
  execute 'discard plans';
  perform set_config(split_part(s, '=', 1), split_part(s, '=', 2), false)
  from unnest(p_settings) as s
  where exists (select from pg_settings as g where g.name = split_part(s, '=', 1));
end;
$$;

create temp table lives (name text, told text);
create procedure pg_temp.live_with (p_name text, p_settings text[])
  language plpgsql as $$
declare
  v_told text;
begin
  perform set_config(split_part(s, '=', 1), split_part(s, '=', 2), false)
  from unnest(p_settings) as s
  -- Of a newer server, or an older one.
  where exists (select from pg_settings as g where g.name = lower(split_part(s, '=', 1)));
  call pg_temp.live(v_told);
  insert into lives values (p_name, v_told);
end;
$$;

-- Forms come first: functions are compiled under these.
call pg_temp.live_with('forms', array['datestyle=SQL, DMY', 'intervalstyle=sql_standard', 'timezone=Asia/Kathmandu', 'bytea_output=escape', 'extra_float_digits=-15',
  'quote_all_identifiers=on', 'array_nulls=off', 'transform_null_equals=on', 'standard_conforming_strings=off', 'escape_string_warning=off', 'row_security=off', 'search_path=pg_temp']);
call pg_temp.live_with('other forms', array['datestyle=German', 'intervalstyle=iso_8601', 'timezone=America/St_Johns', 'quote_all_identifiers=off', 'array_nulls=on',
  'transform_null_equals=off', 'row_security=on', 'search_path=pg_temp, public']);
reset all;
set client_min_messages = warning;
discard plans;
call pg_temp.live_with('plans', array['jit=off', 'enable_nestloop=off', 'enable_hashjoin=off', 'enable_indexscan=off', 'enable_bitmapscan=off', 'enable_sort=off', 'enable_hashagg=off',
  'enable_material=off', 'enable_memoize=off', 'join_collapse_limit=1', 'from_collapse_limit=1', 'plan_cache_mode=force_generic_plan', 'work_mem=64kB']);
reset all;
set client_min_messages = warning;
discard plans;
call pg_temp.live_with('serializable', array['default_transaction_isolation=serializable', 'default_transaction_deferrable=on', 'idle_in_transaction_session_timeout=60s', 'statement_timeout=60s']);
reset all;
call pg_temp.live_with('defaults', '{}');
select awa.reset() \g /dev/null

select is(array_length(string_to_array(told, e'\n'), 1), 19, 'what is left of a queue') from lives where name = 'defaults';
select is(l.told, d.told, 'is the same with ' || l.name) from lives as l join lives as d on d.name = 'defaults' where l.name <> 'defaults' order by l.name;
select * from finish();
