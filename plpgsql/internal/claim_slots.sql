          -- First the keys of a window alone: jobs whose key has no slot are parked, in a batch of
          -- their own. After a round in which no key had one, more jobs are looked at than may be
          -- claimed.
          v_take := least(greatest(v_left, v_next), 1000);
          v_from := ((c_segment + {{ mul (int .segments) 2 }}) % {{ .segments }})::smallint;
{{- range $simple := list true false }}
          {{ if $simple }}if v_simple then{{ else }}else{{ end }}
          case v_from
{{ range $i := until (int $.segments) }}
          when {{ $i }} then
            select array_agg(g.xid), array_agg(g.job_id), array_agg(g.run_lease), array_agg(_concurrency_key(g.metadata)),
              max(g.job_id * 16 + g.run_lease % 16), max(g.run_lease)
            into w_xids, w_ids, w_leases, w_keys, v_top, v_lease
            from (
{{ template "internal/claim_window.sql" (dict "slot" $i "simple" $simple "keys" true) }}
            ) as g;
{{ end }}
          end case;
{{- end }}
          end if;
          v_met := coalesce(cardinality(w_ids), 0);
          if v_met > 0 then
{{ template "internal/decide_slots.sql" . }}
            v_batch := _batch_id(v_from, v_top, v_lease);
{{- range $simple := list true false }}
            {{ if $simple }}if v_simple then{{ else }}else{{ end }}
            case v_from
{{ range $i := until (int $.segments) }}
            when {{ $i }} then
              return query
              with got as materialized (
                select w.*
                from (
{{ template "internal/claim_window.sql" (dict "slot" $i "simple" $simple) }}
                ) as w
                where w.job_id not in (select unnest(v_gone))
              ),
{{ template "internal/claim_tail.sql" (dict "slot" $i "limited" true) }};
{{ end }}
            end case;
{{- end }}
            end if;
            get diagnostics v_got = row_count;
            if v_barred <> '{}' then
              perform _park_jobs(claim.queue, v_round, v_from, v_lane, v_gone,
                array(select w_leases[l.nth] from unnest(v_barred) as l (nth)), null, claim.worker, claim.lease);
            end if;
            n_batches := n_batches || array_fill(v_batch, array[coalesce(cardinality(t_keys), 0)]);
{{ template "internal/count_slots.sql" . }}
          end if;
          v_got := v_met;
