-- Enqueue many jobs that are alike but for their arguments, which become visible together.

create or replace function {{ .schema }}.enqueue_many (
  kind          text,
  args          jsonb[],
  queue         text        default 'default',
  priority      integer     default 2,
  run_at        timestamptz default null,
  max_attempts  integer     default 25,
  tags          text[]      default '{}',
  metadata      jsonb       default '{}',
  ordering_key  text        default null,
  deadline      interval    default null
)
  returns bigint[]
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_xid      xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_now      timestamptz := _begun();
  v_jobs     integer := cardinality(enqueue_many.args);
  v_ids      bigint[];
  v_metadata jsonb;
  v_tags     text[] := nullif(enqueue_many.tags, '{}');
  v_slot     smallint;
  v_shards   smallint;
  v_notify   boolean;
  v_depth    bigint;
  v_shard    integer := 0;
  v_lane     bigint;
  v_heavy    boolean;
begin
  perform _check_job(enqueue_many.kind, enqueue_many.queue, enqueue_many.priority,
    enqueue_many.max_attempts, enqueue_many.tags, '{}', enqueue_many.metadata);
  perform _check_deadline(enqueue_many.deadline);
  v_metadata := nullif(enqueue_many.metadata - 'awa:run_at', '{}');
  if v_jobs is null or array_ndims(enqueue_many.args) > 1 then
    perform _invalid(format('args %s', coalesce('has ' || array_ndims(enqueue_many.args) || ' dimensions', 'is null')),
      'Pass one jsonb per job in a plain array.');
  elsif array_position(enqueue_many.args, null) is not null then
    perform _invalid(format('args[%s] is null', array_position(enqueue_many.args, null)),
      'Pass a JSON value for every job.');
  elsif v_jobs = 0 then
    return array[]::bigint[];
  end if;
  v_heavy := pg_column_size(enqueue_many.metadata) + coalesce(pg_column_size(enqueue_many.tags), 0)
      + coalesce(pg_column_size(enqueue_many.ordering_key), 0) > 20000
    or pg_column_compression(enqueue_many.metadata) is not null;
  perform _check_size(u.args, enqueue_many.metadata, enqueue_many.tags, enqueue_many.ordering_key)
  from unnest(enqueue_many.args) as u (args)
  -- Elements of an array are not compressed.
  where v_heavy or pg_column_size(u.args) > 40000;

  select g.slot, m.enqueue_shards, m.notify, m.max_depth into v_slot, v_shards, v_notify, v_depth
  from (select r.slot from segment_rotations as r order by r.generation desc limit 1) as g
  left join queue_meta as m on m.queue = enqueue_many.queue collate "default";  -- see enqueue
  if v_slot is null then
    perform _no_segment();
  end if;
  if v_depth is not null then
    perform _check_depth(enqueue_many.queue collate "default", v_depth, v_jobs);
  end if;
  if v_shards > 1 then
    v_shard := _shard(enqueue_many.ordering_key, v_shards);
  end if;
  v_lane := _register_lane(enqueue_many.queue, enqueue_many.priority, v_shard);

  v_ids := array(select nextval('job_id_seq') from generate_series(1, v_jobs));

  if enqueue_many.run_at > _now() or _snapshot_is_stale() then
    insert into deferred_jobs (
      job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, ordering_key, deadline, xid)
    select u.id, v_lane, 'scheduled', coalesce(enqueue_many.run_at, v_now), v_now, 1, 1,
      enqueue_many.max_attempts, enqueue_many.kind, u.args, v_metadata, v_tags,
      enqueue_many.ordering_key, enqueue_many.deadline, v_xid
    from unnest(v_ids, enqueue_many.args) as u (id, args);
    return v_ids;
  end if;

  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    insert into ready_entries_{{ $i }} (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, ordering_key, deadline)
    select v_lane, v_xid, u.id, coalesce(enqueue_many.run_at, v_now), v_now, 1, {{ $i }}, 1,
      enqueue_many.max_attempts, enqueue_many.kind, u.args, v_metadata, v_tags,
      enqueue_many.ordering_key, enqueue_many.deadline
    from unnest(v_ids, enqueue_many.args) as u (id, args);
{{ end }}
  end case;
  if v_notify is not false then
    perform _wake(enqueue_many.queue);
  end if;
  return v_ids;
end;
$$;

comment on function {{ .schema }}.enqueue_many (text, jsonb[], text, integer, timestamptz, integer, text[], jsonb, text, interval) is
  'Adds one job per element of args, otherwise alike, and returns their ids in order. Never waits for another producer. Raises AW006 for an argument out of bounds, AW007 when the queue is too full for all of them; then nothing is added.';
