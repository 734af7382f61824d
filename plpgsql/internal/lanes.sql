-- Lanes: one (queue, priority, enqueue_shard) stream each. The number follows from the name: 56
-- bits of the queue's hash, 2 of priority, 6 of shard. Where another queue has that number
-- already, see _register_lane.

create or replace function {{ .schema }}._lane (p_queue text, p_priority integer, p_shard integer)
  returns bigint
  language sql
  immutable
  parallel safe
as $$
  select (pg_catalog.hashtextextended(p_queue collate "C", 0) & (-256)::bigint)
       | ((p_priority - 1) << 6)::bigint | p_shard::bigint
$$;

create or replace function {{ .schema }}._lane_priority (p_lane bigint)
  returns smallint
  language sql
  immutable
  parallel safe
as $$
  select ((p_lane >> 6 & 3) + 1)::smallint
$$;

-- The advisory key that one claimer of a lane holds until its commit. Two lanes may share a
-- key; then they take turns, nothing worse.
create or replace function {{ .schema }}._lane_key (p_lane bigint)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select pg_catalog.hashint8(p_lane)
$$;

-- The order in which everybody waits for lanes: by their keys as the lock table shows them,
-- unsigned.
create or replace function {{ .schema }}._lane_rank (p_lane bigint)
  returns bigint
  language sql
  immutable
  parallel safe
as $$
  select {{ .schema }}._lane_key(p_lane)::bigint & 4294967295
$$;

-- Whether this transaction may hold a lane or a queue's turn: one that does has written since,
-- and so has an id, or has noted it in the setting. Asked before the lock table, which knows for
-- sure, but is costly to read and keeps others from locking meanwhile.
create or replace function {{ .schema }}._may_have_turns ()
  returns boolean
  language sql
  stable
as $$
  select pg_catalog.pg_current_xact_id_if_assigned() is not null
    or coalesce(pg_catalog.current_setting('{{ .schema }}.lane', true), '') <> ''
$$;

-- The keys of lanes (class 1) or turns at queues (class 3) that this transaction holds.
create or replace function {{ .schema }}._turns_in_hand (p_classes integer[])
  returns setof bigint
  language plpgsql
  volatile
as $$
begin
  return query
  select k.objid::bigint
  from pg_locks as k
  where k.locktype = 'advisory' and k.pid = pg_backend_pid() and k.granted and k.objsubid = 2
    and k.database = (select d.oid from pg_database as d where d.datname = current_database())
    and k.classid::bigint in (select _lock_class(c.class)::bigint & 4294967295 from unnest(p_classes) as c (class));
end;
$$;

-- Makes a lane known to claimers, and returns its number: the one that follows from the
-- name, unless another queue has that. A second name with the same hash is easily made, so
-- such a queue takes the number of another hash, and finds it by its name from then on.
-- Never waits: a producer that cannot see another's uncommitted row adds an equal one. So
-- does one whose snapshot may show a queue that was removed.
create or replace function {{ .schema }}._register_lane (p_queue text, p_priority integer, p_shard integer)
  returns bigint
  language plpgsql
  volatile
as $$
declare
  -- A caller's name may have a collation of its own.
  v_queue text collate "default" := p_queue;
  v_first bigint := _lane(p_queue, p_priority, p_shard);
  v_own   boolean := (select bool_and(l.queue = v_queue) from queue_lanes as l where l.lane = v_first);
  v_lane  bigint := v_first;
  v_salt  bigint := 0::bigint;
begin
  if v_own is not true then
    v_lane := coalesce((
      select min(l.lane) from queue_lanes as l
      where l.queue = v_queue and l.priority = p_priority and l.enqueue_shard = p_shard
        and not exists (select from queue_lanes as k where k.lane = l.lane and k.queue <> v_queue)), v_first);
    while exists (select from queue_lanes as l where l.lane = v_lane and l.queue <> v_queue) loop
      v_salt := v_salt + 1::bigint;
      v_lane := (hashtextextended(p_queue collate "C", v_salt) & (-256)::bigint) | (v_first & 255);
    end loop;
  end if;
  insert into queue_lanes (lane, queue, priority, enqueue_shard)
  select v_lane, p_queue, p_priority, p_shard
  where case when exists (select from queue_lanes as l where l.lane = v_lane) then _snapshot_is_stale() else true end;
  return v_lane;
end;
$$;

-- Equal rows left by producers that registered a lane at the same time.
create or replace function {{ .schema }}._fold_lanes ()
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_extra tid[] := array(
    select l.ctid
    from queue_lanes as l
    where exists (select from queue_lanes as k where k.lane = l.lane and k.ctid < l.ctid)
    for update skip locked);
begin
  if cardinality(v_extra) = 0 then
    return 0::bigint;
  end if;
  begin
    delete from queue_lanes as l where l.ctid = any (v_extra);
  exception when object_not_in_prerequisite_state then
    -- A publication contains the table, which has no replica identity. Equal rows may stay.
    return 0::bigint;
  end;
  return cardinality(v_extra)::bigint;
end;
$$;

-- The shard of an ordering key, or any shard for a job without one.
create or replace function {{ .schema }}._shard (p_ordering_key text, p_shards integer)
  returns integer
  language sql
  volatile
as $$
  select case when p_ordering_key is null
    then pg_catalog.floor(pg_catalog.random() * p_shards)::integer
    else (pg_catalog.hashtextextended(p_ordering_key collate "C", 1) & 2147483647)::integer % p_shards
  end
$$;
