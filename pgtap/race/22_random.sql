-- Random producers, claimers, finishers and turns of the ring: each committed
-- job is handed out exactly once, in order per producer, and counted.
\ir sessions.psql
select pg_temp.forget('race/22') \g /dev/null
select plan(9);
select pg_temp.open(s) from unnest(array['p1', 'p2', 'p3', 'p4', 'c1', 'c2', 'm']) as s \g /dev/null
select floor(random() * 1000000)::integer as seed \gset
select diag('seed: ' || :seed);

create temp table produced (id bigint, session text, state text);
create temp table claimed (id bigint, receipt awa.receipt, n serial);
create temp table turns (outcome text);

-- Each producer has a random, own, maybe long transaction; claimers claim and
-- commit or roll back; m rotates and prunes.
create procedure pg_temp.play (p_seed integer, p_steps integer)
  language plpgsql as $$
declare
  v_session text;
  v_die     double precision;
  v_id      bigint;
  v_open    text[] := '{}';
begin
  perform setseed(p_seed / 1000000.0);
  for i in 1 .. p_steps loop
    v_die := random();
    v_session := 'p' || (1 + floor(random() * 4));
    if v_die < 0.45 then
      if not v_session = any (v_open) and random() < 0.5 then
        perform pg_temp.tell(v_session, 'begin');
        v_open := v_open || v_session;
      end if;
      v_id := pg_temp.run(v_session, format('select awa.enqueue(%L, queue => %L, priority => %s)', 'k', 'race/22', 2 + floor(random() * 2)));
      insert into produced values (v_id, v_session, case when v_session = any (v_open) then 'open' else 'committed' end);
    elsif v_die < 0.6 then
      if v_session = any (v_open) then
        if random() < 0.3 then
          perform pg_temp.tell(v_session, 'rollback');
          update produced set state = 'undone' where session = v_session and state = 'open';
        else
          perform pg_temp.tell(v_session, 'commit');
          update produced set state = 'committed' where session = v_session and state = 'open';
        end if;
        v_open := array_remove(v_open, v_session);
      end if;
    elsif v_die < 0.85 then
      if random() < 0.15 then
        perform pg_temp.tell('c1', 'begin'), pg_temp.run('c1', 'select job_id from awa.claim(''race/22'', 3)'), pg_temp.tell('c1', 'rollback');
      else
        insert into claimed (id, receipt)
        select r.job_id, r.receipt
        from dblink('c' || (1 + floor(random() * 2)), format('select job_id, receipt from awa.claim(%L, %s)', 'race/22', 1 + floor(random() * 6)))
          as r (job_id bigint, receipt awa.receipt);
      end if;
    elsif v_die < 0.93 then
      perform pg_temp.run('c2', (
        select format('select awa.complete_many(%L::awa.receipt[])', coalesce(array_agg(c.receipt), '{}'))
        from (select d.receipt from claimed as d order by random() limit 10) as c));
    elsif v_die < 0.97 then
      insert into turns values (pg_temp.run('m', 'select awa.rotate()'));
    else
      insert into turns values (pg_temp.run('m', 'select awa.prune()'));
      perform pg_temp.run('m', 'select awa.checkpoint_terminal_counters()');
    end if;
  end loop;
  foreach v_session in array v_open loop
    perform pg_temp.tell(v_session, 'commit');
    update produced set state = 'committed' where session = v_session and state = 'open';
  end loop;
end;
$$;
call pg_temp.play(:seed, 800);
select is_empty($$ select outcome from turns where outcome not in ('rotated', 'idle', 'blocked', 'pruned', 'empty', 'busy') $$,
  'no turn of the ring failed');
select is_empty('select * from awa.check()', 'the storage is sound in the middle of it');

insert into claimed (id, receipt)
select r.job_id, r.receipt from dblink('c1', $$ select job_id, receipt from awa.claim('race/22', 10000) $$) as r (job_id bigint, receipt awa.receipt);
select is_empty('select id from claimed group by id having count(*) > 1', 'no job was handed out twice');
select is_empty($$ select id from produced where state = 'committed' except select id from claimed $$, 'every committed job was handed out');
select is_empty($$ select id from claimed except select id from produced where state = 'committed' $$, 'no other job was');

select pg_temp.run('c1', (select format('select awa.complete_many(%L::awa.receipt[])', array_agg(receipt order by n)) from claimed)) \g /dev/null
select results_eq($$ select available, running, completed + pruned_terminal from awa.queue_counts('race/22') $$,
  $$ select 0::bigint, 0::bigint, count(*) from produced where state = 'committed' $$, 'each of them counts as completed, once');
select is((select coalesce(sum(live_terminal_count), 0) from awa.queue_terminal_live_counts where queue = 'race/22'),
  (select count(*) from awa.done_entries where queue = 'race/22')::numeric, 'counters equal history');
select is_empty('select * from awa.check()', 'the storage is sound');
select is_empty('select * from awa.rebuild_terminal_counters()', 'a rebuild finds nothing to heal');

select pg_temp.forget('race/22') \g /dev/null
select * from finish();
