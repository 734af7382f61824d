-- Unique keys: who holds one in which state, and when it is given back.
begin;
select plan(129);
-- Alone: turns the ring.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

\ir counters.psql
-- Whose the key is: the holder's id, null when nobody could be refused for it.
create function pg_temp.holder (p_key bytea) returns bigint
  language plpgsql as $$
declare
  v_id bigint;
  v_holder bigint;
begin
  begin
    v_id := awa.enqueue('probe', queue => 'tap/63/probe', unique_key => p_key);
    if v_id <> currval('awa.job_id_seq') then
      v_holder := v_id;
    end if;
    raise exception using errcode = 'TAP00';
  exception when sqlstate 'TAP00' then
    return v_holder;
  end;
end;
$$;
create function pg_temp.claimed (p_key bytea) returns boolean
  language sql as 'select exists (select from awa.job_unique_claims as u where u.unique_key = p_key)';

-- A job in each state, its mask as given; returns its id.
create function pg_temp.job_in (p_state text, p_key bytea, p_mask bit(8)) returns bigint
  language plpgsql as $$
declare
  v_queue text := 'tap/63/' || p_state;
  v_id    bigint;
begin
  v_id := awa.enqueue('k', queue => v_queue, unique_key => p_key, unique_states => p_mask,
    run_at => case when p_state = 'scheduled' then now() + interval '1 day' end);
  case p_state
  when 'available', 'scheduled' then null;
  when 'running' then perform awa.claim(v_queue);
  when 'completed' then perform awa.complete(c.receipt) from awa.claim(v_queue) as c;
  when 'failed', 'dead' then perform awa.fail(c.receipt, 'e', terminal => true) from awa.claim(v_queue) as c;
  when 'retryable' then perform awa.fail(c.receipt, 'e', retry_after => '1 day') from awa.claim(v_queue) as c;
  when 'cancelled' then perform awa.cancel(v_id);
  end case;
  if p_state = 'dead' then
    perform awa.move_failed_to_dlq(v_id);
  end if;
  return v_id;
end;
$$;
create function pg_temp.mask (p_bit integer) returns bit(8)
  language sql as $$ select set_bit(b'00000000', p_bit - 1, 1) $$;

-- Masks, state by state

create temp table states (state text, bit integer);
insert into states values ('scheduled', 1), ('available', 2), ('running', 3), ('completed', 4), ('retryable', 5), ('failed', 6), ('cancelled', 7), ('dead', 6);
-- Each is enqueued with the bit that it is enqueued in as well: a job takes a
-- key as it enters its mask.
create temp table held as
select s.state, s.bit, ('\x6300'::bytea || decode(lpad(to_hex(row_number() over ()), 2, '0'), 'hex')) as key, pg_temp.mask(s.bit) | pg_temp.mask(case s.state when 'scheduled' then 1 else 2 end) as mask, 0::bigint as id
from states as s order by s.bit, s.state;
update held set id = pg_temp.job_in(state, key, mask);
select is(pg_temp.holder(key), id, format('a %s job holds its key when its mask has that state', state)) from held order by bit, state;
create temp table lost as
select s.state, ('\x6310'::bytea || decode(lpad(to_hex(row_number() over ()), 2, '0'), 'hex')) as key, ~pg_temp.mask(s.bit) as mask, 0::bigint as id from states as s;
update lost set id = pg_temp.job_in(state, key, mask);
select is(pg_temp.holder(key), null, format('a %s job does not when its mask has every state but that', state)) from lost order by state;
select is_empty('select * from awa.check()', 'check has nothing to say about keys');

-- The default mask

create temp table defaults as
select s.state, ('\x6320'::bytea || decode(lpad(to_hex(row_number() over ()), 2, '0'), 'hex')) as key, 0::bigint as id from states as s;
update defaults set id = pg_temp.job_in(state, key, null);
select is((select array_agg(state order by state) from defaults where pg_temp.holder(key) = id), array['available', 'completed', 'retryable', 'running', 'scheduled'],
  'by default a job holds its key until it fails or is cancelled');
select is((select array_agg(unique_states::text) from awa.jobs where id in (select id from defaults) and unique_states <> b'11111000'), null, 'and jobs shows that mask');

-- Released by whatever removes a job

create temp table away as
select s.state, ('\x6330'::bytea || decode(lpad(to_hex(row_number() over ()), 2, '0'), 'hex')) as key, 0::bigint as id from states as s;
update away set id = pg_temp.job_in(state, key, b'11111111');
select is((select count(*) from away where pg_temp.holder(key) = id), 8::bigint, 'eight jobs hold their keys');
select is(awa.delete_job_compat(id) and not pg_temp.claimed(key), true, format('a %s job that is deleted leaves no key', state)) from away order by state;
update away set id = pg_temp.job_in(state, key, b'11111111');
delete from awa.jobs where id in (select id from away);
select is((select array_agg(state) from away where pg_temp.claimed(key)), array['dead'], 'nor do many that one DELETE removes; a dead letter is not in jobs');
select is(pg_temp.holder(key), id, 'and still holds its key') from away where state = 'dead';
select is(awa.purge_dlq('tap/63/dead', max_jobs => null) > 0 and not exists (select from away where pg_temp.claimed(key)), true, 'until it is purged');

create temp table discarded as select n, ('\x6340'::bytea || decode(lpad(to_hex(n), 2, '0'), 'hex')) as key, 0::bigint as id from generate_series(1, 5) as n;
update discarded set id = awa.enqueue('gone63', queue => 'tap/63/discard', unique_key => key, unique_states => b'11111111');
select awa.fail_many(array_agg(c.receipt), terminal => true) from awa.claim('tap/63/discard', 4) as c \g /dev/null
select is(awa.discard_failed_by_kind('gone63'), 4::bigint, 'four of five jobs are discarded');
select is((select array_agg(n) from discarded where pg_temp.claimed(key)), array[5], 'only the waiting one has its key left');
select is(pg_temp.holder(key), id, 'and holds it') from discarded where n = 5;

-- A DLQ move keeps the key of a mask with failed, and only that

select awa.enqueue('k', queue => 'tap/63/move', unique_key => '\x6350', unique_states => b'11111111') as keeps \gset
select awa.enqueue('k', queue => 'tap/63/move', unique_key => '\x6351') as loses \gset
select awa.fail_many(array_agg(c.receipt), terminal => true) from awa.claim('tap/63/move', 2) as c \g /dev/null
select is(awa.bulk_move_failed_to_dlq('tap/63/move'), 2::bigint, 'two letters');
select is(pg_temp.holder('\x6350'), :keeps::bigint, 'one whose mask has failed holds its key');
select is(pg_temp.holder('\x6351'), null, 'the other does not');
select is(awa.enqueue('k', queue => 'tap/63/move', unique_key => '\x6350'), :keeps::bigint, 'so a new job of that key is not added');
select awa.enqueue('k', queue => 'tap/63/move', unique_key => '\x6351') as taker \gset
select throws_ok(format('select awa.retry_from_dlq(%s)', :loses), 'AW004', null, 'and the other letter cannot come back while a job has its key');
select is(awa.retry_from_dlq(:keeps), true, 'the first one can');
select is(pg_temp.holder('\x6350'), :keeps::bigint, 'and has its key as before');
select is(awa.purge_dlq('tap/63/move'), 1::bigint, 'a letter that lost its key is purged');
select is(pg_temp.holder('\x6351'), :taker::bigint, 'without taking the key from the job that has it now');
select awa.configure_queue('tap/63/auto', '{"dlq_enabled": true}') \g /dev/null
select awa.enqueue('k', queue => 'tap/63/auto', unique_key => '\x6352', unique_states => b'11111111') as auto \gset
select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('tap/63/auto') as c \g /dev/null
select is(pg_temp.holder('\x6352'), :auto::bigint, 'a queue that dead-letters by itself keeps the key too');

-- Retry against a holder

select pg_temp.job_in('failed', '\x6360', b'11111000') as first \gset
select pg_temp.job_in('cancelled', '\x6360', b'11111000') as second \gset
select isnt(:first::bigint, :second::bigint, 'two jobs in history had the same key, one after the other');
select awa.enqueue('k', queue => 'tap/63/retry', unique_key => '\x6360') as third \gset
select throws_ok(format('select awa.retry(%s)', id), 'AW004', null, 'neither comes back while a third has it') from unnest(array[:first, :second]) as id;
select count(awa.complete(c.receipt)) from awa.claim('tap/63/retry') as c \g /dev/null
select throws_ok(format('select awa.retry(%s)', :first), 'AW004', null, 'nor when that has completed: its mask has that');
select awa.delete_job_compat(:third) \g /dev/null
select is(awa.retry(:second), true, 'once it is deleted one of them does');
select throws_ok(format('select awa.retry(%s)', :first), 'AW004', null, 'which is then in the way of the other');
select is(pg_temp.holder('\x6360'), :second::bigint, 'it has the key');
select pg_temp.job_in('failed', '\x6361', b'11111000') as first \gset
select awa.delete_job_compat(:first), awa.enqueue('k', queue => 'tap/63/retry', unique_key => '\x6361') as third \gset
select is(awa.retry(:first), false, 'a deleted job does not come back');
select is(pg_temp.holder('\x6361'), :third::bigint, 'and takes no key');

-- A job that fails when its key has gone to another

select awa.enqueue('k', queue => 'tap/63/lost', unique_key => '\x6362', unique_states => b'11000000') as runs \gset
create temp table runs as select * from awa.claim('tap/63/lost');
select awa.enqueue('k', queue => 'tap/63/lost2', unique_key => '\x6362') as waits \gset
select isnt(:waits::bigint, :runs::bigint, 'a mask without running gives the key away at the claim');
select is(awa.fail(receipt, 'e', retry_after => '0'), 'retryable', 'its retryable state does not need the key') from runs;
select count(*) from awa.maintain() \g /dev/null
select is((select state::text from awa.jobs where id = :runs), 'cancelled', 'but being available does: it is cancelled instead of promoted');
select is(pg_temp.holder('\x6362'), :waits::bigint, 'the key stays where it is');

-- Of attempts with one key that one call fails one comes back

create temp table failing (kind text, receipt awa.receipt);
create function pg_temp.fail_both (p_queue text, p_key bytea, p_attempts integer[], p_leased boolean[], p_first boolean) returns text[]
  language plpgsql as $$
declare
  v_states text[];
begin
  for i in 1 .. 2 loop
    perform awa.enqueue('k' || i, queue => p_queue, unique_key => p_key, unique_states => b'11001000', max_attempts => p_attempts[i]);
    insert into failing select c.kind, c.receipt from awa.claim(p_queue) as c;
    perform awa.register_callback(f.receipt, '1 hour') from failing as f where p_leased[i] and f.kind = 'k' || i;
  end loop;
  v_states := array(
    select f.state::text
    from awa.fail_many(array(select g.receipt from failing as g order by (g.kind = 'k1') = p_first desc)) as f
    join failing as g on (g.receipt).job_id = (f.receipt).job_id
    order by g.kind);
  truncate failing;
  return v_states || (select j.kind from awa.jobs as j where j.id = pg_temp.holder(p_key));
end;
$$;
select is(pg_temp.fail_both('tap/63/both/' || n, ('\x63a0'::bytea || decode(lpad(to_hex(n), 2, '0'), 'hex')), attempts, leased, n % 2 = 0),
  expected, format('attempts %s, leased %s: %s', attempts, leased, expected))
from (
  select row_number() over () as n, e.*
  from (values
    (array[5, 5], array[false, false], array['retryable', 'cancelled', 'k1']),
    (array[5, 5], array[true, false], array['retryable', 'cancelled', 'k1']),
    (array[5, 5], array[false, true], array['retryable', 'cancelled', 'k1']),
    (array[5, 5], array[true, true], array['retryable', 'cancelled', 'k1']),
    (array[1, 5], array[false, true], array['failed', 'retryable', 'k2']),
    (array[1, 5], array[true, false], array['failed', 'retryable', 'k2']),
    (array[1, 5], array[true, true], array['failed', 'retryable', 'k2']),
    (array[5, 1], array[true, false], array['retryable', 'failed', 'k1']),
    (array[5, 1], array[true, true], array['retryable', 'failed', 'k1'])) as e (attempts, leased, expected)
  cross join generate_series(1, 2) as twice
) as e;
select is_empty('select * from awa.check()', 'and it has the key');

-- A job that comes back to a key which another one took while it ran

create function pg_temp.overtaken (p_name text, p_end text) returns text
  language plpgsql as $$
declare
  v_key constant bytea := 'tap/63/overtaken/' || p_name;
  v_id  bigint := awa.enqueue('k', queue => 'tap/63/overtaken', unique_key => v_key, unique_states => b'10001000');
begin
  execute format('create temp table overtaken as select c.receipt from awa.claim(%L, lease => %L) as c', 'tap/63/overtaken', '1 microsecond');
  perform awa.enqueue('other', queue => 'tap/63/overtaking', unique_key => v_key);
  execute p_end;
  drop table overtaken;
  return (select format('%s: %s', j.state, j.errors[1] ->> 'error') from awa.jobs as j where j.id = v_id);
end;
$$;
select is(pg_temp.overtaken(title, sql), 'cancelled: another job has its unique key' || why, format('%s is cancelled and says why', title))
from (values
  ('a failure', 'select awa.fail(receipt, ''boom'') from overtaken', ': boom'),
  ('a snoozed job', 'select awa.snooze(receipt, ''1 hour'') from overtaken', ''),
  ('the failure of a callback', 'select awa.fail_callback(awa.register_callback(receipt, ''1 hour''), ''no'') from overtaken', ': no'),
  ('a rescued job', 'select count(*) from awa.maintain()', ': lease expired')
) as v (title, sql, why);

-- Keys that are taken later

select awa.enqueue('k', queue => 'tap/63/later', unique_key => '\x6370', unique_states => b'01000000', run_at => now() + interval '1 day') as early \gset
select is(pg_temp.claimed('\x6370'), false, 'a scheduled job does not take a key for available');
update awa.deferred_jobs set run_at = now() where job_id = :early;
select count(*) from awa.maintain() \g /dev/null
select is((select state::text from awa.jobs where id = :early), 'available', 'promoted, it is available');
select is(pg_temp.holder('\x6370'), :early::bigint, 'and has taken it');

select awa.enqueue('k', queue => 'tap/63/late', unique_key => '\x6371', unique_states => b'01000000', run_at => now() + interval '1 day') as late,
  awa.enqueue('k', queue => 'tap/63/late', unique_key => '\x6371', unique_states => b'01000000', run_at => now() + interval '2 days') as later \gset
select isnt(:late::bigint, :later::bigint, 'two scheduled jobs may have the same key for later');
update awa.deferred_jobs set run_at = run_at - interval '3 days' where job_id in (:late, :later);
select count(*) from awa.maintain() \g /dev/null
select is((select array_agg(state::text order by id) from awa.jobs where queue = 'tap/63/late'), array['available', 'cancelled'], 'when both are due the first one gets it, the other is cancelled');
select pg_temp.figures_are('tap/63/late', '0/0/1/0', 'and counted as such');
select results_eq('select errors[1] ->> ''error'' from awa.done_entries where queue = ''tap/63/late''', $$ values ('another job has its unique key') $$, 'it says why');

select awa.enqueue('k', queue => 'tap/63/update', unique_key => '\x6372', unique_states => b'01000000', run_at => now() + interval '1 day') as put_off,
  awa.enqueue('k', queue => 'tap/63/update', unique_key => '\x6372', unique_states => b'01000000', run_at => now() + interval '1 day') as twin \gset
update awa.jobs set run_at = now() where id = :put_off;
select is(pg_temp.holder('\x6372'), :put_off::bigint, 'brought forward by UPDATE a job takes the key');
select throws_ok(format('update awa.jobs set run_at = now() where id = %s', :twin), 'AW004', null, 'a second one is refused');
select is((select state::text from awa.jobs where id = :twin), 'scheduled', 'and waits on');
update awa.jobs set run_at = now() + interval '1 day' where id = :put_off;
select is(pg_temp.holder('\x6372'), null, 'put off, the first one has it no more');
select lives_ok(format('update awa.jobs set run_at = now() where id = %s', :twin), 'so that the second gets it');
select is(pg_temp.holder('\x6372'), :twin::bigint, 'and holds it');
select lives_ok($$ update awa.jobs set priority = 1 where queue = 'tap/63/update' $$, 'an update of all keeps each as it is');
select is(pg_temp.holder('\x6372'), :twin::bigint, 'with its key');
select awa.enqueue('k', queue => 'tap/63/both', unique_key => '\x6373', unique_states => b'01000000', run_at => now() + interval '1 day') as one,
  awa.enqueue('k', queue => 'tap/63/both', unique_key => '\x6373', unique_states => b'01000000', run_at => now() + interval '1 day') as two \gset
select throws_ok($$ update awa.jobs set run_at = now() where queue = 'tap/63/both' $$, 'AW004', null, 'of two that are brought forward in one statement not both can have the key');
select is((select array_agg(state::text) from awa.jobs where queue = 'tap/63/both'), array['scheduled', 'scheduled'], 'so that neither is');
select is(pg_temp.holder('\x6373'), null, 'and nobody has it');
select lives_ok($$ update awa.jobs set run_at = case when id = (select min(id) from awa.jobs where queue = 'tap/63/both') then now() else run_at end where queue = 'tap/63/both' $$, 'one of them may');
select is(pg_temp.holder('\x6373'), :one::bigint, 'and has it then');
select is_empty('select * from awa.check()', 'check has nothing to say about keys');

-- enqueue_many

create temp table many as
select n, id from unnest(awa.enqueue_many('[{"kind": "k", "unique_key": "\\x6381"}, {"kind": "k", "unique_key": "\\x6380"}, {"kind": "k"}, {"kind": "k", "unique_key": "\\x6381"},
  {"kind": "k", "unique_key": "\\x6382", "unique_states": "01000000", "run_at": "2999-01-01"}, {"kind": "k", "unique_key": "\\x6382"}]'::jsonb, queue => 'tap/63/many')) with ordinality as u (id, n);
select is((select count(distinct id) from many), 5::bigint, 'of six jobs five are added');
select is((select id from many where n = 4), (select id from many where n = 1), 'the duplicate has the id of the job that holds its key');
select is((select array_agg(id order by n) from many where n in (1, 2, 6)), array[pg_temp.holder('\x6381'), pg_temp.holder('\x6380'), pg_temp.holder('\x6382')], 'each key belongs to its job');
select results_eq('select available, scheduled from awa.queue_counts(''tap/63/many'')', 'values (4::bigint, 1::bigint)', 'the queue has five jobs');
select is((awa.enqueue_many('[{"kind": "k", "unique_key": "\\x6381"}, {"kind": "k", "unique_key": "\\x6380"}]'::jsonb, queue => 'tap/63/many')), (select array_agg(id order by n) from many where n < 3),
  'a second call adds nothing');
select throws_ok($$ select awa.enqueue_many('[{"kind": "k", "unique_key": "\\x6383"}, {"kind": "k", "unique_key": "\\x6384"}, {"kind": ""}]'::jsonb) $$, 'AW006', null, 'a call with a bad job is refused');
select is(pg_temp.claimed('\x6383') or pg_temp.claimed('\x6384'), false, 'and leaves no key behind');
select is_empty('select * from awa.job_unique_claims where job_id = 0', 'no key is reserved for nobody');

-- A job that is parked as long as its concurrency key has no slot

select awa.configure_queue('tap/63/parked', '{"concurrency_limit": 1}') \g /dev/null
select awa.enqueue('one', queue => 'tap/63/parked', concurrency_key => 'k'),
  awa.enqueue('keeps', queue => 'tap/63/parked', concurrency_key => 'k', unique_key => '\x6365', unique_states => b'11000000'),
  awa.enqueue('gives', queue => 'tap/63/parked', concurrency_key => 'k', unique_key => '\x6366', unique_states => b'01000000') \g /dev/null
select awa.claim('tap/63/parked', 5) \g /dev/null
select awa.enqueue('k', queue => 'tap/63/rival', unique_key => '\x6366', unique_states => b'01000000') as rival \gset
update awa.jobs set priority = 3 where queue = 'tap/63/parked' and state = 'scheduled';
select is_empty('select * from awa.check()', 'an update brings none back beside the holder of its key');
select is((select array_agg(j.kind order by j.kind) from awa.jobs as j where j.queue = 'tap/63/parked' and j.state = 'available'), array['keeps'], 'but one that has it');
select awa.maintain() \g /dev/null
select results_eq($$ select j.kind, j.state::text, j.priority::integer from awa.jobs as j where j.queue = 'tap/63/parked' and j.kind <> 'one' order by 1 $$,
  $$ values ('gives', 'cancelled', 3), ('keeps', 'available', 3) $$, 'the other gives way');
select is(pg_temp.holder('\x6366'), :rival::bigint, 'to the holder');

-- A job that comes back for a time that is over before it is in its place

create function pg_temp.later () returns trigger language plpgsql as $$
begin
  perform set_config('awa.now', (clock_timestamp() + interval '1 hour')::text, true);
  return null;
end;
$$;
create temp table late as
select s.state, ('\x63a0'::bytea || convert_to(s.state, 'UTF8')) as key, 0::bigint as id, 0::bigint as rival from states as s where s.state in ('failed', 'dead');
update late set id = pg_temp.job_in(state, key, pg_temp.mask(2));
update late set rival = awa.enqueue('k', queue => 'tap/63/rival', unique_key => key, unique_states => pg_temp.mask(2));
create trigger later after insert on awa.outcome_removals for each statement execute function pg_temp.later();
create trigger later after delete on awa.dlq_entries for each statement execute function pg_temp.later();
select bag_eq($$
  select l.state, case l.state when 'dead' then awa.retry_from_dlq(l.id, run_at => clock_timestamp() + interval '1 minute')
    else awa.retry(l.id, run_at => clock_timestamp() + interval '1 minute') end, set_config('awa.now', '', true)
  from late as l $$,
  $$ values ('failed', true, ''), ('dead', true, '') $$, 'it may come back for a time at which its key does not count yet');
select is_empty($$ select j.id, j.state from late as l join awa.jobs as j on j.id = l.id where j.state = 'available' $$, 'it is not available beside the holder of its key');
select set_config('awa.now', (clock_timestamp() + interval '1 hour')::text, true), awa.maintain() \g /dev/null
set local awa.now = '';
select set_eq($$ select l.state, j.state::text as now from late as l join awa.jobs as j on j.id = l.id $$,
  $$ values ('failed', 'cancelled'), ('dead', 'cancelled') $$, 'and gives way to it');
select is_empty($$ select l.state from late as l where pg_temp.holder(l.key) is distinct from l.rival $$, 'the holder keeps the key');
drop trigger later on awa.outcome_removals;
drop trigger later on awa.dlq_entries;
-- The same for an update, which takes another job out of its lane meanwhile.
create trigger later after insert on awa.claims for each statement execute function pg_temp.later();
create temp table moved as select awa.enqueue('k', queue => 'tap/63/rival', unique_key => '\x63af', unique_states => pg_temp.mask(2)) as rival,
  awa.enqueue('k', queue => 'tap/63/moved', run_at => clock_timestamp() + interval '1 minute', unique_key => '\x63af', unique_states => pg_temp.mask(2)) as id,
  awa.enqueue('k', queue => 'tap/63/moved') as other;
update awa.jobs as j set priority = 4 from moved as m where j.id in (m.id, m.other);
set local awa.now = '';
select results_eq('select j.state::text, j.priority::integer from moved as m join awa.jobs as j on j.id = m.id', $$ values ('scheduled', 4) $$,
  'an update leaves it scheduled');
select is_empty('select * from awa.check()', 'and nobody waits without its key');
drop trigger later on awa.claims;

-- A claim takes no key for a job that it sets aside.
select awa.configure_queue('tap/63/aside', '{"concurrency_limit": 1}') \g /dev/null
create temp table aside as
select n, awa.enqueue('k', queue => 'tap/63/aside', concurrency_key => 'c', unique_key => case n when 2 then '\x63b0'::bytea end, unique_states => b'10000000') as id
from generate_series(1, 2) as n;
select awa.claim('tap/63/aside', 2) \g /dev/null
select is((select j.state::text from awa.jobs as j join aside as a on a.n = 2 and a.id = j.id), 'scheduled', 'a job is set aside into a state of its mask');
select isnt(awa.enqueue('k', queue => 'tap/63/rival', run_at => clock_timestamp() + interval '1 hour', unique_key => '\x63b0', unique_states => b'10000000'),
  (select a.id from aside as a where a.n = 2), 'it took no key for that');
select results_eq('update awa.jobs as j set priority = 1 from aside as a where a.n = 2 and j.id = a.id returning j.state::text',
  $$ values ('available') $$, 'nor does it need one to go back into its lane');
select is_empty('select * from awa.check()', 'and nobody waits without a key');

-- Prune and reset

update awa.queue_meta set failed_retention = '0';
insert into awa.queue_meta (queue, failed_retention) select distinct queue, interval '0' from awa.queue_lanes on conflict do nothing;
select awa.reset(keep_config => true) \g /dev/null
select is((select count(*) from awa.job_unique_claims), 0::bigint, 'reset leaves no key');
create temp table leaves as
select s.state, ('\x6390'::bytea || decode(lpad(to_hex(row_number() over ()), 2, '0'), 'hex')) as key, 0::bigint as id from states as s;
update leaves set id = pg_temp.job_in(state, key, b'11111111');
select is((select count(*) from awa.job_unique_claims), 8::bigint, 'eight jobs hold keys');
select awa.rotate() \g /dev/null
-- A few waiting and running jobs pin the segment until the ring is full.
create function pg_temp.turn () returns text
  language plpgsql as $$
declare
  v_answer text;
begin
  for i in 1 .. 100 loop
    v_answer := awa.prune();
    exit when v_answer = 'pruned';
    perform awa.enqueue('filler', queue => 'tap/63/filler'), awa.rotate();
  end loop;
  return v_answer;
end;
$$;
select is(pg_temp.turn(), 'pruned', 'their segment is pruned');
select is((select array_agg(state order by state) from leaves where pg_temp.claimed(key)), array['available', 'dead', 'retryable', 'running', 'scheduled'],
  'the keys of finished jobs left with it, those of jobs that are still somewhere did not');
select is((select array_agg(state order by state) from leaves where pg_temp.holder(key) = id), array['available', 'dead', 'retryable', 'running', 'scheduled'], 'they hold them');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
