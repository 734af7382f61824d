-- Rebase beside others: it needs every table, which they meet in any order.
\ir sessions.psql
select pg_temp.forget('race/46') \g /dev/null
select plan(8);
select pg_temp.open(s) from unnest(array['other', 'keeper']) as s \g /dev/null

select is(pg_temp.tell('other', 'begin', $$ do $do$ begin perform awa.upsert_schedule('race/46', '0 0 1 1 *', 'k', queue => 'race/46'); end $do$ $$), 'ok',
  'one has something in hand that rebase needs');
select ok(pg_temp.waits('keeper', 'select awa.rebase()'), 'which rebase waits for, with other tables in hand');
select isnt(pg_temp.run('other', $$ select awa.enqueue('k', queue => 'race/46') $$), '40P01', 'that one gets those');
select is(pg_temp.tell('other', 'commit'), 'ok', 'and goes on to its end');
select isnt(pg_temp.answer('keeper'), '40P01', 'so does rebase');
select is(pg_temp.run('other', $$ select count(*) from awa.claim('race/46', 10) $$), '1', 'the job is handed out');

select pg_temp.tell('other', 'begin', $$ do $do$ begin perform awa.enqueue('k', queue => 'race/46'); end $do$ $$),
  dblink_exec('keeper', $set$ set lock_timeout = '1s'; set statement_timeout = '20s' $set$) \g /dev/null
select is(pg_temp.run('keeper', 'select awa.rebase()'), '55P03', 'one that stays open is not waited for without end');
select is(pg_temp.run('keeper', 'select awa.reset(true)'), '55P03', 'by reset neither');
select pg_temp.tell('other', 'rollback') \g /dev/null

select pg_temp.run('other', $$ select awa.remove_schedule('race/46') $$) \g /dev/null
select pg_temp.forget('race/46') \g /dev/null
select * from finish();
