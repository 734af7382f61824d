-- Jobs that come after others.
begin;
select plan(48);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

create temp table job (name text primary key, id bigint);
create function pg_temp.id (p_name text) returns bigint
  language sql as $$ select j.id from pg_temp.job as j where j.name = p_name $$;
create function pg_temp.add (p_name text, variadic p_after text[] default '{}') returns void
  language plpgsql as $$
begin
  insert into pg_temp.job
  select p_name, awa.enqueue('k', queue => 'tap/85', max_attempts => 1, after => (select array_agg(pg_temp.id(a)) from unnest(p_after) as a));
end;
$$;
create function pg_temp.state (p_name text) returns text
  language sql as $$ select j.state::text from awa.jobs as j where j.id = pg_temp.id(p_name) $$;
create function pg_temp.states (p_names text) returns text
  language sql as $$
  select string_agg(coalesce(pg_temp.state(n.name), 'none'), ' ' order by n.nth) from unnest(string_to_array(p_names, ' ')) with ordinality as n (name, nth) $$;
create temp table held (job_id bigint, receipt awa.receipt);
create function pg_temp.receipt (p_name text) returns awa.receipt
  language plpgsql as $$
begin
  insert into pg_temp.held select c.job_id, c.receipt from awa.claim('tap/85', 100) as c;
  return (select h.receipt from pg_temp.held as h where h.job_id = pg_temp.id(p_name));
end;
$$;
create function pg_temp.released () returns bigint
  language plpgsql as $$ begin return coalesce((select m.affected from awa.maintain() as m where m.task = 'dependents'), 0); end $$;

-- Release

select pg_temp.add('a'), pg_temp.add('b', 'a'), pg_temp.add('c', 'a', 'b'), pg_temp.add('other', variadic array[]::text[]) \g /dev/null
select is(pg_temp.states('a b c other'), 'available scheduled scheduled available', 'a job waits for those that it comes after');
select is((select c.scheduled from awa.queue_counts('tap/85') as c), 2::bigint, 'and is counted');
select is(pg_temp.released(), 0::bigint, 'nothing is released before its time');
select is((select count(*) from awa.claim('tap/85', 1) as c where c.job_id = pg_temp.id('b')), 0::bigint, 'or claimed');
insert into held select (j.id), null from awa.jobs as j where false;
select awa.cancel(pg_temp.id('a')) \g /dev/null
select is(pg_temp.released(), 2::bigint, 'what comes after a cancelled job is cancelled');
select is(pg_temp.states('a b c'), 'cancelled cancelled cancelled', 'at once, however it hangs on it');
select matches((select j.errors[1] ->> 'error' from awa.jobs as j where j.id = pg_temp.id('b')), '^job \d+, which it waits for, is cancelled$', 'and says why');

select pg_temp.add('d'), pg_temp.add('e', 'd'), pg_temp.add('f', 'd', 'e') \g /dev/null
select ok(awa.complete(pg_temp.receipt('d')), 'the first one is done');
select is(pg_temp.states('e f'), 'scheduled scheduled', 'a finish does nothing else');
select is(pg_temp.released(), 1::bigint, 'the next pass of maintain');
select is(pg_temp.states('e f'), 'available scheduled', 'releases what waited for it alone');
select ok((select j.run_at < 'infinity' from awa.jobs as j where j.id = pg_temp.id('e')), 'as of now');
select is(pg_temp.released(), 0::bigint, 'once');
select ok(awa.complete(pg_temp.receipt('e')), 'the second one');
select is(pg_temp.released(), 1::bigint, 'releases');
select is(pg_temp.states('f'), 'available', 'the third');
select pg_temp.add('g', 'd', 'e') \g /dev/null
select is(pg_temp.states('g'), 'available', 'a job after completed ones does not wait');

-- Other ends

select pg_temp.add('h'), pg_temp.add('i', 'h') \g /dev/null
select awa.fail(pg_temp.receipt('h'), 'e') \g /dev/null
select pg_temp.released() \g /dev/null
select is(pg_temp.states('h i'), 'failed cancelled', 'a failure cancels what comes after');
select throws_ok(format('select awa.enqueue(''k'', after => array[%s::bigint])', pg_temp.id('h')), 'AW003', null, 'nothing can come after a failed job');
select throws_ok('select awa.enqueue(''k'', after => array[9999999999])', 'AW002', null, 'or after one that does not exist');
select throws_ok('select awa.enqueue(''k'', after => array[null]::bigint[])', 'AW006', 'after is {NULL}', 'or after null');
select lives_ok('select awa.enqueue(''k'', after => ''{}'')', 'after nothing is after nothing');
select awa.configure_queue('tap/85', '{"dlq_enabled": true}') \g /dev/null
select pg_temp.add('j'), pg_temp.add('k', 'j') \g /dev/null
select awa.fail(pg_temp.receipt('j'), 'e') \g /dev/null
select pg_temp.released() \g /dev/null
select is(pg_temp.states('j k'), 'none cancelled', 'so does a dead letter');
select pg_temp.add('l'), pg_temp.add('m', 'l') \g /dev/null
select awa.delete_job_compat(pg_temp.id('l')) \g /dev/null
select pg_temp.released() \g /dev/null
select is(pg_temp.states('l m'), 'none cancelled', 'so does a deletion');
insert into job select 'n', awa.enqueue('k', queue => 'tap/85', run_at => now() + interval '1 day');
select pg_temp.add('o', 'n') \g /dev/null
select pg_temp.released() \g /dev/null
select is(pg_temp.states('n o'), 'scheduled scheduled', 'a scheduled job is waited for');
delete from awa.jobs as j where j.id = pg_temp.id('n');
select pg_temp.released() \g /dev/null
select is(pg_temp.states('n o'), 'none cancelled', 'and deleted like another');
select pg_temp.add('y'), pg_temp.add('z', 'y') \g /dev/null
select awa.complete(pg_temp.receipt('y')) \g /dev/null
delete from awa.jobs as j where j.id = pg_temp.id('y');
select pg_temp.released() \g /dev/null
select is(pg_temp.states('y z'), 'none available', 'one that completed has completed, whoever deletes it then');
select throws_ok(format('select awa.enqueue(''k'', after => array[%s])', pg_temp.id('y')), 'AW002', null, 'though nobody comes after it any more');

-- Retries, a time of its own, a callback

insert into job select 'p', awa.enqueue('k', queue => 'tap/85', max_attempts => 3);
insert into job select 'q', awa.enqueue('k', queue => 'tap/85', run_at => now() + interval '1 day', after => array[pg_temp.id('p')]);
select awa.fail(pg_temp.receipt('p'), 'e', '1 hour') \g /dev/null
select pg_temp.released() \g /dev/null
select is(pg_temp.states('p q'), 'retryable scheduled', 'a job that is retried is waited for');
update awa.jobs set run_at = now() - interval '1 second' where id = pg_temp.id('p');
delete from held where job_id = pg_temp.id('p');
select awa.register_callback(pg_temp.receipt('p'), '1 hour') as callback \gset
select pg_temp.released() \g /dev/null
select is(pg_temp.states('p q'), 'waiting_external scheduled', 'and one that waits itself');
select awa.complete_callback(:'callback') \g /dev/null
select is(pg_temp.released(), 1::bigint, 'until it is done');
select ok((select j.state = 'scheduled' and j.run_at between now() + interval '23 hours' and now() + interval '25 hours' and j.metadata = '{}'
  from awa.jobs as j where j.id = pg_temp.id('q')), 'then the other one''s own time counts');

select pg_temp.add('po') \g /dev/null
insert into job select n, awa.enqueue('k', queue => 'tap/85', run_at => 'infinity', after => array[pg_temp.id('po')]) from unnest(array['hold', 'held']) as n;
select awa.cancel(pg_temp.id('held')), awa.complete(pg_temp.receipt('po')) \g /dev/null
select is(pg_temp.released(), 1::bigint, 'one that is to wait for a word');
select is(pg_temp.states('hold held'), 'scheduled cancelled', 'goes on waiting');
select ok(awa.retry(pg_temp.id('held')), 'cancelled before that, it is retried');
update awa.jobs set run_at = now() where id = pg_temp.id('hold');
select is(pg_temp.states('hold held'), 'available available', 'and the other one goes by that word');

-- Operators

select pg_temp.add('r'), pg_temp.add('s', 'r') \g /dev/null
select ok(awa.cancel(pg_temp.id('s')), 'a waiting job is cancelled');
select ok(awa.complete(pg_temp.receipt('r')), 'what it waited for ends');
select is(pg_temp.released(), 0::bigint, 'without it');
select is((select count(*) from awa.job_dependencies), 0::bigint, 'and nothing is left');
select awa.configure_queue('tap/85/slots', '{"concurrency_limit": 1}') \g /dev/null
select pg_temp.add('v') \g /dev/null
insert into job select 'w', awa.enqueue('k', queue => 'tap/85/slots', concurrency_key => 'x', after => array[pg_temp.id('v')]);
select awa.cancel(pg_temp.id('w')), awa.retry(pg_temp.id('w')), awa.enqueue('k', queue => 'tap/85/slots', concurrency_key => 'x', priority => 1) \g /dev/null
select is((select count(*) from awa.claim('tap/85/slots', 10)), 1::bigint, 'one that was cancelled and retried waits for a slot like another');
select ok(awa.cancel(pg_temp.id('v')), 'what it once waited for ends');
select pg_temp.released() \g /dev/null
select is(pg_temp.states('w'), 'scheduled', 'and it goes on without');
select pg_temp.add('t'), pg_temp.add('u', 't') \g /dev/null
update awa.jobs set run_at = now() - interval '1 second' where id = pg_temp.id('u');
select is(pg_temp.states('u'), 'available', 'who sets a time lets it go');

-- Together more than an array holds
select pg_temp.add('x') \g /dev/null
select awa.enqueue('large', to_jsonb(repeat('x', 99000000)), queue => 'tap/85/large', after => array[pg_temp.id('x')])
from generate_series(1, 11) \g /dev/null
select awa.complete(pg_temp.receipt('x')) \g /dev/null
select is(pg_temp.released(), 11::bigint, 'large jobs are released');
select is((select c.available from awa.queue_counts('tap/85/large') as c), 11::bigint, 'and are there');

select throws_ok($$ select awa.enqueue_many('[{"kind": "k", "after": [9999999999]}]'::jsonb) $$, 'AW002', null, 'enqueue_many takes them too');
select is_empty($$ select * from awa.check() $$, 'check() finds nothing');
select * from finish();
rollback;
