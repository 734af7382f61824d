-- What relates a job to others: its concurrency key, the jobs it comes after and those that
-- follow it. Kept in the job's metadata, under names that begin with awa:.

-- Checks the jobs that one is to come after, and returns those that have not completed yet.
create or replace function {{ .schema }}._check_after (p_after bigint[])
  returns bigint[]
  language plpgsql
  volatile
as $$
declare
  v_after  bigint[];
  v_states text[];
  v_bad    bigint;
begin
  perform _enter_ring();
  if array_ndims(p_after) > 1 or array_position(p_after, null) is not null then
    perform _invalid(format('after is %s', left(p_after::text, 80)), 'Give a plain array of the ids of the jobs that must complete first, none of them null.');
  end if;
  v_after := array(select distinct u.id from unnest(p_after) as u (id) order by u.id);
  select array_agg(s.job_id), array_agg(coalesce(s.standing, 'pending')) into v_after, v_states from _standing(v_after) as s;
  v_bad := array_position(v_states, 'gone')::bigint;
  if v_bad is not null then
    raise exception using errcode = 'AW002',
      message = format('job %s, which this one is to come after, does not exist', v_after[v_bad]),
      hint = 'A job can only come after one that was enqueued before and is not pruned.';
  end if;
  v_bad := (select s.n from unnest(v_states) with ordinality as s (state, n) where s.state not in ('completed', 'pending') limit 1);
  if v_bad is not null then
    raise exception using errcode = 'AW003',
      message = format('job %s, which this one is to come after, is %s', v_after[v_bad], v_states[v_bad]),
      hint = 'It will not complete: retry it first.';
  end if;
  return array(select u.id from unnest(v_after, v_states) as u (id, state) where u.state = 'pending');
end;
$$;

-- enqueue, for a job that names any of these.
create or replace function {{ .schema }}._enqueue_flow (
  p_kind text, p_args jsonb, p_queue text, p_priority integer, p_run_at timestamptz, p_max_attempts integer, p_tags text[],
  p_metadata jsonb, p_unique_key bytea, p_unique_states bit(8), p_ordering_key text, p_deadline interval,
  p_concurrency_key text, p_after bigint[], p_follow_ups jsonb
)
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_metadata jsonb := p_metadata;
  v_pending  bigint[] := array[]::bigint[];
  v_id       bigint;
begin
  if p_concurrency_key is not null then
    perform _check_name('concurrency_key', p_concurrency_key);
    v_metadata := v_metadata || jsonb_build_object('awa:concurrency_key', p_concurrency_key);
  end if;
  if p_follow_ups is not null then
    perform _check_follow_ups(p_follow_ups);
    v_metadata := v_metadata || jsonb_build_object('awa:follow_ups', _settled_follow_ups(p_follow_ups));
  end if;
  if p_after is not null then
    v_pending := _check_after(p_after);
  end if;
  v_id := enqueue(p_kind, p_args, p_queue, p_priority, case when v_pending = '{}' then p_run_at else 'infinity' end,
    p_max_attempts, p_tags, v_metadata, p_unique_key, p_unique_states, p_ordering_key, p_deadline);
  -- enqueue always draws an id; if it returns another one, that is the id of the key's holder.
  if v_pending <> '{}' and v_id = currval('job_id_seq') then
    insert into job_dependencies (after_id, job_id, xid) select u.id, v_id, pg_current_xact_id() from unnest(v_pending) as u (id);
    if p_run_at is not null then
      -- Not given to enqueue, which takes this name from nobody.
      update deferred_jobs as d set metadata = coalesce(d.metadata, '{}') || jsonb_build_object('awa:run_at', p_run_at)
      where d.job_id = v_id;
    end if;
  end if;
  return v_id;
end;
$$;
