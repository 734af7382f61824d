-- Lanes: one stream per queue, priority and shard.
begin;
select plan(17);
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

select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
