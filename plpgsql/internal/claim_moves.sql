{{- /* A lane's cursor after the claim of one job, r, in the slot given. */}}
              insert into lane_cursors_{{ . }} (
                lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
                claimed_total, batch_id, look_at, ready_slot, skips, drained, s_prev, s_cur)
              values (v_lane, c_generation + 1, c_segment, c_last, c_base, r.xid, r.job_id, c_floor,
                c_settled, case when v_settles then pg_current_xact_id() else c_settler end,
                c_claimed + 1, r.batch_id, v_now + least(claim.lease, r.deadline), {{ . }}, 0, false, c_prev, c_cur);
