      -- As in claim_slots.sql: jobs whose key has a slot are claimed, and the others are parked, in
      -- batches of their own.
      loop
        v_take := least(greatest(v_left, v_next), 1000);
        select array_agg(o.job_id), array_agg(o.run_lease), array_agg(_concurrency_key(o.metadata)) into w_ids, w_leases, w_keys
        from _own_jobs(r.lane, v_take) as o;
        v_met := coalesce(cardinality(w_ids), 0);
        exit when v_met = 0;
        v_top := null;
{{ template "internal/decide_slots.sql" . }}
        v_got := 0;
        v_jobs := null;
        if v_met > cardinality(v_barred) then
          v_jobs := array(
            select j from _claim_own(
              claim.queue, r.lane, r.priority, v_left, claim.worker, claim.lease,
              array(select u.job_id from unnest(w_ids) with ordinality as u (job_id, nth) where u.nth <> all (v_barred))) as j);
          return query select j.* from unnest(v_jobs) as j;
          get diagnostics v_got = row_count;
        end if;
        select array_agg(u.key), array_agg(u.job_id), n_batches || array_agg(u.batch_id) into t_keys, t_jobs, n_batches
        from (select _concurrency_key(j.metadata) as key, j.job_id, (j.receipt).batch_id from unnest(v_jobs) as j) as u
        where u.key is not null;
        if v_barred <> '{}' then
          perform _park_jobs(claim.queue, v_round, b.ready_slot, r.lane, b.job_ids, b.run_leases, b.batch_id, claim.worker, claim.lease)
          from (
            select (j.receipt).ready_slot, (j.receipt).batch_id, array_agg(j.job_id) as job_ids, array_agg(_as_lease((j.receipt).run_lease)) as run_leases
            from _claim_own(claim.queue, r.lane, r.priority, v_met, claim.worker, claim.lease, v_gone) as j
            group by (j.receipt).ready_slot, (j.receipt).batch_id
          ) as b;
        end if;
{{ template "internal/count_slots.sql" . }}
        exit when v_stop or v_met < v_take;
      end loop;
      exit when v_stop;
