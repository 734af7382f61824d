{{- /* After a round of a limited claim: what it took, and whether there is another round. */}}
            v_held := v_held || t_keys;
            n_keys := n_keys || t_keys;
            n_jobs := n_jobs || t_jobs;
            -- A round costs as much as some jobs. A long row of jobs whose keys are taken is
            -- parked by several calls: many who has nothing yet, few who keeps others waiting
            -- with something in hand. And it is not walked step by step by who wants few.
            v_seen := v_seen + greatest(v_met, case when v_left < v_asked then 10 else 50 end);
            v_left := v_left - v_got;
            v_most := case when v_left < v_asked then 100 + 2 * v_asked else 5000 end;
            v_stop := v_left <= v_enough or v_seen >= v_most;
            v_next := case when v_got = 0 then least(greatest(v_next * 4, 20), 1000, v_most - v_seen) else 0 end;
