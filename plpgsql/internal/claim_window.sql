{{- /* The next v_take rows of the open window in a slot: of its first interval if it is simple,
else of all of them, less those with tombstones. With keys only what decides about slots. */}}
{{- if .keys }}              select e.xid, e.job_id, e.run_lease, e.metadata
{{- else }}              select e.xid, e.job_id, e.run_lease, e.attempt, e.max_attempts, e.kind, e.args, e.run_at,
                e.created_at, e.tags, e.metadata, e.progress, e.errors, e.deadline
{{- end }}
{{- if .simple }}
              from ready_entries_{{ .slot }} as e
              where e.lane = v_lane and (e.xid, e.job_id) > (v_lo_xid, v_lo_id) and e.xid < v_hi_xid
{{- else }}
              from unnest(w_lo_xid, w_lo_id, w_hi_xid, w_to_xid) as p (lo_xid, lo_id, hi_xid, to_xid)
              cross join lateral (
                select u.*
                from ready_entries_{{ .slot }} as u
                where u.lane = v_lane
                  and (u.xid, u.job_id) > (p.lo_xid, p.lo_id)
                  and u.xid < p.hi_xid and u.xid <= p.to_xid
                  -- Not by exists: as a join it may be planned to compare each row with each.
                  and (
                    select true from ready_tombstones_{{ .slot }} as t
                    where t.job_id = u.job_id and t.run_lease = u.run_lease) is null
                order by u.xid, u.job_id
                limit v_take
              ) as e
{{- end }}
              order by e.xid, e.job_id
              limit v_take
