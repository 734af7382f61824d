-- 023: reports of one attempt come one after the other.
-- changes: progress_entries

-- at is an ordinal: a row has the microsecond after the row before, the first that after
-- the epoch. So two that would follow the same row exclude each other. A row without
-- progress is of an attempt that registered a callback before it reported any.
alter table {{ .schema }}.progress_entries alter progress drop not null;

{{ range $i := until (int .segments) -}}
delete from {{ $.schema }}.progress_entries_{{ $i }} as p
using {{ $.schema }}.progress_entries_{{ $i }} as k
where k.job_id = p.job_id and k.run_lease = p.run_lease and k.at = p.at and k.ctid > p.ctid;
drop index {{ $.schema }}.progress_entries_{{ $i }}_job_idx;
create unique index progress_entries_{{ $i }}_job_idx on {{ $.schema }}.progress_entries_{{ $i }} (job_id, run_lease, at);
{{ end }}

---- create above / drop below ----

{{ range $i := until (int .segments) -}}
drop index {{ $.schema }}.progress_entries_{{ $i }}_job_idx;
create index progress_entries_{{ $i }}_job_idx on {{ $.schema }}.progress_entries_{{ $i }} (job_id, run_lease, at);
{{ end }}
delete from {{ .schema }}.progress_entries as p where p.progress is null;
alter table {{ .schema }}.progress_entries alter progress set not null;
