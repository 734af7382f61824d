-- Cancelling jobs wherever they wait or run, in the common lock order.

-- Cancels those that are not terminal and returns how many there were. Each further round
-- follows a move that somebody else committed meanwhile, and begins with nothing in hand: where
-- some are cancelled, those that moved are left out.
create or replace function {{ .schema }}._cancel_jobs (p_ids bigint[], p_reason text)
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_error  jsonb := _cancellation(p_reason, _now());
  v_reason text := v_error ->> 'error';
  v_errors jsonb := (select jsonb_object_agg(u.id, v_error) from unnest(p_ids) as u (id) where u.id is not null);
  v_left   bigint[] := p_ids;
  v_gone   bigint[];
  v_jobs   bigint := 0::bigint;
  d        deferred_jobs;
  l        leases;
begin
  perform _refuse_stale(format('cancel of job %s', p_ids[1]));
  loop
    v_gone := '{}';
    for d in select t.* from _take_deferred(v_left) as t loop
      perform _file_closed(_unpark(d), 'x', v_error);
      v_gone := v_gone || d.job_id;
    end loop;
    v_left := _less(v_left, v_gone);
    v_jobs := v_jobs + cardinality(v_gone);
    exit when v_left = '{}';

    v_gone := '{}';
    for l in select t.* from _take_leased(v_left, v_reason) as t loop
      perform _file_closed(_lease_body(l), 'x', v_error, l.claimed_at);
      v_gone := v_gone || l.job_id;
    end loop;
    v_left := _less(v_left, v_gone);
    v_jobs := v_jobs + cardinality(v_gone);
    exit when v_left = '{}';

    v_gone := array(select t.job_id from _take_waiting(v_left, 'x', v_errors) as t);
    v_left := _less(v_left, v_gone);
    v_jobs := v_jobs + cardinality(v_gone);
    exit when v_left = '{}';

    v_gone := _close_running(v_left, 'x', v_reason, v_errors);
    v_left := _less(v_left, v_gone);
    v_jobs := v_jobs + cardinality(v_gone);

    exit when v_left = '{}' or v_jobs > 0;
    v_left := array(
      select u.id
      from unnest(v_left) as u (id)
      cross join lateral (select n.state from _jobs_by_key as n where n.id = u.id offset 0) as j
      where j.state = any (_batch_states('cancel')));
    exit when v_left = '{}';
  end loop;
  return v_jobs;
end;
$$;
