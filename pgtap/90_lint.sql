-- plpgsql_check has nothing to say about any function of the schema.
select not exists (select from pg_extension as e where e.extname = 'plpgsql_check') as missing \gset
\if :missing
\echo 1..0 # SKIP the server has no plpgsql_check
\quit
\endif
begin;
select plan(4);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

-- Internal functions name tables bare: their public callers pin this path.
select set_config('search_path', format('pg_catalog, awa, pg_temp, %s',
  (select string_agg(distinct p.pronamespace::regnamespace::text, ', ') from pg_proc as p
   where p.oid = 'plan(integer)'::regprocedure or p.proname = 'plpgsql_check_function_tb')), true) \g /dev/null

create table pg_temp.findings as
select p.proname::text as name, c.lineno, c.level, c.sqlstate, c.message, c.detail, c.context
from pg_proc as p
join pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
cross join lateral plpgsql_check_function_tb(p.oid, extra_warnings => true, performance_warnings => true, security_warnings => true) as c
where p.pronamespace = 'awa'::regnamespace and p.prorettype <> 'trigger'::regtype;

-- These are volatile on purpose: each statement of a volatile function takes
-- its own snapshot, where a stable one would reuse its caller's, taken before
-- the locks that the caller has just been given.
delete from pg_temp.findings as f
where f.level = 'performance' and f.message = 'routine is marked as VOLATILE, should be STABLE'
  and f.name in ('_snapshot_is_stale', '_segment_changed', '_hide_own', '_locate_many', '_candidates', '_due_attempts', '_holds_key', 'callback_status',
    '_body', 'dlq_depth', '_closed_between', '_slot_state', '_aged_slots', '_tokens', '_dependents_know', '_due_leases', '_progress_of',
    '_any_progress', '_batch_likely', '_batch_list', '_batch_matching', 'get_batch_operation');

-- These raise, which an immutable function would do at planning already.
delete from pg_temp.findings as f
where f.level = 'performance' and f.message = 'routine is marked as VOLATILE, should be IMMUTABLE'
  and f.name in ('_invalid', '_serialization_failure');

-- A CASE over every slot of the ring returns in each branch and has no ELSE:
-- a slot that no ring has raises, it does not fall through. cancel ends in a
-- loop that only returns leave.
delete from pg_temp.findings as f
where f.level = 'warning extra' and f.message = 'control reached end of function without RETURN' and f.name in ('_segment_changed', '_progress_of', '_any_progress', 'cancel');

select ok((select count(*) > 10 from pg_proc as p join pg_language as l on l.oid = p.prolang where p.pronamespace = 'awa'::regnamespace and l.lanname = 'plpgsql'),
  'there are functions to check');
select is_empty('select name, lineno, level, message, detail from pg_temp.findings where level = ''error'' order by 1, 2', 'no error');
select is_empty('select name, lineno, level, message, detail from pg_temp.findings where level <> ''error'' order by 1, 2', 'no warning: extra, performance or security');
-- PL/pgSQL appends in place only what it can compute without a query.
select is_empty($$ select p.proname, m.found[1] from pg_proc as p
  cross join lateral regexp_match(p.prosrc, '\m(\w+) := \1 \|\| \(\s*select\M') as m (found)
  where p.pronamespace = 'awa'::regnamespace and m.found is not null $$, 'no array is copied for each element that it gets');

select * from finish();
rollback;
