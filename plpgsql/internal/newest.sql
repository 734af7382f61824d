    -- The newest row by {{ .point }} of each {{ .key }} in a ledger, by its index: a row or
    -- two are read of each, however many there are.
    select k.*
    from (
      with recursive met as (
        (select n.{{ .key }} from {{ .ledger }}_{{ .slot }} as n order by n.{{ .key }} limit 1)
        union all
        select (select n.{{ .key }} from {{ .ledger }}_{{ .slot }} as n where n.{{ .key }} > m.{{ .key }} order by n.{{ .key }} limit 1)
        from met as m
        where m.{{ .key }} is not null
      )
      select m.{{ .key }} from met as m
    ) as m
    cross join lateral (
      select n.* from {{ .ledger }}_{{ .slot }} as n where n.{{ .key }} = m.{{ .key }} order by n.{{ .point }} desc limit 1
    ) as k
