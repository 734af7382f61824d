{{- /* A claim of many, once the rows of got are read: they become a batch, the claim and the
cursor are added, and the jobs returned. */}}
            batch as materialized (
              select {{ if .limited }}v_batch{{ else }}_batch_id({{ .slot }}, max(g.job_id * 16 + g.run_lease % 16), max(g.run_lease)){{ end }} as batch_id,
                count(*)::integer as jobs,
                min(g.deadline) as deadline,
                bool_or(g.metadata ? 'awa:follow_ups') as follows,
                array_agg(g.job_id) as job_ids,
                case when max(g.run_lease) > 1 then array_agg(g.run_lease) end as run_leases
{{- if not .limited }},
                (array_agg(g.xid))[count(*)::integer] as last_xid
{{- end }}
              from got as g
              having count(*) > 0
            ),
            claimed as (
              insert into claims_{{ .slot }} (
                batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at,
                follows)
              select b.batch_id, v_lane, v_now, v_now + claim.lease, {{ .slot }}, b.job_ids, b.run_leases, claim.worker,
                v_now + b.deadline, nullif(b.follows, false)
              from batch as b
            ),
            moved as (
              insert into lane_cursors (
                lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
                claimed_total, batch_id, look_at, ready_slot, skips, drained, s_prev, s_cur)
              select v_lane, c_generation + 1, c_segment, c_last, c_base, {{ if .limited }}w_xids[v_met], w_ids[v_met]{{ else }}b.last_xid, b.job_ids[b.jobs]{{ end }}, c_floor,
                c_settled, case when v_settles then pg_current_xact_id() else c_settler end,
                c_claimed + {{ if .limited }}v_met{{ else }}b.jobs{{ end }}, b.batch_id, v_now + least(claim.lease, b.deadline), v_slot, c_skips,
                v_whole and {{ if .limited }}v_met{{ else }}b.jobs{{ end }} < v_take and c_segment = c_last, c_prev, c_cur
              from {{ if .limited }}(select) as o left join batch as b on true{{ else }}batch as b{{ end }}
            )
            select row({{ .slot }}, b.batch_id, g.job_id, g.run_lease)::receipt,
              g.job_id, g.kind, g.args, claim.queue, v_priority, g.attempt, g.max_attempts, g.run_at, g.created_at,
              coalesce(g.tags, '{}'), coalesce(g.metadata, '{}'), g.progress, coalesce(g.errors, '{}'),
              v_now + g.deadline, v_now + claim.lease
            from got as g
            cross join batch as b