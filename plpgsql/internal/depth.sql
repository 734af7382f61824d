-- The limit of how many jobs wait in a queue.

-- Raises AW007, or warns, when p_jobs more do not fit under the queue's max_depth.
create or replace function {{ .schema }}._check_depth (p_queue text, p_max_depth bigint, p_jobs bigint)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_depth bigint;
  v_what  text;
begin
  perform _enter_ring();
  -- If the snapshot is older than a prune the depth is unknown, and the producer is not
  -- refused.
  if _is_torn() then
    return;
  end if;
  v_depth := (select c.available + c.scheduled + c.retryable from queue_counts(p_queue) as c);
  v_what := format('queue %L holds %s waiting jobs, its max_depth is %s', p_queue, v_depth, p_max_depth);
  if v_depth + p_jobs <= p_max_depth then
    return;
  elsif (select m.on_full = 'warn' from queue_meta as m where m.queue = p_queue) then
    raise warning using message = v_what, hint = 'The job is added all the same; the queue''s on_full is warn.';
  else
    raise exception using errcode = 'AW007', message = v_what,
      hint = 'Try again when its workers have caught up, or raise max_depth.';
  end if;
end;
$$;
