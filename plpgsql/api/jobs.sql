-- jobs: every job in any state, for readers and for INSERT, UPDATE and DELETE; and the
-- same for awa's own functions, which ask for jobs by their ids.

-- Jobs outside the ring.
create or replace view {{ .schema }}._jobs_outside as
{{ template "internal/outside_jobs.sql" (dict "schema" .schema "by_key" false) }};

-- Per ready row the lane's cursor says whether its turn has passed; only then
-- its attempt is looked up.
create or replace view {{ .schema }}._jobs_by_key as
select
{{ template "internal/ready_job.sql" (dict "schema" .schema "claimed_at" "a.claimed_at" "finalized_at" "a.finalized_at") }}from {{ .schema }}.ready_entries as r
{{ template "internal/lane_of.sql" (dict "schema" .schema "row" "r" "by_key" true) }}left join lateral (
  select c.* from {{ .schema }}.lane_cursors as c where c.lane = r.lane order by c.generation desc limit 1
) as c on true
cross join lateral (
  select k.batch_id is not null as claimed, k.claimed_at is not null as ran,
    k.outcome, k.claimed_at, k.finalized_at, k.error, k.progress, k.worker
  from {{ .schema }}._attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease,
{{ template "internal/row_passed.sql" . }}    or
{{ template "internal/row_taken.sql" "r" }}  ) as k
  where k.outcome is null or (k.outcome in ('c', 'f', 'x') and not k.removed)
) as a
union all
{{ template "internal/outside_jobs.sql" (dict "schema" .schema "by_key" true) }};

-- The view does not know what a reader asks for, and no plan may depend on statistics. So a
-- query begins like the view above and looks the first hundred ready rows up by their keys: a
-- few jobs cost the same in any history. Once it has met so many that lookups no longer pay, it
-- goes on with what _newest_cursors and _claimed read at once. Errors and progress of jobs in
-- history are then looked up where they are shown, after a LIMIT. A setting counts what the
-- queries of the transaction have met.
create or replace view {{ .schema }}.jobs as
select
  x.id, x.kind, x.queue, x.args, x.state, x.priority, x.attempt, x.max_attempts, x.run_at, x.heartbeat_at,
  x.deadline_at, x.attempted_at, x.finalized_at, x.created_at,
  case when x.lease is null then x.errors
    else x.errors || array(
      select k.error from {{ .schema }}._attempt_of(x.slot, x.lane, x.id, x.lease, true) as k where k.error is not null)
    end as errors,
  x.metadata, x.tags, x.unique_key, x.unique_states, x.callback_id, x.callback_timeout_at, x.run_lease,
  case when x.lease is null then x.progress
    else coalesce(({{ .schema }}._attempt_of(x.slot, x.lane, x.id, x.lease, true)).progress, x.progress)
    end as progress
from (
  (with
  others as materialized (
    select o.* from {{ .schema }}._claimed(false) as o
  ),
  completed as materialized (
    select o.* from {{ .schema }}._claimed(true) as o
  ),
  cursors as materialized (
    select n.* from {{ .schema }}._newest_cursors() as n
  )
  select
  case when a.by_others and a.outcome <> 'c' then r.run_lease end as lease, r.ready_slot as slot, r.lane,
{{ $time := `case when a.by_others and a.outcome = 'c'
    then coalesce(
      (select c.%[1]s from completed as c)[width_bucket((r.job_id << 18 | r.run_lease) << 2 | 3, (select c.keys from completed as c))],
      (%[2]s._attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease, true)).%[1]s)
    else a.%[1]s end` -}}
{{ template "internal/ready_job.sql" (dict "schema" .schema
  "claimed_at" (printf $time "claimed_at" .schema) "finalized_at" (printf $time "finalized_at" .schema)) }}  from {{ .schema }}.ready_entries as r
{{ template "internal/lane_of.sql" (dict "schema" .schema "row" "r" "by_key" false) }}  -- The job's place in the arrays; null: it is looked up by its key, as is any job whose
  -- number or lease is too large for them. offset 0, here and below: computed once.
  cross join lateral (
    select case
      when n.met > 100 and n.met > (select {{ .schema }}._by_key_at_most()) and r.job_id < 1::bigint << 43 and r.run_lease < 1 << 18
      then width_bucket((r.job_id << 18 | r.run_lease) << 2 | 3, (select o.keys from others as o)) end as place
    from (
      select pg_catalog.set_config('{{ .schema }}.jobs_met', (
            coalesce(nullif(pg_catalog.current_setting('{{ .schema }}.jobs_met', true), ''), '0')::bigint
            + (l.lane = r.lane)::integer
          )::text, true)::bigint
        - (select coalesce(nullif(pg_catalog.current_setting('{{ .schema }}.jobs_met', true), ''), '0')::bigint) as met
      offset 0
    ) as n
    offset 0
  ) as p
  cross join lateral (
    select case
      when p.place is null then null
      when (select o.keys from others as o)[p.place] >> 2 = (r.job_id << 18 | r.run_lease)
        then (select o.keys from others as o)[p.place] & 3 end as code
    offset 0
  ) as m
  left join lateral (
    (select c.*
     from (select where p.place is null offset 0) as n
     cross join lateral (
       select c.* from {{ .schema }}.lane_cursors as c where c.lane = r.lane order by c.generation desc limit 1
     ) as c)
    union all
    (select (n.newest).*
     from (
       select (select c.newest from cursors as c)[width_bucket(r.lane, (select c.lanes from cursors as c))] as newest
       offset 0
     ) as n
     where p.place is not null and (n.newest).lane = r.lane)
    limit 1
  ) as c on true
  cross join lateral (
    select
{{ template "internal/row_passed.sql" . }}    as passed
    offset 0
  ) as t
  cross join lateral (
    select false as by_others, k.batch_id is not null as claimed, k.claimed_at is not null as ran,
      k.outcome, k.claimed_at, k.finalized_at, k.error, k.progress, k.worker
    from {{ .schema }}._attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease,
      t.passed or
{{ template "internal/row_taken.sql" "r" }}    ) as k
    where (p.place is null or m.code = 0)
      and (k.outcome is null or (k.outcome in ('c', 'f', 'x') and not k.removed))
    union all
    select n.outcome is not null, n.outcome is not null, n.outcome is not null and (n.outcome = 'c' or n.claimed_at is not null),
      n.outcome, n.claimed_at, n.finalized_at, null, null, null
    from (
      select
        case m.code when 1 then 'f' when 2 then 'x' else case when t.passed then 'c' end end::"char" as outcome,
        case when m.code is not null then nullif((select o.claimed_at from others as o)[p.place], '-infinity') end as claimed_at,
        case when m.code is not null then (select o.finalized_at from others as o)[p.place] end as finalized_at
      where p.place is not null and (m.code is null or m.code in (1, 2))
      offset 0
    ) as n
    limit 1
  ) as a)
  union all
  select null, null, null, d.* from {{ .schema }}._jobs_outside as d
) as x;
