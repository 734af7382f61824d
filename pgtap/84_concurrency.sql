-- Limits of concurrency per key.
begin;
select plan(98);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
-- A segment that is due would be sealed by maintain.
select awa.reset() \g /dev/null

create function pg_temp.add (p_queue text, p_keys text) returns void
  language plpgsql as $$
begin
  perform awa.enqueue('k', to_jsonb(k.key), queue => p_queue, concurrency_key => nullif(k.key, '-'))
  from unnest(string_to_array(p_keys, ' ')) with ordinality as k (key, n);
end;
$$;
create temp table held (queue text, receipt awa.receipt, job_id bigint, key text, nth serial);
create function pg_temp.claimed (p_queue text, p_max integer default 100) returns text
  language plpgsql as $$
declare v text;
begin
  with c as (select * from awa.claim(p_queue, p_max)),
  h as (insert into pg_temp.held (queue, receipt, job_id, key) select c.queue, c.receipt, c.job_id, c.args #>> '{}' from c returning key, nth)
  select string_agg(h.key, ' ' order by h.nth) into v from h;
  return v;
end;
$$;
create function pg_temp.receipt (p_queue text, p_key text) returns awa.receipt
  language sql as $$ select h.receipt from pg_temp.held as h where h.queue = p_queue and h.key = p_key order by h.nth desc limit 1 $$;

-- One of a key

select awa.configure_queue('tap/84', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84', 'a a b - - a c') \g /dev/null
select is(pg_temp.claimed('tap/84'), 'a b - - c', 'one job of each key is claimed, and all without one');
select is(pg_temp.claimed('tap/84'), null, 'the others wait');
select is((select c.available || ' ' || c.scheduled || ' ' || c.running from awa.queue_counts('tap/84') as c), '0 2 5', 'among the scheduled ones');
select is((select count(*) from awa.jobs as j where j.queue = 'tap/84' and j.run_at = 'infinity'), 2::bigint, 'for no moment that comes');
select ok(awa.complete(pg_temp.receipt('tap/84', 'a')), 'once it is completed');
select is(pg_temp.claimed('tap/84'), 'a', 'the next one comes');
select is(awa.fail(pg_temp.receipt('tap/84', 'a'), 'e', '1 hour'), 'retryable', 'once it failed');
select is(pg_temp.claimed('tap/84'), 'a', 'the next one comes');
select set_config('awa.now', (clock_timestamp() + interval '2 minutes')::text, true) \g /dev/null
select pg_temp.add('tap/84', 'b') \g /dev/null
select is(pg_temp.claimed('tap/84'), null, 'a long run keeps its slot');
select is(awa.cancel((pg_temp.receipt('tap/84', 'b')).job_id), true, 'once it is cancelled');
select is(pg_temp.claimed('tap/84'), 'b', 'the next one comes');
select is((select run_at < 'infinity' and metadata = '{"awa:concurrency_key": "b"}' from awa.jobs where id = (pg_temp.receipt('tap/84', 'b')).job_id), true,
  'as it was');

-- Retried jobs wait for a slot as well

select set_config('awa.now', (clock_timestamp() + interval '2 hours')::text, true) \g /dev/null
select awa.maintain() \g /dev/null
select set_config('awa.now', '', true) \g /dev/null
select awa.configure_queue('tap/84/retry', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/retry', 'x') \g /dev/null
select is(pg_temp.claimed('tap/84/retry'), 'x', 'a job runs');
select is(awa.snooze(pg_temp.receipt('tap/84/retry', 'x'), '0'), true, 'is put back');
select pg_temp.add('tap/84/retry', 'x') \g /dev/null
select is(pg_temp.claimed('tap/84/retry'), 'x', 'the other one runs');
select set_config('awa.now', (clock_timestamp() + interval '1 second')::text, true) \g /dev/null
select awa.maintain() \g /dev/null
select set_config('awa.now', '', true) \g /dev/null
select is(pg_temp.claimed('tap/84/retry'), null, 'and the first one waits for it');
select ok(awa.complete(pg_temp.receipt('tap/84/retry', 'x')), 'until that is done');
select is(pg_temp.claimed('tap/84/retry'), 'x', 'then it runs again');

-- More of a key; priorities; what waits for a slot is still a job

select awa.configure_queue('tap/84/two', '{"concurrency_limit": 2}') \g /dev/null
select pg_temp.add('tap/84/two', 'm m m m n') \g /dev/null
select is(pg_temp.claimed('tap/84/two', 3), 'm m n', 'two at a time, and a call goes on until it has what it asked for');
select ok(awa.complete(pg_temp.receipt('tap/84/two', 'n')), 'another key''s end');
select is(pg_temp.claimed('tap/84/two'), null, 'frees nothing');
select is((select count(*) from awa.cancel((select min(j.id) from awa.jobs as j where j.queue = 'tap/84/two' and j.state = 'scheduled')) as c where c), 1::bigint,
  'a parked job is cancelled');
delete from awa.jobs as j where j.queue = 'tap/84/two' and j.state = 'running';
select is(pg_temp.claimed('tap/84/two'), 'm', 'a deleted job frees its slot, and a cancelled one does not come');
select awa.register_callback(pg_temp.receipt('tap/84/two', 'm'), '1 hour') as id \gset
select awa.configure_queue('tap/84/two', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/two', 'm') \g /dev/null
select is(pg_temp.claimed('tap/84/two'), null, 'a job that waits for an answer keeps its slot');
select awa.complete_callback(:'id') \g /dev/null
select is(pg_temp.claimed('tap/84/two'), 'm', 'and gives it back with the answer');

-- A limit that is lowered while jobs run

select awa.configure_queue('tap/84/low', '{"concurrency_limit": 3}') \g /dev/null
select pg_temp.add('tap/84/low', 'l l l l l') \g /dev/null
select is(pg_temp.claimed('tap/84/low'), 'l l l', 'three at a time');
select awa.complete((select h.receipt from held as h where h.queue = 'tap/84/low' order by h.nth limit 1)) \g /dev/null
select awa.configure_queue('tap/84/low', '{"concurrency_limit": null}'), awa.configure_queue('tap/84/low', '{"concurrency_limit": 1}') \g /dev/null
select is(pg_temp.claimed('tap/84/low'), null, 'two run, where one may');
select awa.complete((select h.receipt from held as h where h.queue = 'tap/84/low' order by h.nth offset 1 limit 1)) \g /dev/null
select is(pg_temp.claimed('tap/84/low'), null, 'one still does');
select awa.complete((select h.receipt from held as h where h.queue = 'tap/84/low' order by h.nth offset 2 limit 1)) \g /dev/null
select is(pg_temp.claimed('tap/84/low'), 'l', 'and then it is the next one''s turn');

-- Jobs that were cancelled while they waited for a slot keep nobody waiting

select awa.configure_queue('tap/84/gone', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/gone', 'g g g g') \g /dev/null
select is(pg_temp.claimed('tap/84/gone'), 'g', 'one runs');
select awa.cancel(j.id) from (select j.id from awa.jobs as j where j.queue = 'tap/84/gone' and j.state = 'scheduled' order by j.id limit 2) as j \g /dev/null
select awa.complete(pg_temp.receipt('tap/84/gone', 'g')) \g /dev/null
select is(pg_temp.claimed('tap/84/gone', 1), 'g', 'the next claim passes over two that were cancelled');

-- A job that waits for a slot of another queue by now

select awa.configure_queue(q, '{"concurrency_limit": 1}') from unnest(array['tap/84/from', 'tap/84/to']) as q \g /dev/null
select pg_temp.add('tap/84/from', 'v v'), pg_temp.add('tap/84/to', 'v') \g /dev/null
select is(pg_temp.claimed('tap/84/from') || pg_temp.claimed('tap/84/to'), 'vv', 'keys of two queues are two keys');
update awa.jobs set queue = 'tap/84/to' where queue = 'tap/84/from' and state = 'scheduled';
select pg_temp.claimed('tap/84/to') \g /dev/null
select awa.complete(pg_temp.receipt('tap/84/from', 'v')) \g /dev/null
select is(pg_temp.claimed('tap/84/from'), null, 'a job that was moved is not handed out by the queue that it waited in');
select awa.complete(pg_temp.receipt('tap/84/to', 'v')) \g /dev/null
select is(pg_temp.claimed('tap/84/to'), 'v', 'but by its own, when that has a slot');

-- Attempts that outlast many claims

select awa.configure_queue('tap/84/aged', '{"concurrency_limit": 1}') \g /dev/null
-- An attempt that has ended, in a batch that has not, gives its slot to the next one of its key.
select pg_temp.add('tap/84/aged', 'k0 x'), pg_temp.claimed('tap/84/aged') \g /dev/null
select awa.complete(pg_temp.receipt('tap/84/aged', 'k0')), pg_temp.add('tap/84/aged', 'k0'), pg_temp.claimed('tap/84/aged') \g /dev/null
select pg_temp.add('tap/84/aged', string_agg('k' || i, ' ' order by n, i)) from generate_series(1, 2) as n, generate_series(1, 130) as i \g /dev/null
select pg_temp.claimed('tap/84/aged', 1) from generate_series(1, 130) \g /dev/null
select is((select count(*) from held as h where h.queue = 'tap/84/aged'), 133::bigint, '132 run, most of them claimed one by one');
select ok((select count(*) from awa.slot_entries as e where e.queue = 'tap/84/aged') between 1 and 129, 'the oldest ones have a slot of their own');
select pg_temp.add('tap/84/aged', 'k0') \g /dev/null
select is(pg_temp.claimed('tap/84/aged', 200), null, 'one of a key is all that runs');
select awa.complete(pg_temp.receipt('tap/84/aged', k)) from unnest(array['k3', 'k129']) as k \g /dev/null
select is(pg_temp.claimed('tap/84/aged', 200), 'k3 k129', 'and the next one comes, early or late');

select pg_temp.add('tap/84/aged', repeat('k1 ', 60) || repeat('k130 ', 60) || 'l m') \g /dev/null
select is(pg_temp.claimed('tap/84/aged', 1), 'l', 'a long row of keys that are taken, early or late, is gone through by a claim of one');

-- Across segments

select awa.configure_queue('tap/84/ring', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/ring', 'r s') \g /dev/null
select is(pg_temp.claimed('tap/84/ring', 1), 'r', 'a job is claimed');
select is(pg_temp.claimed('tap/84/ring', 1), 's', 'and another one');
select awa.complete(pg_temp.receipt('tap/84/ring', 's')) \g /dev/null
create function pg_temp.carried (p_queue text, p_key text) returns boolean
  language plpgsql as $$
declare
  v_receipt awa.receipt := pg_temp.receipt(p_queue, p_key);
begin
  for i in 1 .. 100 loop
    if exists (select from awa.claims as c where c.batch_id = v_receipt.batch_id and c.ready_slot <> v_receipt.ready_slot) then
      return true;
    end if;
    perform awa.enqueue('k', queue => 'tap/84/turn');
    perform awa.rotate(), awa.prune();
  end loop;
  return false;
end;
$$;
select ok(pg_temp.carried('tap/84/ring', 'r'), 'its segment is pruned');
select pg_temp.add('tap/84/ring', 'r s') \g /dev/null
select is(pg_temp.claimed('tap/84/ring'), 's', 'and a slot goes along');
select awa.complete(pg_temp.receipt('tap/84/ring', 'r')) \g /dev/null
select is(pg_temp.claimed('tap/84/ring'), 'r', 'and comes free there');

-- A batch is noted as it was claimed: as a whole it is read without a look at each job

select awa.configure_queue('tap/84/whole', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/whole', 'z m a') \g /dev/null
select pg_temp.claimed('tap/84/whole') \g /dev/null
select is((select b.keys from awa.slot_batches as b join awa.claims as c on c.batch_id = b.batch_id and c.job_ids = b.job_ids
  where b.queue = 'tap/84/whole'), '{z,m,a}', 'keys are noted in the order of the claim');

-- Nor is a look at each needed where its claim parked some: they are a batch of their own,
-- closed as a whole.

select awa.configure_queue('tap/84/first', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/first', 'a a b b c') \g /dev/null
select is(pg_temp.claimed('tap/84/first'), 'a b c', 'a claim parks what it met twice');
select is((select string_agg(format('%s jobs, %s', cardinality(c.job_ids), case when o.outcome is null then 'open' else format('%s for %s, ids %L', o.outcome, o.jobs, o.job_ids) end), '; ' order by o.outcome)
  from awa.queue_lanes as l
  join awa.claims as c on c.lane = l.lane
  left join awa.attempt_outcomes as o on o.batch_id = c.batch_id
  where l.queue = 'tap/84/first'), '2 jobs, m for 2, ids NULL; 3 jobs, open', 'what it hands out is a batch without those');
select awa.complete(pg_temp.receipt('tap/84/first', 'b')) \g /dev/null
select pg_temp.add('tap/84/first', 'a c') \g /dev/null
select is(pg_temp.claimed('tap/84/first'), 'b', 'a key that came free is claimed, and those beside it are not');
select pg_temp.add('tap/84/first', 'c') \g /dev/null
select is(pg_temp.claimed('tap/84/first', 1), null, 'nor one that comes later');

-- A long row of jobs whose key is taken: who has something in hand does not go through it,
-- and who has nothing does.

select awa.configure_queue('tap/84/row', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/row', repeat('a ', 1000) || 'b') \g /dev/null
create function pg_temp.parked (p_queue text) returns bigint
  language sql as $$ select count(*) from awa.parked_jobs as p where p.queue = p_queue $$;
select is(pg_temp.claimed('tap/84/row', 20), 'a', 'a claim takes the first of a long row');
select cmp_ok(pg_temp.parked('tap/84/row'), '<', 200::bigint, 'and sets few others aside');
select is(pg_temp.claimed('tap/84/row', 20), 'b', 'the next one goes on to another key');
select is(pg_temp.parked('tap/84/row'), 999::bigint, 'past all that it meets');

-- Nor does it step by step who wants few: it claims many at once, and no more that have a
-- slot than it may hand out.

select awa.configure_queue('tap/84/ahead', '{"concurrency_limit": 2}') \g /dev/null
select pg_temp.add('tap/84/ahead', repeat('a ', 300) || 'b b b - - c a d e') \g /dev/null
select is(pg_temp.claimed('tap/84/ahead', 2), 'a a', 'the first of a key have its slots');
create temp table before as select count(*) as claims from awa.claims;
select is(pg_temp.claimed('tap/84/ahead', 1), 'b', 'a claim of one finds the one behind a long row');
select cmp_ok((select count(*) - b.claims from awa.claims, before as b group by b.claims), '<', 20::bigint, 'with few claims');
select is(pg_temp.parked('tap/84/ahead'), 298::bigint, 'and sets no other aside');
select is(pg_temp.claimed('tap/84/ahead', 3), 'b - -', 'those behind it are as they were');
select is(pg_temp.claimed('tap/84/ahead'), 'c d e', 'to the last one');
select is(pg_temp.parked('tap/84/ahead'), 300::bigint, 'but those whose key is taken');

-- The same where the bucket gives one at a time: who is set aside takes no token.

select awa.configure_queue('tap/84/drops', '{"concurrency_limit": 1, "rate_limit": 1e-9, "rate_burst": 2}') \g /dev/null
select pg_temp.add('tap/84/drops', repeat('a ', 300) || 'b b') \g /dev/null
select is(pg_temp.claimed('tap/84/drops', 1), 'a', 'a queue with a bucket');
select is(pg_temp.claimed('tap/84/drops'), 'b', 'a call with one token goes through a long row of keys that are taken');
select is(pg_temp.parked('tap/84/drops'), 300::bigint, 'and sets those aside');
select awa.complete(pg_temp.receipt('tap/84/drops', 'b')) \g /dev/null
select is(pg_temp.claimed('tap/84/drops'), null, 'no token is left');

-- What leaves in numbers while it is parked is off the list at once: a claim would have to
-- go through all of it.

select awa.run_batch_operation(awa.start_batch_operation('cancel', '{"queue": "tap/84/row", "state": "scheduled"}'), 300) \g /dev/null
select is(pg_temp.parked('tap/84/row'), 699::bigint, 'a batch operation that cancels parked jobs takes them off the list');
delete from awa.jobs where queue = 'tap/84/row' and state = 'scheduled';
select is(pg_temp.parked('tap/84/row'), 0::bigint, 'so does a DELETE');
select awa.complete(pg_temp.receipt('tap/84/row', 'a')) \g /dev/null
select is(pg_temp.claimed('tap/84/row'), null, 'and nothing is left to claim');

-- Many keys that came free: a claim of one looks up few of them, and none is forgotten.
-- One in ten looks at a hundred others besides.

create function pg_temp.lookups () returns bigint
  language sql volatile as $$
  select t.idx_scan from pg_stat_xact_user_tables as t where t.schemaname = 'awa' and t.relname = 'parked_jobs' $$;
create function pg_temp.claim_lookups (p_queue text, p_max integer) returns bigint
  language plpgsql as $$
declare v_before bigint := pg_temp.lookups();
begin
  perform pg_temp.claimed(p_queue, p_max);
  return pg_temp.lookups() - v_before;
end;
$$;
select awa.configure_queue('tap/84/free', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/free', (select string_agg('k' || n % 400, ' ' order by n) from generate_series(1, 800) as n)) \g /dev/null
select pg_temp.claimed('tap/84/free', 400) \g /dev/null
select is(pg_temp.claimed('tap/84/free', 1000), null, 'where all keys are taken');
select is(pg_temp.parked('tap/84/free'), 400::bigint, 'the others are set aside');
select cmp_ok(pg_temp.claim_lookups('tap/84/free', 1000), '<', 200::bigint, 'and the next large claim looks at some of them');
select awa.complete_many(array(select h.receipt from held as h where h.queue = 'tap/84/free')) \g /dev/null
select cmp_ok(pg_temp.claim_lookups('tap/84/free', 1), '<', 200::bigint, 'where many keys came free, a claim of one looks at few');
select is(pg_temp.parked('tap/84/free'), 399::bigint, 'and has one');
select is((select count(*) from awa.claim('tap/84/free', 300)), 300::bigint, 'the next claims know of the others');
select is((select count(*) from awa.claim('tap/84/free', 300)), 99::bigint, 'down to the last one');

-- A lookup by key is planned while hardly anything is parked, and must not be a walk
-- through all of the queue's by the other index: there it is no way to it.

create temp table parked (like awa.parked_jobs including indexes);
alter table parked drop constraint parked_pkey;
create function pg_temp.plan_of (p_query text) returns text
  language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare v_line text; v_plan text := '';
begin
  for v_line in execute 'explain (costs off) ' || p_query loop
    v_plan := v_plan || v_line;
  end loop;
  return v_plan;
end;
$$;
select unalike(pg_temp.plan_of($$ select from pg_temp.parked as p where p.queue = 'q' and p.key = 'k' and p.job_id >= 1 order by p.job_id limit 1 $$),
  '%Index%', 'the index for random jobs serves no lookup by key');
select alike(pg_temp.plan_of($$ select from pg_temp.parked as p where p.queue = 'q' and hashint8extended(p.job_id, 0) >= 1 order by hashint8extended(p.job_id, 0) limit 1 $$),
  '%Index%', 'but its own');

-- Receipts that no claim returned: of attempts that were set aside

select awa.configure_queue('tap/84/aside ' || n, '{"concurrency_limit": 1}') from generate_series(2, 60) as n where n in (3, 60) \g /dev/null
create function pg_temp.stale (p_jobs integer) returns bigint
  language plpgsql as $$
declare
  v_queue text := 'tap/84/aside ' || p_jobs;
begin
  perform awa.enqueue('k', queue => v_queue, concurrency_key => 'a') from generate_series(1, p_jobs);
  perform awa.claim(v_queue, p_jobs);
  return (
    select count(s.job_id)
    from awa.complete_many(array(
      select row(k.ready_slot, k.batch_id, u.job_id, 1)::awa.receipt
      from awa.queue_lanes as l
      join awa.claims as k on k.lane = l.lane
      cross join lateral unnest(k.job_ids) as u (job_id)
      where l.queue = v_queue)) as s);
end;
$$;
select is(pg_temp.stale(3), 2::bigint, 'they are stale beside the one that was');
select is(pg_temp.stale(60), 59::bigint, 'and so are many');
select is_empty($$ select * from awa.check() $$, 'nothing is closed twice');

-- A job that left while somebody held its place on the list stands there until a claim meets it:
-- the others of its key take its turn, and no more of them than there are slots.

select awa.configure_queue('tap/84/gone', '{"concurrency_limit": 2}') \g /dev/null
select pg_temp.add('tap/84/gone', 'g g g g g g g') \g /dev/null
select pg_temp.claimed('tap/84/gone') \g /dev/null
create temp table gone as select p.* from awa.parked_jobs as p where p.queue = 'tap/84/gone' order by p.job_id limit 1;
select awa.cancel(g.job_id) from gone as g \g /dev/null
insert into awa.parked_jobs select g.* from gone as g on conflict do nothing;
select awa.complete(h.receipt) from held as h where h.queue = 'tap/84/gone' \g /dev/null
select is(pg_temp.claimed('tap/84/gone'), 'g g', 'two of a key come for two that ended, past one that is gone');
select is_empty('select p.job_id from gone as g join awa.parked_jobs as p on p.job_id = g.job_id', 'which is on no list any more');

-- Attempts that a prune carried on hold their slots until they end, also if they end together.

select awa.configure_queue('tap/84/carried', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('tap/84/carried', 'x y z x y') \g /dev/null
select is(pg_temp.claimed('tap/84/carried'), 'x y z', 'of a batch of three');
select awa.complete(pg_temp.receipt('tap/84/carried', 'z')) \g /dev/null
select ok(pg_temp.carried('tap/84/carried', 'x'), 'whose segment is pruned');
select is(pg_temp.claimed('tap/84/carried'), null, 'two are carried on and hold their slots');
select count(*) from awa.complete_many(array(
  select row(c.ready_slot, c.batch_id, u.job_id, 1)::awa.receipt
  from held as h, awa.claims as c, unnest(c.job_ids) as u (job_id)
  where h.queue = 'tap/84/carried' and h.key <> 'z' and u.job_id = h.job_id)) \g /dev/null
select is(pg_temp.claimed('tap/84/carried'), 'x y', 'and free them when they end');

-- A parked job that is updated waits for its time, and for none that never comes.

select awa.configure_queue('tap/84/never', '{"concurrency_limit": 1}') \g /dev/null
create temp table never as select n, awa.enqueue('k', queue => 'tap/84/never', concurrency_key => 'c') as id from generate_series(1, 4) as n;
create temp table runs as select c.job_id, c.receipt from awa.claim('tap/84/never', 9) as c;
select results_eq($$ update awa.jobs as j set run_at = now() + interval '1 hour' from never as n where n.n = 2 and j.id = n.id
  returning j.state::text, j.run_at, j.metadata $$,
  $$ values ('scheduled', now() + interval '1 hour', '{"awa:concurrency_key": "c"}'::jsonb) $$, 'one that is put off is returned as it will be');
select is((select j.metadata from awa.jobs as j join never as n on n.n = 2 and j.id = n.id), '{"awa:concurrency_key": "c"}', 'one that is put off has no earlier time left');
select results_eq($$ update awa.jobs as j set priority = 3 from never as n where n.n in (3, 4) and j.id = n.id
  returning j.state::text, j.run_at, j.metadata $$,
  $$ values ('available', now(), '{"awa:concurrency_key": "c"}'::jsonb), ('available', now(), '{"awa:concurrency_key": "c"}') $$,
  'and so is one that goes back into its lane');
update awa.jobs as j set run_at = 'infinity' from never as n where n.n in (2, 3, 4) and j.id = n.id;
update awa.jobs as j set priority = 4 from never as n where n.n = 2 and j.id = n.id;
select is((select j.run_at from awa.jobs as j join never as n on n.n = 2 and j.id = n.id), 'infinity'::timestamptz, 'nor if it is updated again');
select awa.complete(r.receipt) from runs as r \g /dev/null
select is_empty($$ select c.job_id from awa.claim('tap/84/never', 9) as c $$, 'a claim leaves it alone');
select awa.configure_queue('tap/84/never', '{"concurrency_limit": null}'), awa.maintain() \g /dev/null
select is_empty($$ select j.id from never as n join awa.jobs as j on j.id = n.id where n.n > 1 and j.run_at < 'infinity' $$, 'so does the end of the limit');
select is_empty($$ select p.job_id from awa.parked_jobs as p where p.queue = 'tap/84/never' $$, 'it is on no list any more');

-- Nor does any producer make a job look as if it had been set aside.
select awa.enqueue('k', queue => 'tap/84/own', run_at => 'infinity', metadata => '{"awa:run_at": "2020-01-01"}'),
  awa.enqueue('k', queue => 'tap/84/own', metadata => '{"awa:run_at": "2020-01-01"}',
    follow_ups => '{"completed": [{"kind": "next", "metadata": {"m": 1, "awa:run_at": "2020-01-01"}, "delay": "1 hour"}]}'),
  awa.enqueue_many('k', array['1', '2']::jsonb[], queue => 'tap/84/own', run_at => 'infinity', metadata => '{"m": 1, "awa:run_at": "2020-01-01"}'),
  awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k', 'queue', 'tap/84/own', 'run_at', 'infinity', 'metadata', '{"awa:run_at": "2020-01-01"}'::jsonb))),
  awa.insert_job_compat('k', 'tap/84/own', p_run_at => 'infinity', p_metadata => '{"awa:run_at": "2020-01-01"}')
from generate_series(1, 4) \g /dev/null
insert into awa.jobs (kind, queue, run_at, metadata) values ('k', 'tap/84/own', 'infinity', '{"awa:run_at": "2020-01-01"}');
select awa.complete(c.receipt) from awa.claim('tap/84/own') as c \g /dev/null
select is_empty($$ select j.id, j.metadata from awa.jobs as j where j.queue = 'tap/84/own' and j.metadata ? 'awa:run_at' $$,
  'the time from which a job was set aside is nobody''s to give');
select is((select count(*) from awa.jobs as j where j.queue = 'tap/84/own' and j.metadata ->> 'm' = '1'), 3::bigint, 'what else was given is there');

-- Arguments

select throws_ok($$ select awa.enqueue('k', concurrency_key => '') $$, 'AW006', $$concurrency_key '' has 0 characters$$, 'a key has a character at least');
select throws_ok($$ select awa.configure_queue('tap/84', '{"concurrency_limit": 0}') $$, 'AW006', null, 'a limit is one at least');
select awa.enqueue_many('[{"kind": "k", "queue": "tap/84/many", "concurrency_key": "z"}]'::jsonb) \g /dev/null
select is((select j.metadata from awa.jobs as j where j.queue = 'tap/84/many'), '{"awa:concurrency_key": "z"}', 'enqueue_many takes keys');

select is_empty($$ select * from awa.check() $$, 'check() finds nothing');
select * from finish();
rollback;
