-- Lanes: one stream per queue, priority and shard.
begin;
select plan(26);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

create function pg_temp.shards (p_queue text) returns setof smallint
  language sql as $$
  select l.enqueue_shard from awa.ready_entries as r
  join (select distinct lane, queue, enqueue_shard from awa.queue_lanes) as l on l.lane = r.lane
  where l.queue = p_queue
$$;

-- One shard unless told otherwise

select awa.enqueue('k', queue => 'tap/12/one', ordering_key => n::text) from generate_series(1, 50) as n \g /dev/null
select results_eq($$ select distinct s from pg_temp.shards('tap/12/one') as s $$, 'values (0::smallint)',
  'a queue has one shard by default, whatever the ordering keys');

-- Eight shards

select lives_ok($$ select awa.configure_queue('tap/12/eight', '{"enqueue_shards": 8}') $$, 'a queue can have eight shards');
select awa.enqueue('keyed', to_jsonb(n), queue => 'tap/12/eight', ordering_key => 'key ' || n % 40) from generate_series(1, 400) as n \g /dev/null
select is_empty(
  $$ select r.ordering_key from awa.ready_entries as r
     join awa.queue_lanes as l on l.lane = r.lane and l.queue = 'tap/12/eight'
     group by r.ordering_key having count(distinct r.lane) > 1 $$,
  'one ordering key always goes to one lane');
select is((select array_agg(distinct s order by s) from pg_temp.shards('tap/12/eight') as s), array[0, 1, 2, 3, 4, 5, 6, 7]::smallint[],
  'forty ordering keys spread over all eight shards');
select awa.enqueue_many('keyed', array['"bulk"']::jsonb[], queue => 'tap/12/eight', ordering_key => 'key 7') \g /dev/null
select awa.enqueue_many('[{"kind": "keyed", "args": "json", "ordering_key": "key 7"}]', queue => 'tap/12/eight') \g /dev/null
select is((select count(distinct r.lane) from awa.ready_entries as r
    join awa.queue_lanes as l on l.lane = r.lane and l.queue = 'tap/12/eight' where r.ordering_key = 'key 7'), 1::bigint,
  'single, bulk and JSON producers agree on the lane of an ordering key');

create temp table got as select c.*, row_number() over () as n from awa.claim('tap/12/eight', 1000) as c;
select is((select count(distinct job_id) from got), 402::bigint, 'one claim drains every shard');
select is_empty(
  $$ select r.ordering_key from got as g join awa.ready_entries as r on r.job_id = g.job_id
     group by r.ordering_key having array_agg(g.job_id order by g.n) <> array_agg(g.job_id order by g.job_id) $$,
  'jobs of one ordering key are handed out in order');

select lives_ok($$ select awa.configure_queue('tap/12/loose', '{"enqueue_shards": 4}') $$, 'another queue has four');
select awa.enqueue('loose', queue => 'tap/12/loose') from generate_series(1, 200) \g /dev/null
select is((select array_agg(distinct s order by s) from pg_temp.shards('tap/12/loose') as s), array[0, 1, 2, 3]::smallint[],
  'jobs without an ordering key spread over all shards');

-- Fewer shards later lose nothing

select lives_ok($$ select awa.configure_queue('tap/12/loose', '{"enqueue_shards": null}') $$, 'null resets the number of shards');
select awa.enqueue('loose', queue => 'tap/12/loose') from generate_series(1, 10) \g /dev/null
select is((select count(*) from awa.claim('tap/12/loose', 1000)), 210::bigint, 'after that the former shards are still drained');

-- Priorities

select awa.enqueue('p', to_jsonb(p), queue => 'tap/12/priority', priority => p)
from generate_series(1, 3) as n, unnest(array[3, 1, 4, 2]) as p order by n, p desc \g /dev/null
select results_eq($$ select priority::integer from awa.claim('tap/12/priority', 5) $$, 'values (1), (1), (1), (2), (2)',
  'a claim takes the lower priority number first and goes on to the next');
select awa.enqueue('p', queue => 'tap/12/priority', priority => 1) \g /dev/null
select results_eq($$ select priority::integer from awa.claim('tap/12/priority', 100) $$,
  'values (1), (2), (3), (3), (3), (4), (4), (4)', 'a late urgent job overtakes what waits below it');
select is_empty($$ select * from awa.claim('tap/12/priority', 100) $$, 'then the queue is empty');

-- Two queues with the same lanes otherwise

select awa.enqueue('k', to_jsonb(q), queue => q) from unnest(array['tap/12/a', 'tap/12/b', 'TAP/12/a', 'tap/12/a ']) as q \g /dev/null
select bag_eq($$ select q, c.args #>> '{}' from unnest(array['tap/12/a', 'tap/12/b', 'TAP/12/a', 'tap/12/a ']) as q
    cross join lateral awa.claim(q, 10) as c $$,
  $$ select q, q as name from unnest(array['tap/12/a', 'tap/12/b', 'TAP/12/a', 'tap/12/a ']) as u (q) $$,
  'queues whose names differ in case or blanks are different queues');

-- What a caller's collation takes for equal has one lane each all the same. Without ICU
-- there is no such collation.
create function pg_temp.alike () returns void
  language plpgsql as $$
begin
  create collation pg_temp.alike (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  execute $q$ select awa.enqueue('k', queue => 'tap/12/c' collate pg_temp.alike), awa.enqueue('k', queue => 'TAP/12/C' collate pg_temp.alike),
    awa.enqueue('k', queue => 'TAP/12/C') $q$;
end;
$$;
select case when exists (select from pg_collation where collprovider = 'i') then pg_temp.alike() end \g /dev/null
select case when exists (select from pg_collation where collprovider = 'i')
  then results_eq(
    $$ select l.queue, count(distinct r.lane), count(distinct r.job_id) from awa.ready_entries as r join awa.queue_lanes as l on l.lane = r.lane
       where l.queue in ('tap/12/c', 'TAP/12/C') group by l.queue order by l.queue collate "C" $$,
    $$ values ('TAP/12/C', 1::bigint, 2::bigint), ('tap/12/c', 1::bigint, 1::bigint) $$,
    'nor does the collation that a name comes with make one queue of two, or two lanes of one')
  else skip('this server has no ICU') end;
-- Nor are the settings of one queue another's, or its jobs.
create function pg_temp.strict () returns text
  language plpgsql as $$
declare
  v_told text := '';
  v_took text;
begin
  perform awa.configure_queue('TAP/12/D', '{"notify": false}'), awa.configure_queue('tap/12/d', '{"max_depth": 1}');
  perform awa.enqueue('paused', queue => 'tap/12/d');
  begin
    execute $q$ select awa.enqueue('k', queue => 'tap/12/d' collate pg_temp.alike) $q$;
  exception when sqlstate 'AW007' then
    v_told := v_told || 'full ';
  end;
  begin
    execute $q$ select awa.enqueue_many('k', array['1']::jsonb[], queue => 'tap/12/d' collate pg_temp.alike) $q$;
  exception when sqlstate 'AW007' then
    v_told := v_told || 'full ';
  end;
  execute $q$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "queue": "TAP/12/E"}, {"kind": "k"}, {"kind": "k", "queue": "TAP/12/E"}]',
    queue => 'tap/12/e' collate pg_temp.alike) $q$;
  perform awa.enqueue('k', queue => 'TAP/12/D'), awa.pause_queue('tap/12/d');
  for i in 1 .. 2 loop
    execute $q$ select string_agg(c.kind, ' ') from unnest(array['tap/12/d', 'TAP/12/D']) as u (queue) cross join lateral awa.claim(u.queue collate pg_temp.alike, 10) as c $q$ into v_took;
    v_told := v_told || coalesce(v_took, 'none') || ' ';
  end loop;
  return v_told || (select string_agg(c.queue || ' ' || c.available, ' ' order by c.queue collate "C")
    from unnest('{TAP/12/E, tap/12/e}'::text[]) as u (queue), awa.queue_counts(u.queue) as c);
end;
$$;
select case when exists (select from pg_collation where collprovider = 'i')
  then is(pg_temp.strict(), 'full full k none TAP/12/E 2 tap/12/e 2', 'or its limits, or its place in one call with another')
  else skip('this server has no ICU') end;

-- A queue whose number is taken: by a name made for it, and the next number, too

\set pay 'tap/12/pay'
\set one 'l-fryhn-4Xwe'
\set two '}&?,u^pV#%dk'
select is(awa._lane(:'one', 2, 0), awa._lane(:'pay', 2, 0), 'a name with the hash of another is easily made');
select awa.enqueue('other', queue => q) from unnest(array[:'one', :'two']) as q \g /dev/null
select awa.enqueue('enqueue', queue => :'pay'), awa.enqueue('enqueue', queue => :'pay', unique_key => '\x12', run_at => now()),
  awa.enqueue_many('enqueue_many', array['1', '2']::jsonb[], queue => :'pay') \g /dev/null
select is(cardinality(awa.enqueue_many(format('[{"kind": "json"}, {"kind": "json", "queue": %s}, {"kind": "other", "queue": %s}]',
  to_json(:'pay'::text), to_json(:'one'::text))::jsonb, :'pay')), 3, 'jobs of both are taken in one call');
select is((select count(distinct lane) from awa.queue_lanes where queue = :'pay'), 1::bigint, 'the queue has one lane for all that');
select is((select hashtextextended(:'pay' collate "C", 2) & -256 from awa.queue_lanes where queue = :'pay' limit 1),
  (select lane & -256 from awa.queue_lanes where queue = :'pay' limit 1), 'of the first number that is nobody''s');
select bag_eq($$ select c.queue, c.kind, count(*) from awa.claim('tap/12/pay', 100) as c group by 1, 2 $$,
  $$ values ('tap/12/pay', 'enqueue', 2::bigint), ('tap/12/pay', 'enqueue_many', 2), ('tap/12/pay', 'json', 2) $$,
  'a queue whose number is another''s gives all its jobs, and no others');

select awa.enqueue('first', queue => 'tap/12/src', max_attempts => 1, follow_ups => jsonb_build_object('completed', jsonb_build_array(
  jsonb_build_object('kind', 'follow', 'queue', :'pay')))) \g /dev/null
select awa.complete(c.receipt) from awa.claim('tap/12/src') as c \g /dev/null
select awa.enqueue('retry', queue => 'tap/12/src'), awa.enqueue('letter', queue => 'tap/12/src') \g /dev/null
select awa.fail(c.receipt, 'x', terminal => true) from awa.claim('tap/12/src', 2) as c \g /dev/null
select awa.move_failed_to_dlq(id) from awa.done_entries where queue = 'tap/12/src' and kind = 'letter' \g /dev/null
select awa.retry(id, queue => :'pay') from awa.done_entries where queue = 'tap/12/src' and kind = 'retry' \g /dev/null
select awa.retry_from_dlq(id, queue => :'pay') from awa.dlq_entries where queue = 'tap/12/src' \g /dev/null
select awa.upsert_schedule('tap/12', '* * * * * *', 'cron', queue => :'pay') \g /dev/null
select set_config('awa.now', (clock_timestamp() + interval '2 seconds')::text, true) \g /dev/null
select awa.maintain() \g /dev/null
select bag_eq($$ select distinct c.queue, c.kind from awa.claim('tap/12/pay', 100) as c $$,
  $$ select 'tap/12/pay', k from unnest(array['follow', 'retry', 'letter', 'cron']) as k $$, 'so do all that bring a job there');
select set_config('awa.now', '', true) \g /dev/null
select bag_eq($$ select q, c.queue, c.kind from unnest(array['l-fryhn-4Xwe', '}&?,u^pV#%dk']) as q cross join lateral awa.claim(q, 100) as c $$,
  $$ values ('l-fryhn-4Xwe', 'l-fryhn-4Xwe', 'other'), ('l-fryhn-4Xwe', 'l-fryhn-4Xwe', 'other'), ('}&?,u^pV#%dk', '}&?,u^pV#%dk', 'other') $$,
  'and the other queues their own');
-- As remove_queue leaves it, which wants transactions to end.
savepoint freed;
delete from awa.queue_lanes where queue in (:'one', :'two');
select awa.enqueue('later', queue => :'pay') \g /dev/null
select is((select count(distinct lane) from awa.queue_lanes where queue = :'pay'), 1::bigint, 'a queue keeps its lane when the first number becomes free');
rollback to freed;

select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
