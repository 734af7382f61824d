-- Turns on a lane: claimers of one take them one after the other.

-- Waits for a lane's turn. False, without waiting, when this transaction holds another lane, or
-- with p_ascending one of a higher rank: two transactions might wait for each other's lanes.
create or replace function {{ .schema }}._await_lane (p_lane bigint, p_ascending boolean)
  returns boolean
  language plpgsql
  volatile
as $$
declare
  v_rank bigint := _lane_rank(p_lane);
begin
  if _may_have_turns() then
    if exists (
      select from _turns_in_hand('{1}') as k (rank) where k.rank <> v_rank and (k.rank > v_rank or not p_ascending))
    then
      return false;
    end if;
  end if;
  perform pg_advisory_xact_lock(_lock_class(1), _lane_key(p_lane));
  return true;
end;
$$;

-- Under a transaction-long snapshot: whether another session moved the lane's cursor on, in
-- whatever segment. Trying to insert the next generation finds rows that the snapshot does not
-- show; the try is undone in any case.
create or replace function {{ .schema }}._probe_cursor (p_lane bigint, p_generation bigint)
  returns void
  language plpgsql
  volatile
as $$
begin
  insert into lane_cursors (
    lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid,
    claimed_total, ready_slot, drained, s_prev, s_cur)
  select p_lane, p_generation, 0, 0, 0, '0', -1, '0', 0, s.slot, true, '1:1:', '1:1:'
  from generate_series(0, {{ sub (int .segments) 1 }}) as s (slot);
  raise exception using errcode = 'AW000', message = 'undo';
exception
  when sqlstate 'AW000' then
    null;
  when unique_violation then
    perform _stale_snapshot('claim');
end;
$$;
