-- Grants: who may call what, compared with the catalogue, and tried.
begin;
select plan(36);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

create table pg_temp.roles (role text);
insert into pg_temp.roles values ('awa_producer'), ('awa_worker'), ('awa_operator'), ('awa_reader');

create table pg_temp.allowed (function text, producer boolean, worker boolean, operator boolean, reader boolean);
insert into pg_temp.allowed values
  --                                    producer  worker  operator  reader
  ('enqueue',                           true,     false,  true,     false),
  ('enqueue_many',                      true,     false,  true,     false),
  ('claim',                             false,    true,   true,     false),
  ('complete',                          false,    true,   true,     false),
  ('complete_many',                     false,    true,   true,     false),
  ('fail',                              false,    true,   true,     false),
  ('snooze',                            false,    true,   true,     false),
  ('snooze_many',                       false,    true,   true,     false),
  ('cancel_attempt',                    false,    true,   true,     false),
  ('extend_lease',                      false,    true,   true,     false),
  ('set_progress',                      false,    true,   true,     false),
  ('register_callback',                 false,    true,   true,     false),
  ('park',                              false,    true,   true,     false),
  ('callback_status',                   false,    true,   true,     false),
  ('complete_callback',                 true,     true,   true,     false),
  ('fail_callback',                     true,     true,   true,     false),
  ('retry_callback',                    true,     true,   true,     false),
  ('resume_callback',                   true,     true,   true,     false),
  ('heartbeat_callback',                true,     true,   true,     false),
  ('register_worker',                   false,    true,   true,     false),
  ('heartbeat',                         false,    true,   true,     false),
  ('rescue_unknown',                    false,    true,   true,     false),
  ('start_waiting',                     false,    true,   true,     false),
  ('stop_waiting',                      false,    true,   true,     false),
  ('unique_key_of',                     true,     false,  true,     false),
  ('fail_many',                         false,    true,   true,     false),
  ('maintain',                          false,    true,   true,     false),
  ('configure_queue',                   false,    false,  true,     false),
  ('queue_settings',                    false,    false,  true,     true),
  ('list_workers',                      false,    false,  true,     true),
  ('configure_storage',                 false,    false,  true,     false),
  ('pause_queue',                       false,    false,  true,     false),
  ('resume_queue',                      false,    false,  true,     false),
  ('remove_queue',                      false,    false,  true,     false),
  ('upsert_schedule',                   false,    false,  true,     false),
  ('remove_schedule',                   false,    false,  true,     false),
  ('pause_schedule',                    false,    false,  true,     false),
  ('resume_schedule',                   false,    false,  true,     false),
  ('cron_next',                         true,     true,   true,     true),
  ('checkpoint_terminal_counters',      false,    false,  true,     false),
  ('rebuild_terminal_counters',         false,    false,  true,     false),
  ('rotate',                            false,    false,  true,     false),
  ('prune',                             false,    false,  true,     false),
  ('reset',                             false,    false,  true,     false),
  ('backoff',                           true,     true,   true,     true),
  ('queue_counts',                      true,     true,   true,     true),
  ('queue_overview',                    true,     true,   true,     true),
  ('get_job',                           false,    false,  true,     true),
  ('list_jobs',                         false,    false,  true,     true),
  ('storage_status',                    true,     true,   true,     true),
  ('check',                             true,     true,   true,     true),
  ('dlq_depth',                         true,     true,   true,     true),
  ('active_queue_storage_schema',       true,     true,   true,     true),
  ('storage_prepare',                   false,    false,  true,     false),
  ('storage_enter_mixed_transition',    false,    false,  true,     false),
  ('storage_finalize',                  false,    false,  true,     false),
  ('storage_abort',                     false,    false,  true,     false),
  ('start_batch_operation',             false,    false,  true,     false),
  ('count_batch_jobs',                  false,    false,  true,     false),
  ('run_batch_operation',               false,    false,  true,     false),
  ('get_batch_operation',               false,    false,  true,     true),
  ('list_batch_operations',             false,    false,  true,     true),
  ('cancel_batch_operation',            false,    false,  true,     false),
  ('insert_job_compat',                 true,     false,  true,     false),
  ('cancel',                            false,    false,  true,     false),
  ('cancel_by_unique_key',              false,    false,  true,     false),
  ('retry',                             false,    false,  true,     false),
  ('delete_job_compat',                 false,    false,  true,     false),
  ('discard_failed_by_kind',            false,    false,  true,     false),
  ('move_failed_to_dlq',                false,    false,  true,     false),
  ('bulk_move_failed_to_dlq',           false,    false,  true,     false),
  ('retry_from_dlq',                    false,    false,  true,     false),
  ('bulk_retry_from_dlq',               false,    false,  true,     false),
  ('purge_dlq',                         false,    false,  true,     false),
  ('rebase',                            false,    false,  true,     false);

create temp view functions as
select p.oid, p.proname::text collate "default" as name, p.oid::regprocedure::text as signature from pg_proc as p where p.pronamespace = 'awa'::regnamespace;

select is_empty($$ select role from pg_temp.roles where role not in (select rolname from pg_roles) $$, 'the four roles exist');
select is_empty($$ select rolname from pg_roles where rolname ~ '^awa_' and (rolcanlogin or rolsuper or rolcreatedb or rolcreaterole or rolbypassrls) $$,
  'they are groups: none may log in or administer');
select is_empty(
  $$ select a.member::regrole, a.roleid::regrole from pg_auth_members as a
     where a.member in (select r.role::regrole from pg_temp.roles as r) $$, 'none is a member of another role');

create temp view actual as
select distinct f.name as function, has_function_privilege('awa_producer', f.oid, 'execute') as producer, has_function_privilege('awa_worker', f.oid, 'execute') as worker,
  has_function_privilege('awa_operator', f.oid, 'execute') as operator, has_function_privilege('awa_reader', f.oid, 'execute') as reader
from pg_temp.functions as f where f.name !~ '^_';
select bag_eq('select * from pg_temp.actual', 'select * from pg_temp.allowed', 'each role may call exactly what this table says');
-- The jobs view calls internal functions in the name of its reader.
select bag_eq(
  $$ select r.role, f.name from pg_temp.roles as r, pg_temp.functions as f where f.name ~ '^_' and has_function_privilege(r.role, f.oid, 'execute') $$,
  $$ select r, f from unnest(array['awa_operator', 'awa_reader']) as r, unnest(array['_attempt_of', '_by_key_at_most', '_newest_cursors', '_claimed']) as f $$,
  'no role may call an internal function, those aside that a view calls for its readers');

-- PUBLIC

select is_empty(
  $$ select f.signature from pg_temp.functions as f join pg_proc as p on p.oid = f.oid, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
     where a.grantee = 0 $$, 'PUBLIC may call nothing');
select is_empty(
  $$ select c.relname, a.privilege_type from pg_class as c, aclexplode(coalesce(c.relacl, acldefault((case c.relkind when 'S' then 's' else 'r' end)::"char", c.relowner))) as a
     where c.relnamespace = 'awa'::regnamespace and a.grantee = 0 $$, 'PUBLIC has nothing on tables, views and sequences');
select is_empty($$ select a.privilege_type from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a where n.nspname = 'awa' and a.grantee = 0 $$,
  'PUBLIC has nothing on the schema');

-- Relations, schema

create table pg_temp.readable (relation text);
insert into pg_temp.readable values ('jobs'), ('done_entries'), ('dlq_entries'), ('cron_schedules'), ('queue_terminal_live_counts'), ('queue_terminal_rollups'), ('storage_transition_state');
create temp view held_privileges as
select r.role, c.relname::text collate "default" as relation, p.privilege
from pg_temp.roles as r, pg_class as c, unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as p (privilege)
where c.relnamespace = 'awa'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
  and (has_table_privilege(r.role, c.oid, p.privilege)
    or (p.privilege in ('select', 'insert', 'update', 'references') and has_any_column_privilege(r.role, c.oid, p.privilege)));

select bag_eq(
  $$ select role, relation from pg_temp.held_privileges where privilege = 'select' $$,
  $$ select r, relation from unnest(array['awa_operator', 'awa_reader']) as r, pg_temp.readable $$,
  'operators and readers read the documented relations, and nobody anything else');
-- The view's triggers do their work as the owner, through the API.
select bag_eq(
  $$ select role, relation, privilege from pg_temp.held_privileges where privilege <> 'select' $$,
  $$ values ('awa_producer', 'jobs', 'insert'), ('awa_operator', 'jobs', 'insert'), ('awa_operator', 'jobs', 'update'), ('awa_operator', 'jobs', 'delete') $$,
  'nobody writes, but through the jobs view');
select is_empty(
  $$ select r.role, c.relname from pg_temp.roles as r, pg_class as c
     where c.relnamespace = 'awa'::regnamespace and c.relkind = 'S' and has_sequence_privilege(r.role, c.oid, 'usage,select,update') $$, 'nobody has anything on a sequence');
select is_empty($$ select role from pg_temp.roles where not has_schema_privilege(role, 'awa', 'usage') or has_schema_privilege(role, 'awa', 'create') $$,
  'every role may use the schema, none may create in it');

-- Tried. pgTAP itself must stay callable for the roles.

do $$ begin
  execute format('grant usage on schema %s to awa_producer, awa_worker, awa_operator, awa_reader', (select p.pronamespace::regnamespace from pg_proc as p where p.oid = 'plan(integer)'::regprocedure));
end $$;
grant usage, select, update on all sequences in schema pg_temp to awa_producer, awa_worker, awa_operator, awa_reader;
grant all on all tables in schema pg_temp to awa_producer, awa_worker, awa_operator, awa_reader;
-- A public function that does not run as its owner does without internal ones.
select is_empty(
  $$ select f.signature from pg_temp.functions as f join pg_proc as p on p.oid = f.oid
     where f.name !~ '^_' and not p.prosecdef and p.prosrc ~ '\m_[a-z]' $$, 'what runs as its caller calls nothing internal');
create table pg_temp.held (receipt awa.receipt, n bigint);
grant all on pg_temp.held to awa_worker;

set local role awa_producer;
select isnt(awa.enqueue('k', queue => 'tap/51 brand new'), null, 'a producer enqueues into a queue that nobody knows');
select is(cardinality(awa.enqueue_many('k', array['1', '2']::jsonb[], queue => 'tap/51 brand new', priority => 1)), 2, 'and in bulk into a new lane');
select is(cardinality(awa.enqueue_many('[{"kind": "k", "queue": "tap/51 another", "run_at": "2999-01-01T00:00:00Z"}]')), 1, 'and from JSON, for later');
select is((select available from awa.queue_counts('tap/51 brand new')), 3::bigint, 'a producer sees how many wait');
select throws_ok($$ select * from awa.claim('tap/51 brand new') $$, '42501', null, 'a producer does not claim');
select throws_ok('select * from awa.ready_entries', '42501', null, 'a producer does not read tables');
select throws_ok($$ insert into awa.queue_lanes values (1, 'q', 1, 0) $$, '42501', null, 'nor write them');

set local role awa_worker;
insert into pg_temp.held select c.receipt, row_number() over () from awa.claim('tap/51 brand new', 10, 'w') as c;
select is((select count(*) from pg_temp.held), 3::bigint, 'a worker claims');
select is(awa.complete(receipt), true, 'a worker completes') from pg_temp.held where n = 1;
select is(awa.fail(receipt, 'e', retry_after => '1 day'), 'retryable', 'a worker fails') from pg_temp.held where n = 2;
select is_empty($$ select awa.complete_many(array[receipt]) from pg_temp.held where n = 3 $$, 'a worker completes many');
select isnt_empty('select * from awa.maintain()', 'a worker maintains');
select throws_ok($$ select awa.enqueue('k') $$, '42501', null, 'a worker does not enqueue');

set local role awa_reader;
select is((select count(*) from awa.done_entries where queue = 'tap/51 brand new'), 2::bigint, 'a reader reads history');
select is((select sum(live_terminal_count) from awa.queue_terminal_live_counts where queue = 'tap/51 brand new'), 2::numeric, 'and counts');
select isnt(awa.backoff(1), null, 'and a delay');
select is((select count(*) from awa.jobs where queue in ('tap/51 brand new', 'tap/51 another')), 4::bigint, 'and jobs, in whatever state');
select is_empty('select * from awa.dlq_entries where queue like ''tap/51%''', 'and dead letters');
select throws_ok($$ select awa.enqueue('k') $$, '42501', null, 'a reader does not enqueue');
select throws_ok('select awa.reset()', '42501', null, 'nor reset');

set local role awa_operator;
select lives_ok($$ select awa.pause_queue('tap/51 brand new'), awa.resume_queue('tap/51 brand new'), awa.configure_queue('tap/51 brand new', '{"notify": false}') $$,
  'an operator runs queues');
select throws_ok('delete from awa.ready_entries', '42501', null, 'but does not touch tables either');
reset role;

select is(array(select awa._lock_class(n) from generate_series(0, 3) as n), array(select hashtext('awa/awa') + n from generate_series(0, 3) as n),
  'docs/troubleshooting.md finds a stranger''s advisory lock by its class');

select * from finish();
rollback;
