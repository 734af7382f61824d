-- 016: no statistics of arrays.

-- Rows of the ring are found by keys, never by what is in their arrays, tags apart.
-- What ANALYZE would learn of the elements nobody asks for, and for a busy queue it
-- costs more than all the rest.
alter table {{ .schema }}.ready_entries alter errors set statistics 0;
alter table {{ .schema }}.claims alter job_ids set statistics 0, alter run_leases set statistics 0;
alter table {{ .schema }}.attempt_outcomes alter job_ids set statistics 0, alter run_leases set statistics 0, alter errors set statistics 0;
alter table {{ .schema }}.lease_extensions alter job_ids set statistics 0;
alter table {{ .schema }}.job_departures alter job_ids set statistics 0;
alter table {{ .schema }}.slot_batches alter keys set statistics 0, alter job_ids set statistics 0, alter open set statistics 0;
alter table {{ .schema }}.rescue_points alter open_batches set statistics 0;
alter table {{ .schema }}.watch_points alter open_batches set statistics 0;
alter table {{ .schema }}.cron_points alter held set statistics 0, alter troubled set statistics 0;

---- create above / drop below ----

alter table {{ .schema }}.ready_entries alter errors set statistics -1;
alter table {{ .schema }}.claims alter job_ids set statistics -1, alter run_leases set statistics -1;
alter table {{ .schema }}.attempt_outcomes alter job_ids set statistics -1, alter run_leases set statistics -1, alter errors set statistics -1;
alter table {{ .schema }}.lease_extensions alter job_ids set statistics -1;
alter table {{ .schema }}.job_departures alter job_ids set statistics -1;
alter table {{ .schema }}.slot_batches alter keys set statistics -1, alter job_ids set statistics -1, alter open set statistics -1;
alter table {{ .schema }}.rescue_points alter open_batches set statistics -1;
alter table {{ .schema }}.watch_points alter open_batches set statistics -1;
alter table {{ .schema }}.cron_points alter held set statistics -1, alter troubled set statistics -1;
