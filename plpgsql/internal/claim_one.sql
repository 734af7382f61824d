{{- /* Claims one job of v_lane in a slot: the first after (lo_xid, lo_id) and below hi_xid. With
moves it moves the cursor too, and the lane is done with. For limited see claim_body.sql. */}}
            select e.xid, e.job_id, e.run_lease, e.attempt, e.max_attempts, e.kind, e.args, e.run_at,
              e.created_at, e.tags, e.metadata, e.progress, e.errors, e.deadline,
              _batch_id({{ .slot }}, e.job_id * 16 + e.run_lease % 16, e.run_lease) as batch_id
            into r
            from ready_entries_{{ .slot }} as e
            where e.lane = v_lane and (e.xid, e.job_id) > ({{ .lo_xid }}, {{ .lo_id }}) and e.xid < {{ .hi_xid }}
            order by e.xid, e.job_id
            limit 1;
            if found then
{{- if .limited }}
              v_key := _concurrency_key(r.metadata);
              if v_key is not null
                and cardinality(array_positions(v_held || case when v_aged then _aged_keys(claim.queue, array[v_key]) end, v_key)) >= p_limit
              then
                -- It has no slot: some others are looked at with it.
                v_next := 20;
              else
                if v_aged then
                  v_now := _now();  -- later than the outcomes that were read just now
                end if;
{{- end }}
              insert into claims_{{ .slot }} (
                batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at, follows)
              values (r.batch_id, v_lane, v_now, v_now + claim.lease, {{ .slot }}, array[r.job_id],
                case when r.run_lease > 1 then array[r.run_lease] end, claim.worker, v_now + r.deadline, nullif(r.metadata ? 'awa:follow_ups', false));
              return next row(
                row({{ .slot }}, r.batch_id, r.job_id, r.run_lease)::receipt,
                r.job_id, r.kind, r.args, claim.queue, v_priority, r.attempt, r.max_attempts, r.run_at, r.created_at,
                coalesce(r.tags, '{}'), coalesce(r.metadata, '{}'), r.progress, coalesce(r.errors, '{}'),
                v_now + r.deadline, v_now + claim.lease)::claimed_job;
{{- if .limited }}
              if v_key is not null then
                n_keys := n_keys || v_key;
                n_jobs := n_jobs || r.job_id;
                n_batches := n_batches || r.batch_id;
              end if;
{{- end }}
{{- if .moves }}
{{ template "internal/claim_moves.sql" .slot }}
              v_left := 0;
{{- if .limited }}
              v_stop := true;
{{- end }}
              exit;
{{- end }}
{{- if .limited }}
              end if;
{{- end }}
            end if;
