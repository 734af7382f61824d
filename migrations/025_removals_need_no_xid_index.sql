-- 025: removals are found by their jobs; nobody looks for those of a transaction.
-- changes: outcome_removals

{{ range $i := until (int .segments) -}}
drop index {{ $.schema }}.outcome_removals_{{ $i }}_xid_idx;
{{ end }}

---- create above / drop below ----

{{ range $i := until (int .segments) -}}
create index outcome_removals_{{ $i }}_xid_idx on {{ $.schema }}.outcome_removals_{{ $i }} (xid);
{{ end }}
