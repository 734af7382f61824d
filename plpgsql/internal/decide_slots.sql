            -- The places in w_keys of the jobs that get no slot: p_limit of their key are in
            -- v_held and before them. Grouped by key, not numbered within each, since few keys
            -- exceed the limit.
            v_barred := array(
              select n.nth
              from (
                select count(*) filter (where u.nth = 0) as held, array_agg(u.nth) filter (where u.nth > 0) as nths
                from (
                  select 0 as nth, h.key
                  from (select unnest(v_held || case when v_aged then _aged_keys(claim.queue, w_keys) end) as key) as h
                  where (h.key in (select unnest(w_keys))) is true
                  union all
                  select k.nth, k.key
                  from (select unnest(w_keys) as key, generate_series(1, v_met) as nth) as k
                  where k.key is not null
                ) as u
                group by u.key
                having count(*) > p_limit
              ) as c
              cross join lateral (select x.nth from unnest(c.nths) as x (nth) order by x.nth offset greatest(p_limit - c.held, 0)) as n
              order by n.nth);
            if v_aged then
              v_now := _now();  -- later than the outcomes that were read just now
            end if;
            if v_met - cardinality(v_barred) > v_left then
              -- Up to the last that the caller may have.
              v_take := (
                select g.nth from generate_series(1, v_met) as g (nth)
                where g.nth <> all (v_barred) order by g.nth offset v_left - 1 limit 1);
              v_met := v_take;
              v_top := null;
              w_ids := w_ids[:v_met];
              w_leases := w_leases[:v_met];
              w_keys := w_keys[:v_met];
              v_barred := array(select l.nth from unnest(v_barred) as l (nth) where l.nth < v_met);
            end if;
            if v_barred = '{}' and v_top is not null and array_position(w_keys, null) is null then
              t_keys := w_keys;
              t_jobs := w_ids;
              v_gone := '{}';
            else
              select array_agg(u.key) filter (where u.key is not null), array_agg(u.job_id) filter (where u.key is not null),
                max(u.job_id * 16 + u.run_lease % 16), max(u.run_lease)
              into t_keys, t_jobs, v_top, v_lease
              from (
                select unnest(w_ids) as job_id, unnest(w_leases) as run_lease, unnest(w_keys) as key, generate_series(1, v_met) as nth
              ) as u
              where u.nth <> all (v_barred);
              v_gone := array(select w_ids[l.nth] from unnest(v_barred) as l (nth));
            end if;
