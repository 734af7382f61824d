    -- The same batch as of open_part.sql, found by comparing arrays element by element: quicker
    -- unless both the batch and {{ .ids }} are large. No job may be twice in {{ .ids }}.
    from claims_{{ .slot }} as c
    cross join lateral (
      select coalesce(max(o.seq) + 1, 0) as seq,
        coalesce(bool_or(o.job_ids is null or o.job_ids && {{ .ids }}), false) as closed
      from attempt_outcomes_{{ .slot }} as o
      where o.batch_id = c.batch_id
    ) as s
    where c.batch_id = {{ .batch }}
{{- with .few }}
      and ({{ . }})
{{- end }}
      and c.job_ids @> {{ .ids }}
      and case
        when {{ .leases }}[1] = all ({{ .leases }}) and {{ .leases }}[1] = all (coalesce(c.run_leases, '{1}')) then true
        else not exists (
          select from unnest({{ .ids }}, {{ .leases }}) as a (job_id, run_lease)
          where (c.run_leases[array_position(c.job_ids, a.job_id)] = a.run_lease) is not true)
      end
      and not s.closed
