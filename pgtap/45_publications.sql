-- Publications: a table whose rows nothing identifies cannot be updated or deleted
-- from as soon as a publication holds it, and one for all tables holds awa's.
begin;
select plan(12);
-- Alone: rewrites what is retained.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null
-- As before the first queue was removed.
alter table awa.queue_lanes replica identity default;

select is_empty($$
  select c.oid::regclass from pg_class as c
  where c.relnamespace = 'awa'::regnamespace and c.relkind = 'r' and c.relname <> 'queue_lanes' and case c.relreplident
    when 'f' then false
    when 'i' then not exists (select from pg_index as i where i.indrelid = c.oid and i.indisreplident)
    else not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary) end $$,
  'something identifies the rows of every table but the registry of lanes');

-- That the server writes too little for subscribers changes nothing here.
set client_min_messages = error;
create publication tap_45 for all tables with (publish_via_partition_root);
reset client_min_messages;

select awa.enqueue('k', queue => 'tap/45/own') \g /dev/null
select is((select count(*) from awa.claim('tap/45/own')), 1::bigint, 'a job is claimed that its own transaction enqueued');
select awa.enqueue('k', queue => 'tap/45/own') as own \gset
select is(awa.cancel(:own), true, 'one is cancelled');
select awa.enqueue('k', queue => 'tap/45/own') as own \gset
select lives_ok(format('update awa.jobs set priority = 1 where id = %s', :own), 'one is changed');
select lives_ok(format('delete from awa.jobs where id = %s', :own), 'and deleted');

select awa.enqueue('k', queue => 'tap/45/late', run_at => now() + interval '1 day', unique_key => '\x4501') as late \gset
select is(awa.cancel(:late), true, 'a scheduled job with a key is cancelled');
select awa.register_callback(c.receipt, '1 day') as callback from awa.enqueue('k', queue => 'tap/45/wait') as id, awa.claim('tap/45/wait') as c \gset
select is(awa.complete_callback(:'callback'), true, 'a callback answered');

insert into awa.queue_lanes select * from awa.queue_lanes limit 1;
select is_empty($$ select * from awa.maintain() where task = 'lanes' $$, 'equal lanes stay, and keep maintain from nothing');

select awa.enqueue('k', queue => 'tap/45/moved') from generate_series(1, 3) \g /dev/null
select awa.register_worker('w45') \g /dev/null
select lives_ok('select awa.rebase()', 'what came from another cluster is rebased');
select is((select waiting from (select sum(q.available) as waiting from awa.queue_overview() as q) as w), 3::numeric, 'with its jobs');
select is_empty('select * from awa.check()', 'and sound');

insert into awa.queue_lanes (lane, queue, priority, enqueue_shard) values (awa._lane('tap/45/passing', 1, 0), 'tap/45/passing', 1, 0);
select is(awa.remove_queue('tap/45/passing'), true, 'a queue is removed');

select * from finish();
rollback;
