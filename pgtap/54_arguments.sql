-- Whatever a public function is given, it takes it or says what is wrong with it: never an
-- error from inside. Values in turn, one argument of one call at a time.
begin;
select plan(5);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

\ir refused.psql

-- A value for each argument that has no default. Who takes a receipt gets one that is open.
create temp table given (name text primary key, value text not null);
insert into given values
  ('kind', $$ 'k' $$), ('p_kind', $$ 'k' $$), ('jobs', $$ '[{"kind": "k"}]' $$), ('args', $$ array['1'::jsonb] $$),
  ('queue', $$ 'tap/54' $$), ('queues', $$ '{tap/54}' $$), ('settings', $$ '{}' $$), ('schema', $$ 'awa' $$),
  ('receipt', $$ (select c.receipt from awa.claim('tap/54/open') as c) $$),
  ('receipts', $$ array(select c.receipt from awa.claim('tap/54/open') as c) $$),
  ('known', $$ '{}'::awa.receipt[] $$),
  ('delay', $$ '1 hour' $$), ('timeout', $$ '1 hour' $$), ('percent', '50'), ('attempt', '1'), ('worker', $$ 'tap/54' $$),
  ('callback_id', $$ (select awa.register_callback(c.receipt, '1 hour') from awa.claim('tap/54/open') as c) $$),
  ('job_id', $$ awa.enqueue('k', queue => 'tap/54/id') $$), ('p_id', $$ awa.enqueue('k', queue => 'tap/54/id') $$), ('id', '0'),
  ('unique_key', $$ 'tap/54' $$), ('name', $$ 'tap/54' $$), ('cron', $$ '@hourly' $$), ('operation', $$ 'cancel' $$);

create temp table odd (type text, value text);
insert into odd
select t.type, v.value
from (values
  ('text', array['null', $$''$$, $$' '$$, $$repeat('é', 201)$$, $$E'it''s "a" \\ %I %s\n'$$]),
  ('integer', array['null', '-2147483648', '-1', '0', '2147483647']),
  ('smallint', array['null', '(-32768)::smallint', '0::smallint', '32767::smallint']),
  ('bigint', array['null', '-9223372036854775808', '0', '9223372036854775807']),
  ('boolean', array['null', 'true']),
  ('interval', array['null', $$'0'$$, $$'-1 s'$$, $$'1 month -31 days'$$, $$'-1 month 40 days'$$, $$'178000000 years'$$, $$'-178000000 years'$$]),
  ('timestamp with time zone', array['null', $$'infinity'$$, $$'-infinity'$$, $$'4713-01-01 BC'$$, $$'294276-12-31'$$]),
  ('jsonb', array['null', $$'null'$$, $$'1'$$, $$'1e400'$$, $$'"x"'$$, $$'[]'$$, $$'[null]'$$, $$'[{}]'$$, $$'{}'$$, $$'{"": null}'$$, $$'{"kind": {"a": []}}'$$]),
  ('bytea', array['null', $$''$$, $$repeat('x', 2001)::bytea$$]),
  ('bit', array['null', $$''$$, $$'1'$$, $$'00000000'$$, $$'111111111'$$]),
  ('uuid', array['null', $$'00000000-0000-0000-0000-000000000000'$$]),
  ('awa.job_state', array['null', $$'running'$$, $$'completed'$$]),
  ('awa.receipt', array['null', 'row(null, null, null, null)::awa.receipt',
    'row(32767, 9223372036854775807, 9223372036854775807, 9223372036854775807)::awa.receipt',
    'row(-32768, -9223372036854775808, -9223372036854775808, -9223372036854775808)::awa.receipt',
    $$(select row((c.receipt).ready_slot, (c.receipt).batch_id, (c.receipt).job_id, 2)::awa.receipt from awa.claim('tap/54/open') as c)$$]),
  ('awa.receipt[]', array['null', $$'{}'$$, 'array[null]::awa.receipt[]',
    $$(select array[array[c.receipt], array[null::awa.receipt]] from awa.claim('tap/54/open') as c)$$, $$(select array[c.receipt, c.receipt] from awa.claim('tap/54/open') as c)$$]),
  ('text[]', array['null', $$'{}'$$, $$'{null}'$$, $$'{a,a}'$$, $$'{{a,b},{c,d}}'$$, $$'[5:6]={a,b}'$$, $$array(select n::text from generate_series(1, 21) as n)$$]),
  ('jsonb[]', array['null', $$'{}'$$, $$'{null}'$$, $$'{{1,2},{3,4}}'$$, $$'[5:6]={1,2}'$$]),
  ('bigint[]', array['null', $$'{}'$$, $$'{null}'$$, $$'{-1}'$$, $$'{{1,2},{3,4}}'$$])
) as t (type, odd_values)
cross join lateral unnest(t.odd_values) as v (value);

-- The arguments of every function but two, which wait for whoever uses queues at the time.
create temp table arguments as
select p.oid, p.proname, a.n, a.name, format_type(a.type, null) as type, a.n <= p.pronargs - p.pronargdefaults as required
from pg_proc as p
cross join lateral unnest(p.proargnames[1:p.pronargs], p.proargtypes::oid[]) with ordinality as a (name, type, n)
where p.pronamespace = 'awa'::regnamespace and p.proname !~ '^_' and p.proname not in ('reset', 'remove_queue');

create temp table calls as
select a.oid, format('select * from awa.%I(%s)', a.proname, string_agg(format('%I => %s', b.name, case when b.n = a.n then o.value else g.value end), ', ' order by b.n)) as call
from arguments as a
join odd as o on o.type = a.type
join arguments as b on b.oid = a.oid and (b.required or b.n = a.n)
left join given as g on g.name = b.name
group by a.oid, a.proname, a.n, o.value;

select is_empty($$ select distinct a.type from arguments as a where a.type not in (select o.type from odd as o) $$, 'each type of argument is tried');
select is_empty($$ select a.proname, a.name from arguments as a where a.required and a.name not in (select g.name from given as g) $$, 'each argument has a value for when others are tried');

select awa.enqueue_many('k', array_fill('1'::jsonb, array[(select count(*)::integer from calls)]), queue => q)
from unnest(array['tap/54', 'tap/54/open']) as q \g /dev/null
set client_min_messages = error;
create temp table outcomes as select c.call, r.* from calls as c cross join lateral pg_temp.refused(c.call) as r;
reset client_min_messages;
select is_empty($$ select o.call, o.state, o.message from outcomes as o where o.state <> 'accepted' and not (o.state ~ '^AW00[2-7]$' and o.hinted) $$,
  'a call is accepted, or refused with an error of awa''s own and a hint');
select isnt_empty($$ select c.job_id from awa.claim('tap/54/open') as c $$, 'whoever takes a receipt got one');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
