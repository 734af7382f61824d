-- Jobs that follow a job's end.
begin;
select plan(48);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

create function pg_temp.claim_new (p_max_attempts integer default 2) returns awa.receipt
  language plpgsql as $$
begin
  perform awa.enqueue('first', queue => 'tap/86', max_attempts => p_max_attempts, follow_ups => '{
    "completed": [{"kind": "receipt", "args": {"a": 1}, "priority": 3, "tags": ["t"], "metadata": {"m": 1}}, {"kind": "index", "queue": "tap/86/index"}],
    "failed": [{"kind": "sorry"}], "exhausted": [{"kind": "alarm", "delay": "1 hour", "max_attempts": 7}]}');
  return (select c.receipt from awa.claim('tap/86') as c where c.kind = 'first');
end;
$$;
-- What follows a job, and takes it away.
create function pg_temp.following (p_receipt awa.receipt) returns text
  language plpgsql as $$
declare v text;
begin
  select string_agg(j.kind || ' ' || j.state, ', ' order by j.id) into v from awa.jobs as j where j.metadata -> 'awa:follows' = to_jsonb((p_receipt).job_id);
  delete from awa.jobs as j where j.metadata ? 'awa:follows';
  return v;
end;
$$;

select pg_temp.claim_new() as r \gset
select awa.complete(:'r') \g /dev/null
select results_eq(
  format($$ select j.kind, j.queue, j.args, j.priority, j.tags, j.metadata from awa.jobs as j where j.metadata ? 'awa:follows' order by j.id $$),
  format($$ values ('receipt', 'tap/86', '{"a": 1}'::jsonb, 3::smallint, '{t}'::text[], '{"m": 1, "awa:follows": %1$s}'::jsonb),
    ('index', 'tap/86/index', '{}', 2::smallint, '{}', '{"awa:follows": %1$s}') $$, (:'r'::awa.receipt).job_id), 'what follows a completed job is as named');
select is(pg_temp.following(:'r'), 'receipt available, index available', 'at once');
select ok(not awa.complete(:'r'), 'a stale finish');
select is(pg_temp.following(:'r'), null, 'brings nothing');

select pg_temp.claim_new() as r \gset
select is_empty(format('select * from awa.complete_many(array[%L::awa.receipt])', :'r'), 'complete_many');
select is(pg_temp.following(:'r'), 'receipt available, index available', 'too');
create temp table many as
select c.receipt from awa.enqueue('first', queue => 'tap/86/many', follow_ups => '{"completed": [{"kind": "next"}]}') as a,
  awa.enqueue('other', queue => 'tap/86/many') as b, awa.enqueue('first', queue => 'tap/86/many', follow_ups => '{"completed": [{"kind": "next"}]}') as c1,
  awa.claim('tap/86/many', 9) as c;
select is_empty($$ select * from awa.complete_many(array(select m.receipt from many as m)) $$, 'a batch of some with and one without');
select is((select count(*) from awa.jobs as j where j.queue = 'tap/86/many' and j.kind = 'next'), 2::bigint, 'brings what follows each');

select pg_temp.claim_new() as r \gset
select is(awa.fail(:'r', 'e', '1 hour'), 'retryable', 'a failure that is retried');
select is(pg_temp.following(:'r'), null, 'is no end');
delete from awa.jobs as j where j.id = (:'r'::awa.receipt).job_id;
select pg_temp.claim_new() as r \gset
select awa.fail(:'r', 'e', terminal => true) \g /dev/null
select is(pg_temp.following(:'r'), 'sorry available', 'a terminal one is');
select pg_temp.claim_new(1) as r \gset
select awa.fail(:'r', 'e') \g /dev/null
select is((select j.max_attempts from awa.jobs as j where j.kind = 'alarm'), 7::smallint, 'what follows the last attempt');
select is(pg_temp.following(:'r'), 'alarm scheduled', 'waits for its delay');
select awa.configure_queue('tap/86', '{"dlq_enabled": true}') \g /dev/null
select pg_temp.claim_new(1) as r \gset
select awa.fail(:'r', 'e') \g /dev/null
select is(pg_temp.following(:'r'), 'alarm scheduled', 'a dead letter is followed too');
select pg_temp.claim_new() as r \gset
select awa.cancel((:'r'::awa.receipt).job_id) \g /dev/null
select is(pg_temp.following(:'r'), null, 'nothing follows a cancelled job');

select pg_temp.claim_new() as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select awa.complete_callback(:'id') \g /dev/null
select is(pg_temp.following(:'r'), 'receipt available, index available', 'an answered callback is an end');
select pg_temp.claim_new() as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select awa.complete(:'r') \g /dev/null
select is(pg_temp.following(:'r'), 'receipt available, index available', 'so is a waiting job''s receipt');
select pg_temp.claim_new(1) as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select awa.fail_callback(:'id') \g /dev/null
select is(pg_temp.following(:'r'), 'alarm scheduled', 'and a failed answer');

select awa.configure_queue('tap/86/index', '{"max_depth": 1}') \g /dev/null
select awa.enqueue('k', queue => 'tap/86/index') \g /dev/null
select pg_temp.claim_new() as r \gset
select ok(awa.complete(:'r'), 'a full queue does not keep a job from its end');
select is(pg_temp.following(:'r'), 'receipt available, index available', 'nor what follows');

select throws_ok(format($$ select awa.enqueue('k', follow_ups => %L) $$, f), 'AW006', null, 'refused: ' || f)
from unnest(array['[]', '{"done": []}', '{"completed": {}}', '{"completed": [{"kind": "k", "unique_key": "x"}]}', '{"completed": [{"kind": "k", "priority": 9}]}',
  '{"completed": [{"kind": "k", "delay": "soon"}]}', '{"completed": [{"kind": "k", "delay": {"minutes": 5}}]}', '{"completed": [{"kind": "k", "deadline": {"hours": 1}}]}', '{"completed": [{"kind": {"name": "k"}}]}', '{"completed": [{"kind": "k", "queue": ["q"]}]}', '{"completed": [{"kind": "k", "concurrency_key": {"tenant": 1}}]}', '{"completed": [{"kind": "k", "tags": [[[[[[["t"]]]]]]]}]}']) as f;

-- Intervals are the producer's, whatever the style of whoever ends the job.
set local intervalstyle = 'postgres';
select awa.enqueue('first', queue => 'tap/86/style', follow_ups => '{"completed": [{"kind": "then", "delay": "-1 day 50 hours", "deadline": "-1 day 26 hours",
  "follow_ups": {"completed": [{"kind": "last", "args": {"a": null}, "delay": "-1 mon 62 days", "tags": null, "follow_ups": null, "concurrency_key": null}]}}]}') \g /dev/null
set local intervalstyle = 'sql_standard';
set local awa.now = '2098-05-31 12:00Z';
select ok(awa.complete(c.receipt), 'ended under another intervalstyle') from awa.claim('tap/86/style') as c;
select is((select j.run_at from awa.jobs as j where j.kind = 'then'), timestamptz '2098-06-01 14:00Z', 'the delay is the producer''s');
set local awa.now = '2098-06-01 14:00Z';
select awa.maintain() \g /dev/null
select is(c.deadline_at, timestamptz '2098-06-01 16:00Z', 'so is the deadline') from awa.claim('tap/86/style') as c where awa.complete(c.receipt);
select is((select j.run_at from awa.jobs as j where j.kind = 'last'), timestamptz '2098-07-02 14:00Z', 'and what follows that');
select is((select j.args from awa.jobs as j where j.kind = 'last'), '{"a": null}', 'which is as named');
set local awa.now = '';
reset intervalstyle;

-- By hand, past all checks
set local client_min_messages = error;
select awa.enqueue('first', queue => 'tap/86/hand', max_attempts => 1, metadata => '{"awa:follow_ups": {
  "completed": [{"kind": "next", "tags": [[[[[[["t"]]]]]]]}], "exhausted": [{"kind": "next", "tags": [[[[[[["t"]]]]]]]}]}}')
from generate_series(1, 2) \g /dev/null
select awa.enqueue('other', queue => 'tap/86/hand') \g /dev/null
create temp table by_hand as select c.receipt, row_number() over () as n from awa.claim('tap/86/hand', 9) as c;
select is_empty($$ select * from awa.complete_many(array(select h.receipt from by_hand as h where h.n > 1)) $$, 'follow-ups that nobody can enqueue');
select is(awa.fail(h.receipt, 'e'), 'failed', 'keep no job from its end') from by_hand as h where h.n = 1;
select set_eq($$ select j.kind || ' ' || j.state from awa.jobs as j where j.queue = 'tap/86/hand' $$,
  array['first completed', 'first failed', 'other completed'], 'nor others that end with it');
select is((select count(*) from awa.jobs as j where j.kind = 'next'), 0::bigint, 'and do not come');
select awa.enqueue('k', queue => 'tap/86/late', metadata => jsonb_build_object('awa:follow_ups', jsonb_build_object('completed', jsonb_build_array(f.job))))
from unnest(array['{"kind": "next", "queue": "tap/86/late", "deadline": "170000000 years"}', '{"kind": "next", "queue": "tap/86/late", "deadline": "-1 hour"}',
  '{"kind": "next", "queue": "tap/86/late", "delay": "-1 hour"}', '{"kind": "next", "queue": "tap/86/late", "delay": "170000000 years"}']::jsonb[]) as f (job) \g /dev/null
select is((select count(*) from awa.claim('tap/86/late', 9) as c where awa.complete(c.receipt)), 4::bigint, 'nor one with a time that is out of bounds,');
select is_empty($$ select c.job_id from awa.claim('tap/86/late', 9) as c $$, 'which would fail every claim of its queue');
create temp table crowd as select n, jsonb_build_object('completed', (select jsonb_agg('{"kind": "next"}'::jsonb) from generate_series(1, n))) as follow_ups
from unnest(array[1000, 1001]) as n;
select lives_ok($$ select awa.enqueue('k', queue => 'tap/86/crowd', follow_ups => c.follow_ups) from crowd as c where c.n = 1000 $$, 'a thousand may follow');
select throws_ok($$ select awa.enqueue('k', queue => 'tap/86/crowd', follow_ups => c.follow_ups) from crowd as c where c.n = 1001 $$, 'AW006',
  '1001 jobs are to follow', 'and no more');
select awa.enqueue('k', queue => 'tap/86/crowd', metadata => jsonb_build_object('awa:follow_ups', c.follow_ups)) from crowd as c where c.n = 1001 \g /dev/null
select is((select count(*) from awa.claim('tap/86/crowd', 9) as c where awa.complete(c.receipt)), 2::bigint, 'nor by hand');
select is((select count(*) from awa.jobs as j where j.kind = 'next'), 1000::bigint, 'so that no end takes long');

select is_empty($$ select * from awa.check() $$, 'check() finds nothing');
select * from finish();
rollback;
