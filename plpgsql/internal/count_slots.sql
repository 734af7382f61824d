{{- /* After a round of a limited claim: what it took, and whether there is another round. */}}
            v_held := v_held || t_keys;
            n_keys := n_keys || t_keys;
            n_jobs := n_jobs || t_jobs;
            -- A round counts as some jobs at least, for it costs as much. A long row of jobs whose
            -- keys are taken is parked over several calls: a call that has nothing yet looks at
            -- many jobs, one that has some, and keeps others waiting with them, at few. A round
            -- in which all were parked is followed by a larger one, however few jobs are wanted.
            v_seen := v_seen + greatest(v_met, case when v_left < v_asked then 10 else 50 end);
            v_left := v_left - v_got;
            v_most := case when v_left < v_asked then 100 + 2 * v_asked else 5000 end;
            v_stop := v_left <= v_enough or v_seen >= v_most;
            v_next := case when v_got = 0 then least(greatest(v_next * 4, 20), 1000, v_most - v_seen) else 0 end;
