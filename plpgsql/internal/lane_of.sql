-- The lane l of a row. With by_key it is looked up for each row, and no plan can look rows up, or
-- read them, for each lane, whatever the statistics say.
{{ if .by_key }}cross join lateral (
  select n.queue, n.priority from {{ .schema }}.queue_lanes as n
  where n.lane = {{ .row }}.lane
    and not exists (select from {{ .schema }}.queue_lanes as e where e.lane = n.lane and e.ctid < n.ctid)
  offset 0
) as l
{{ else }}join {{ .schema }}.queue_lanes as l on l.lane = {{ .row }}.lane
  and not exists (select from {{ .schema }}.queue_lanes as e where e.lane = l.lane and e.ctid < l.ctid)
{{ end }}