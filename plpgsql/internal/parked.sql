-- The list of parked jobs: a claim met them while their key had no slot, and set them aside.

-- Whether a listed job is parked. One that left may stay on the list for a while, and an UPDATE
-- may have put it off until infinity for good.
create or replace function {{ .schema }}._is_parked (p_job {{ .schema }}.deferred_jobs)
  returns boolean
  language sql
  immutable
as $$
  select (p_job.run_at = 'infinity' and p_job.metadata ? 'awa:run_at') is true
$$;

-- The next keys with parked jobs after one: of fifty jobs at a time as long as those have more
-- than one, then from key to key. Each step reads the rest of an index page, which is most of its cost.
create or replace function {{ .schema }}._parked_keys_after (p_queue text, p_round integer, p_key text, p_max integer)
  returns text[]
  language plpgsql
  stable
  set enable_seqscan = off
as $$
begin
  return array(
    with recursive step as (
      select array[p_key] as keys, 0 as met, 50 as jobs
      union all
      select x.keys, s.met + cardinality(x.keys), case when cardinality(x.keys) > 1 then 50 else 1 end
      from step as s
      cross join lateral (
        select array(
          select n.key
          from (
            select p.key from parked_jobs as p
            where p.queue = p_queue and p.round = p_round and p.key > s.keys[cardinality(s.keys)]
            order by p.key
            limit s.jobs
          ) as n
          group by n.key
          order by n.key) as keys
        offset 0
      ) as x
      where x.keys <> '{}' and s.met < p_max
    )
    select k.key from step as s cross join lateral unnest(s.keys) as k (key) where s.met > 0 limit p_max);
end;
$$;

-- Some keys with parked jobs, from a random one on, so that many keys that are taken do not
-- hide a free one for long. A key may be named twice.
create or replace function {{ .schema }}._parked_keys (p_queue text, p_round integer, p_max integer)
  returns text[]
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_start bigint := hashint8extended((random() * 1e15)::bigint, 0);
  -- After the key of a random one of them.
  v_keys  text[] := _parked_keys_after(p_queue, p_round, coalesce(
    (select p.key from parked_jobs as p
     where p.queue = p_queue and p.round = p_round and hashint8extended(p.job_id, 0) >= v_start
     order by hashint8extended(p.job_id, 0) limit 1),
    ''), p_max);
begin
  if cardinality(v_keys) < p_max then
    v_keys := v_keys || _parked_keys_after(p_queue, p_round, '', p_max - cardinality(v_keys));
  end if;
  return v_keys;
end;
$$;

-- Takes jobs off the list of parked ones, and says how many: each by its key and id, not by a
-- join, which may be planned as a walk through all parked jobs of the queue for each. Waits for
-- nobody: a later claim removes what is left on the list.
create or replace function {{ .schema }}._forget_parked (p_queue text, p_round integer, p_keys text[], p_job_ids bigint[])
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_jobs bigint;
begin
  delete from parked_jobs as p
  where p.ctid = any (array(
    select f.ctid from parked_jobs as f
    where f.ctid = any (array(
      select n.ctid
      from unnest(p_keys, p_job_ids) as u (key, job_id)
      cross join lateral (
        select x.ctid, x.job_id from parked_jobs as x
        where x.queue = p_queue and x.round = p_round and x.key = u.key and x.job_id >= u.job_id
        order by x.job_id
        limit 1
      ) as n
      where n.job_id = u.job_id))
    for update skip locked));
  get diagnostics v_jobs = row_count;
  return v_jobs;
end;
$$;

-- The same for jobs of any lanes that leave in another way, so that no claim has to walk over
-- them.
create or replace function {{ .schema }}._forget_parked_of (p_lanes bigint[], p_keys text[], p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
declare
  v_queue text;
  v_round integer;
  v_keys  text[];
  v_ids   bigint[];
begin
  if p_job_ids is null then
    return;
  end if;
  for v_queue, v_round, v_keys, v_ids in
    select l.queue, (select m.parked_round from queue_meta as m where m.queue = l.queue), array_agg(u.key), array_agg(u.job_id)
    from unnest(p_lanes, p_keys, p_job_ids) as u (lane, key, job_id)
    join queue_lanes as l on l.lane = u.lane
    where u.key is not null
    group by l.queue
  loop
    perform _forget_parked(v_queue, v_round, v_keys, v_ids);
  end loop;
end;
$$;

-- How many entries of the lists of parked jobs this transaction has read in vain so far. While
-- an old snapshot is open they stay there, of jobs that left long ago. One expression, so that
-- it is inlined.
create or replace function {{ .schema }}._parked_walk ()
  returns bigint
  language sql
  volatile
as $$
  select pg_catalog.pg_stat_get_xact_tuples_returned('{{ .schema }}.parked_jobs_pkey'::regclass)
    - pg_catalog.pg_stat_get_xact_tuples_fetched('{{ .schema }}.parked_jobs_pkey'::regclass)
    + pg_catalog.pg_stat_get_xact_tuples_returned('{{ .schema }}.parked_jobs_mixed_idx'::regclass)
    - pg_catalog.pg_stat_get_xact_tuples_fetched('{{ .schema }}.parked_jobs_mixed_idx'::regclass)
$$;

-- Moves a queue's list to a new round, where nothing is in the way of a look at it. The caller
-- has the queue's turn, so nobody adds to the list meanwhile. Waits for nobody: if somebody
-- holds a part of the list, the round stays as it is. Returns the round.
create or replace function {{ .schema }}._renew_parked (p_queue text, p_round integer)
  returns integer
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform from queue_meta as m where m.queue = p_queue for no key update nowait;
  perform from parked_jobs as p where p.queue = p_queue and p.round = p_round for update nowait;
  with moved as (
    delete from parked_jobs as p where p.queue = p_queue and p.round = p_round returning p.key, p.job_id
  )
  insert into parked_jobs (queue, round, key, job_id)
  select p_queue, p_round + 1, m.key, m.job_id from moved as m;
  update queue_meta as m set parked_round = p_round + 1 where m.queue = p_queue;
  return p_round + 1;
exception when lock_not_available then
  return p_round;
end;
$$;
