-- The public functions: names, arguments, defaults, results and marks.
begin;
select plan(20);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

create temp view public_functions as
select p.*, p.proname::text collate "default" as name from pg_proc as p where p.pronamespace = 'awa'::regnamespace and p.proname !~ '^_';

-- The documented signatures and results; a null result is a table, whose
-- columns are tested where the function is.
create table pg_temp.documented (signature text, result text);
insert into pg_temp.documented values
  ('enqueue(kind text, args jsonb DEFAULT ''{}''::jsonb, queue text DEFAULT ''default''::text, priority integer DEFAULT 2, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, max_attempts integer DEFAULT 25, tags text[] DEFAULT ''{}''::text[], metadata jsonb DEFAULT ''{}''::jsonb, unique_key bytea DEFAULT NULL::bytea, unique_states bit DEFAULT NULL::"bit", ordering_key text DEFAULT NULL::text, deadline interval DEFAULT NULL::interval, concurrency_key text DEFAULT NULL::text, after bigint[] DEFAULT NULL::bigint[], follow_ups jsonb DEFAULT NULL::jsonb)', 'bigint'),
  ('enqueue_many(jobs jsonb, queue text DEFAULT ''default''::text)', 'bigint[]'),
  ('enqueue_many(kind text, args jsonb[], queue text DEFAULT ''default''::text, priority integer DEFAULT 2, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, max_attempts integer DEFAULT 25, tags text[] DEFAULT ''{}''::text[], metadata jsonb DEFAULT ''{}''::jsonb, ordering_key text DEFAULT NULL::text, deadline interval DEFAULT NULL::interval)', 'bigint[]'),
  ('claim(queue text, max_jobs integer DEFAULT 1, worker text DEFAULT NULL::text, lease interval DEFAULT ''00:05:00''::interval)', null),
  ('complete(receipt awa.receipt)', 'boolean'),
  ('complete_many(receipts awa.receipt[])', 'SETOF awa.receipt'),
  ('fail(receipt awa.receipt, error text DEFAULT NULL::text, retry_after interval DEFAULT NULL::interval, terminal boolean DEFAULT false)', 'awa.job_state'),
  ('fail_many(receipts awa.receipt[], errors text[] DEFAULT NULL::text[], retry_after interval DEFAULT NULL::interval, terminal boolean DEFAULT false)', null),
  ('backoff(attempt integer)', 'interval'),
  ('snooze(receipt awa.receipt, delay interval)', 'boolean'),
  ('snooze_many(receipts awa.receipt[], delay interval)', 'SETOF awa.receipt'),
  ('cancel_attempt(receipt awa.receipt, reason text DEFAULT NULL::text)', 'boolean'),
  ('extend_lease(receipts awa.receipt[], lease interval DEFAULT ''00:05:00''::interval)', 'SETOF awa.receipt'),
  ('set_progress(receipt awa.receipt, percent integer, message text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb)', 'boolean'),
  ('register_callback(receipt awa.receipt, timeout interval)', 'uuid'),
  ('complete_callback(callback_id uuid, result jsonb DEFAULT NULL::jsonb)', 'boolean'),
  ('fail_callback(callback_id uuid, error text DEFAULT NULL::text)', 'boolean'),
  ('retry_callback(callback_id uuid)', 'boolean'),
  ('resume_callback(callback_id uuid, payload jsonb DEFAULT NULL::jsonb)', 'boolean'),
  ('heartbeat_callback(callback_id uuid, timeout interval)', 'boolean'),
  ('park(receipt awa.receipt)', 'boolean'),
  ('callback_status(receipt awa.receipt)', 'TABLE(callback_id uuid, payload jsonb)'),
  ('register_worker(worker text, info jsonb DEFAULT NULL::jsonb)', 'void'),
  ('heartbeat(worker text)', null),
  ('rescue_unknown(worker text, known awa.receipt[])', 'bigint'),
  ('start_waiting(queues text[])', 'void'),
  ('stop_waiting(queues text[])', 'void'),
  ('unique_key_of(kind text, queue text DEFAULT NULL::text, args jsonb DEFAULT NULL::jsonb)', 'bytea'),
  ('configure_queue(queue text, settings jsonb)', 'void'),
  ('queue_settings(queue text)', 'jsonb'),
  ('list_workers()', 'TABLE(worker text, heartbeat_at timestamp with time zone, info jsonb)'),
  ('configure_storage(settings jsonb)', 'jsonb'),
  ('pause_queue(queue text)', 'void'),
  ('resume_queue(queue text)', 'void'),
  ('remove_queue(queue text)', 'boolean'),
  ('queue_counts(queue text)', null),
  ('queue_overview()', null),
  ('get_job(job_id bigint)', 'SETOF awa.jobs'),
  ('list_jobs(queue text DEFAULT NULL::text, kind text DEFAULT NULL::text, state awa.job_state DEFAULT NULL::awa.job_state, before bigint DEFAULT NULL::bigint, max_jobs integer DEFAULT 100)', 'SETOF awa.jobs'),
  ('cron_next(cron text, timezone text DEFAULT ''UTC''::text, after timestamp with time zone DEFAULT NULL::timestamp with time zone)', 'timestamp with time zone'),
  ('upsert_schedule(name text, cron text, kind text, args jsonb DEFAULT ''{}''::jsonb, queue text DEFAULT ''default''::text, timezone text DEFAULT ''UTC''::text, priority integer DEFAULT 2, max_attempts integer DEFAULT 25, tags text[] DEFAULT ''{}''::text[], metadata jsonb DEFAULT ''{}''::jsonb, ordering_key text DEFAULT NULL::text, deadline interval DEFAULT NULL::interval, missed_fire text DEFAULT ''coalesce''::text)', 'timestamp with time zone'),
  ('remove_schedule(name text)', 'boolean'),
  ('pause_schedule(name text)', 'boolean'),
  ('resume_schedule(name text)', 'boolean'),
  ('maintain()', null),
  ('rotate()', 'text'),
  ('prune()', 'text'),
  ('checkpoint_terminal_counters()', 'bigint'),
  ('rebuild_terminal_counters()', null),
  ('check()', null),
  ('reset(keep_config boolean DEFAULT false)', 'void'),
  ('storage_status()', null),
  ('rebase()', 'bigint'),
  ('active_queue_storage_schema()', 'text'),
  ('storage_prepare(schema text)', 'void'),
  ('storage_enter_mixed_transition()', 'void'),
  ('storage_finalize()', 'void'),
  ('storage_abort()', 'void'),
  ('insert_job_compat(p_kind text, p_queue text DEFAULT ''default''::text, p_args jsonb DEFAULT ''{}''::jsonb, p_state awa.job_state DEFAULT ''available''::awa.job_state, p_priority smallint DEFAULT 2, p_max_attempts smallint DEFAULT 25, p_run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_metadata jsonb DEFAULT ''{}''::jsonb, p_tags text[] DEFAULT ''{}''::text[], p_unique_key bytea DEFAULT NULL::bytea, p_unique_states bit DEFAULT NULL::"bit", p_ordering_key bytea DEFAULT NULL::bytea)', 'awa.jobs'),
  ('cancel(job_id bigint, reason text DEFAULT NULL::text)', 'boolean'),
  ('cancel_by_unique_key(unique_key bytea)', 'boolean'),
  ('retry(job_id bigint, queue text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone)', 'boolean'),
  ('delete_job_compat(p_id bigint)', 'boolean'),
  ('discard_failed_by_kind(kind text, queue text DEFAULT NULL::text)', 'bigint'),
  ('move_failed_to_dlq(job_id bigint, reason text DEFAULT NULL::text)', 'boolean'),
  ('bulk_move_failed_to_dlq(queue text DEFAULT NULL::text, kind text DEFAULT NULL::text, reason text DEFAULT NULL::text, max_jobs integer DEFAULT NULL::integer)', 'bigint'),
  ('retry_from_dlq(job_id bigint, queue text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone)', 'boolean'),
  ('bulk_retry_from_dlq(queue text DEFAULT NULL::text, kind text DEFAULT NULL::text, tag text DEFAULT NULL::text, max_jobs integer DEFAULT NULL::integer)', 'bigint'),
  ('purge_dlq(queue text DEFAULT NULL::text, kind text DEFAULT NULL::text, tag text DEFAULT NULL::text, older_than interval DEFAULT NULL::interval, max_jobs integer DEFAULT NULL::integer)', 'bigint'),
  ('start_batch_operation(operation text, filter jsonb DEFAULT ''{}''::jsonb, settings jsonb DEFAULT ''{}''::jsonb, all_jobs boolean DEFAULT false)', 'bigint'),
  ('count_batch_jobs(operation text, filter jsonb DEFAULT ''{}''::jsonb, settings jsonb DEFAULT ''{}''::jsonb)', 'bigint'),
  ('run_batch_operation(id bigint, max_jobs integer DEFAULT 1000)', 'SETOF awa.batch_operation'),
  ('get_batch_operation(id bigint)', 'SETOF awa.batch_operation'),
  ('list_batch_operations(state text DEFAULT NULL::text, max_operations integer DEFAULT 100)', 'SETOF awa.batch_operation'),
  ('cancel_batch_operation(id bigint)', 'boolean'),
  ('dlq_depth(queue text DEFAULT NULL::text)', null);

select is_empty(
  $$ select d.signature from pg_temp.documented as d
     except select f.name || '(' || pg_get_function_arguments(f.oid) || ')' from pg_temp.public_functions as f $$,
  'argument names, their order, types and defaults are the documented ones');
select is_empty(
  $$ select f.name || '(' || pg_get_function_arguments(f.oid) || ')' from pg_temp.public_functions as f
     except select d.signature from pg_temp.documented as d $$, 'no other function is public');
select is_empty(
  $$ select d.signature, d.result, pg_get_function_result(f.oid)
     from pg_temp.documented as d join pg_temp.public_functions as f on d.signature = f.name || '(' || pg_get_function_arguments(f.oid) || ')'
     where coalesce(d.result <> pg_get_function_result(f.oid), not f.proretset) $$,
  'so are the results');
select is_empty(
  $$ select f.name from pg_temp.public_functions as f
     where f.name in (select split_part(d.signature, '(', 1) from pg_temp.documented as d) and f.name <> 'enqueue_many'
     group by f.name having count(*) > 1 $$, 'no name is overloaded, except for enqueue_many');
select is_empty($$ select f.name, a.name from pg_temp.public_functions as f, unnest(f.proargnames) as a (name) where a.name ~ '^p_' and f.name !~ '_compat$' $$,
  'public arguments have bare names, those of the compatible surface aside');

-- Types and views

select enum_has_labels('awa', 'job_state',
  array['scheduled', 'available', 'running', 'completed', 'retryable', 'failed', 'cancelled', 'waiting_external'], 'awa.job_state has the documented labels');
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'awa.done_entries'::regclass and a.attnum > 0),
  array['id bigint', 'kind text', 'queue text', 'args jsonb', 'state awa.job_state', 'priority smallint', 'attempt smallint', 'max_attempts smallint',
    'run_at timestamp with time zone', 'heartbeat_at timestamp with time zone', 'deadline_at timestamp with time zone', 'attempted_at timestamp with time zone',
    'finalized_at timestamp with time zone', 'created_at timestamp with time zone', 'errors jsonb[]', 'metadata jsonb', 'tags text[]', 'unique_key bytea',
    'unique_states bit(8)', 'callback_id uuid', 'callback_timeout_at timestamp with time zone', 'run_lease bigint', 'progress jsonb', 'ready_slot smallint',
    'enqueue_shard smallint'], 'done_entries has the documented columns');

select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'awa.jobs'::regclass and a.attnum > 0),
  array['id bigint', 'kind text', 'queue text', 'args jsonb', 'state awa.job_state', 'priority smallint', 'attempt smallint', 'max_attempts smallint',
    'run_at timestamp with time zone', 'heartbeat_at timestamp with time zone', 'deadline_at timestamp with time zone', 'attempted_at timestamp with time zone',
    'finalized_at timestamp with time zone', 'created_at timestamp with time zone', 'errors jsonb[]', 'metadata jsonb', 'tags text[]', 'unique_key bytea',
    'unique_states bit(8)', 'callback_id uuid', 'callback_timeout_at timestamp with time zone', 'run_lease bigint', 'progress jsonb'],
  'awa.jobs has the documented columns');

-- Marks

select is_empty($$ select name from pg_temp.public_functions where obj_description(oid, 'pg_proc') is null or length(obj_description(oid, 'pg_proc')) < 30 $$,
  'every public function has a comment that says what it does');
select is_empty(
  $$ select c.relname from pg_class as c where c.relnamespace = 'awa'::regnamespace and c.relkind in ('r', 'p', 'v', 'S') and not c.relispartition
       and coalesce(length(obj_description(c.oid, 'pg_class')), 0) < 15
     union
     select t.typname from pg_type as t
     where t.typnamespace = 'awa'::regnamespace and t.typelem = 0 and not exists (select from pg_class as c where c.oid = t.typrelid and c.relkind <> 'c')
       and coalesce(length(obj_description(t.oid, 'pg_type')), 0) < 30 $$,
  'so has every table, view, sequence and type');
select is_empty(
  $$ select p.name, c.code from pg_temp.public_functions as p
     cross join lateral regexp_matches(obj_description(p.oid, 'pg_proc'), 'AW[0-9]{3}', 'g') as c (code)
     where c.code[1] !~ '^AW00[1-7]$' $$, 'comments name documented error codes only');
-- These are arithmetic: they touch nothing, so they need not be anybody else.
select is_empty($$ select name from pg_temp.public_functions where not prosecdef and name not in ('backoff', 'unique_key_of', 'active_queue_storage_schema') $$, 'public functions run as the schema''s owner');
select is_empty(
  $$ select name, proconfig from pg_temp.public_functions
     where prorettype <> 'trigger'::regtype and not exists (select from unnest(proconfig) as c where c ~ '^search_path=pg_catalog, (awa, )?pg_temp$') $$,
  'each pins its search_path: the catalogue first, temporary objects last');
-- Where the server's settings make plans look costly, compiling one takes longer than most calls.
select is_empty(
  $$ select f.name from pg_temp.public_functions as f join pg_language as l on l.oid = f.prolang
     where l.lanname = 'plpgsql' and f.prosecdef and f.prorettype <> 'trigger'::regtype and not exists (select from unnest(f.proconfig) as c where c = 'jit=off') $$,
  'each has its statements run as they are, never compiled');
-- What the jobs view calls, its triggers included, runs as its caller
-- otherwise.
select is_empty(
  $$ select proname from pg_proc
     where pronamespace = 'awa'::regnamespace and proname ~ '^_' and prosecdef and prorettype <> 'trigger'::regtype
       and proname not in ('_attempt_of', '_by_key_at_most', '_newest_cursors', '_claimed') $$,
  'internal functions do not run as their owner by themselves');
select is_empty(
  $$ select proname, proconfig from pg_proc
     where pronamespace = 'awa'::regnamespace and prosecdef and not exists (select from unnest(proconfig) as c where c = 'search_path=pg_catalog, awa, pg_temp') $$,
  'whatever runs as the owner pins its search_path');
select is((select count(distinct proowner) from pg_proc where pronamespace = 'awa'::regnamespace), 1::bigint, 'one role owns every function');
select is_empty($$ select name, provolatile from pg_temp.public_functions where provolatile <> 'v' and name not in ('unique_key_of', 'active_queue_storage_schema') $$,
  'public functions are volatile: each statement in them takes its own snapshot, after its locks');

-- With standard_conforming_strings = off a backslash in an ordinary string is another
-- string.
select is_empty($$
  select p.oid::regproc from pg_proc as p
  where p.pronamespace = 'awa'::regnamespace and regexp_replace(p.prosrc, '--[^\n]*|E''[^'']*''', '', 'g') ~ '\\' $$,
  'no function changes its meaning with standard_conforming_strings');

-- A caller's search_path cannot bend them.

create schema tap_50;
create function tap_50.now () returns timestamptz language sql as $$ select 'infinity'::timestamptz $$;
create function tap_50.length (text) returns integer language sql as $$ select 0 $$;
create table pg_temp.ready_entries (like awa.ready_entries);
create table pg_temp.queue_lanes (like awa.queue_lanes);
create table pg_temp.segment_rotations (like awa.segment_rotations);
set local search_path = tap_50, pg_temp, pg_catalog, public;
select awa.enqueue('k', queue => 'tap/50') \g /dev/null
set local search_path = pg_catalog, public;
select results_eq($$ select available from awa.queue_counts('tap/50') $$, 'values (1::bigint)', 'functions and temporary tables of the caller do not reach into a call');

select * from finish();
rollback;
