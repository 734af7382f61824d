    -- A batch, if all attempts that are given are of it and open. {{ .ids }} and {{ .leases }}
    -- are in step.
    from claims_{{ .slot }} as c
    cross join lateral (
      select coalesce(max(o.seq) + 1, 0) as seq, coalesce(bool_or(o.job_ids is null), false) as whole, count(*) = 0 as untouched
      from attempt_outcomes_{{ .slot }} as o
      where o.batch_id = c.batch_id
    ) as s
    where c.batch_id = {{ .batch }} and not s.whole
      -- Counted on the side of the batch: a receipt that is given twice counts once, so that
      -- such a call is left to the other ways.
      and cardinality({{ .ids }}) = (
        select count(*)
        from unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)
        where exists (
          select from unnest({{ .ids }}, {{ .leases }}) as g (job_id, run_lease)
          where g.job_id = j.job_id and g.run_lease = coalesce(j.run_lease, 1)))
      and (s.untouched or not exists (
        select
        from (select unnest(o.job_ids) as job_id from attempt_outcomes_{{ .slot }} as o where o.batch_id = c.batch_id) as i
        where i.job_id in (select unnest({{ .ids }}))))
