
        select n.ctid
        from unnest({{ .keys }}, {{ .ids }}) as u (key, job_id)
        cross join lateral (
          select x.ctid, x.job_id from parked_jobs as x
          where x.queue = {{ .queue }} and x.round = {{ .round }} and x.key = u.key and x.job_id >= u.job_id
          order by x.job_id
          limit 1
        ) as n
        where n.job_id = u.job_id