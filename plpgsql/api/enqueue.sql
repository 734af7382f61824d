-- Enqueue: one job. Visible to claimers when the caller commits.

create or replace function {{ .schema }}.enqueue (
  kind          text,
  args          jsonb       default '{}',
  queue         text        default 'default',
  priority      integer     default 2,
  run_at        timestamptz default null,
  max_attempts  integer     default 25,
  tags          text[]      default '{}',
  metadata      jsonb       default '{}',
  unique_key    bytea       default null,
  unique_states bit(8)      default null,
  ordering_key  text        default null,
  deadline      interval    default null,
  concurrency_key text      default null,
  after         bigint[]    default null,
  follow_ups    jsonb       default null
)
  returns bigint
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  -- Before the ring is read: a transaction numbered after a rotation has
  -- settled can then never write into an older segment.
  v_xid    xid8 := pg_current_xact_id();
  v_now    timestamptz := _begun();
  v_job_id bigint;
  v_slot   smallint;
  v_shards smallint;
  v_notify boolean;
  v_depth  bigint;
  v_shard  integer;
  v_lane   bigint;
  v_known  boolean;
  v_later  boolean;
  v_holder bigint;
begin
  if enqueue.concurrency_key is not null or enqueue.after is not null or enqueue.follow_ups is not null then
    return _enqueue_flow(enqueue.kind, enqueue.args, enqueue.queue, enqueue.priority, enqueue.run_at, enqueue.max_attempts,
      enqueue.tags, enqueue.metadata, enqueue.unique_key, enqueue.unique_states, enqueue.ordering_key, enqueue.deadline,
      enqueue.concurrency_key, enqueue.after, enqueue.follow_ups);
  end if;
  if (length(enqueue.kind) between 1 and 200 and length(enqueue.queue) between 1 and 200
      and enqueue.priority between 1 and 4 and enqueue.max_attempts between 1 and 1000
      and enqueue.args is not null and jsonb_typeof(enqueue.metadata) = 'object' and not enqueue.metadata ? 'awa:run_at'
      and (enqueue.tags = '{}') is not false and enqueue.deadline is null and enqueue.unique_states is null
      and (octet_length(enqueue.unique_key) > 2000) is not true
      and _is_light(enqueue.args, enqueue.metadata, enqueue.tags, enqueue.ordering_key)) is not true
  then
    perform _check_job(enqueue.kind, enqueue.queue, enqueue.priority, enqueue.max_attempts,
      enqueue.tags, enqueue.args, enqueue.metadata);
    perform _check_deadline(enqueue.deadline);
    perform _check_key(enqueue.unique_key, enqueue.unique_states);
    perform _check_size(enqueue.args, enqueue.metadata, enqueue.tags, enqueue.ordering_key);
    -- A job with this note may be taken for one that was set aside.
    enqueue.metadata := enqueue.metadata - 'awa:run_at';
  end if;

  v_lane := _lane(enqueue.queue, enqueue.priority, 0);
  select g.slot, m.enqueue_shards, m.notify, m.max_depth,
    (select l.queue = enqueue.queue collate "default" from queue_lanes as l where l.lane = v_lane order by l.lane limit 1),
    nextval('job_id_seq')
  into v_slot, v_shards, v_notify, v_depth, v_known, v_job_id
  from (select n.slot from segment_rotations as n order by n.generation desc limit 1) as g
  -- Whatever the collation that the caller's name comes with takes for equal.
  left join queue_meta as m on m.queue = enqueue.queue collate "default";
  if v_slot is null then
    perform _no_segment();
  end if;
  if v_known is not true or v_shards > 1 or v_depth is not null then
    if v_shards > 1 then
      v_shard := _shard(enqueue.ordering_key, v_shards);
    end if;
    v_lane := _register_lane(enqueue.queue, enqueue.priority, coalesce(v_shard, 0));
    if v_depth is not null then
      perform _check_depth(enqueue.queue collate "default", v_depth, 1);
    end if;
  end if;
  if enqueue.unique_key is not null or enqueue.run_at is not null
    or _keeps_snapshot()
  then
    v_later := enqueue.run_at > _now();
    if _snapshot_is_stale() then
      v_later := true;
      v_lane := _register_lane(enqueue.queue, enqueue.priority, coalesce(v_shard, 0));
    end if;
    if enqueue.unique_key is not null then
      v_holder := _take_key(enqueue.unique_key, enqueue.unique_states, v_job_id,
        case when v_later then 'scheduled' else 'available' end::job_state);
      if v_holder <> v_job_id then
        return v_holder;
      end if;
    end if;
  end if;

  if v_later then
    insert into deferred_jobs (
      job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, unique_key, unique_states, ordering_key, deadline, xid)
    values (
      v_job_id, v_lane, 'scheduled', coalesce(enqueue.run_at, v_now), v_now, 1, 1, enqueue.max_attempts,
      enqueue.kind, enqueue.args, nullif(enqueue.metadata, '{}'), nullif(enqueue.tags, '{}'),
      enqueue.unique_key, coalesce(enqueue.unique_states, case when enqueue.unique_key is not null then b'11111000' end),
      enqueue.ordering_key, enqueue.deadline, v_xid);
    return v_job_id;
  end if;

  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    insert into ready_entries_{{ $i }} (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, unique_key, unique_states, ordering_key, deadline)
    values (
      v_lane, v_xid, v_job_id, coalesce(enqueue.run_at, v_now), v_now, 1, {{ $i }}, 1, enqueue.max_attempts,
      enqueue.kind, enqueue.args, nullif(enqueue.metadata, '{}'), nullif(enqueue.tags, '{}'),
      enqueue.unique_key, coalesce(enqueue.unique_states, case when enqueue.unique_key is not null then b'11111000' end),
      enqueue.ordering_key, enqueue.deadline);
{{ end }}
  end case;
  if v_notify is not false and not (  -- _wake, without another call
    pg_try_advisory_lock(_lock_class(2), _queue_key(enqueue.queue))
    and pg_advisory_unlock(_lock_class(2), _queue_key(enqueue.queue)))
  then
    perform pg_notify('{{ .schema }}', enqueue.queue);
  end if;
  return v_job_id;
end;
$$;

comment on function {{ .schema }}.enqueue is
  'Adds one job and returns its id. The job exists when the caller''s transaction commits; with run_at in the future it waits until then. With unique_key, while another job holds the key in a state of its unique_states (one bit per state, in the order of job_state from the left; default 11111000), returns that job''s id and adds nothing. With after, waits as scheduled until those jobs completed; follow_ups are enqueued when it ends; of the jobs with one concurrency_key no more run than the queue''s concurrency_limit. Never waits for a claimer, and for others only over the same unique key. Raises AW006 for an argument out of bounds, AW007 when the queue is full, AW002 for a job in after that does not exist, AW003 for one that will not complete.';
