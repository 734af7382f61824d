-- Cron: jobs that are enqueued by the clock.

create or replace function {{ .schema }}.cron_next (
  cron     text,
  timezone text        default 'UTC',
  after    timestamptz default null
)
  returns timestamptz
{{ template "internal/public.sql" . -}}
as $$
declare
  v_spec cron_spec := _parse_cron(cron_next.cron);
begin
  perform _check_timezone(cron_next.timezone collate "C");
  return _cron_after(v_spec, cron_next.timezone, coalesce(cron_next.after, _now()));
end;
$$;

comment on function {{ .schema }}.cron_next is
  'The first instant after the given one, or after now, at which a cron expression fires on the clock of a time zone; null when there is none within eight years. Five fields, minute hour day month weekday, or six with seconds first; or @hourly, @daily, @weekly, @monthly, @yearly, or @every with a delay. When both day and weekday are restricted, either is enough. Raises AW006 for an invalid expression or zone.';

create or replace function {{ .schema }}.upsert_schedule (
  name         text,
  cron         text,
  kind         text,
  args         jsonb    default '{}',
  queue        text     default 'default',
  timezone     text     default 'UTC',
  priority     integer  default 2,
  max_attempts integer  default 25,
  tags         text[]   default '{}',
  metadata     jsonb    default '{}',
  ordering_key text     default null,
  deadline     interval default null,
  missed_fire  text     default 'coalesce'
)
  returns timestamptz
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  v_spec cron_spec := _parse_cron(upsert_schedule.cron);
  v_tags text[] := coalesce(upsert_schedule.tags, '{}');
  v_old  schedules;
  v_id   bigint;
begin
  perform _enter_ring();
  perform _check_name('schedule', upsert_schedule.name);
  perform _check_timezone(upsert_schedule.timezone collate "C");
  perform _check_job(upsert_schedule.kind, upsert_schedule.queue, upsert_schedule.priority, upsert_schedule.max_attempts,
    v_tags, upsert_schedule.args, upsert_schedule.metadata);
  perform _check_size(upsert_schedule.args, upsert_schedule.metadata, v_tags, upsert_schedule.ordering_key);
  perform _check_deadline(upsert_schedule.deadline);
  if upsert_schedule.missed_fire is null or upsert_schedule.missed_fire not in ('skip', 'coalesce', 'catch_up') then
    perform _invalid(format('missed_fire is %L', upsert_schedule.missed_fire), 'Give skip, coalesce or catch_up.');
  end if;
  if _cron_after(v_spec, upsert_schedule.timezone, _now()) is null then
    perform _invalid(format('cron %L never fires', upsert_schedule.cron), 'Give an expression that some day matches.');
  end if;

  loop
    insert into schedules (
      name, cron, timezone, spec, kind, args, queue, priority, max_attempts, tags, metadata, ordering_key, deadline,
      missed_fire, created_at, updated_at)
    values (
      upsert_schedule.name, upsert_schedule.cron, upsert_schedule.timezone, v_spec, upsert_schedule.kind, upsert_schedule.args,
      upsert_schedule.queue, upsert_schedule.priority, upsert_schedule.max_attempts, v_tags, upsert_schedule.metadata,
      upsert_schedule.ordering_key, upsert_schedule.deadline, upsert_schedule.missed_fire, _now(), _now())
    on conflict do nothing
    returning id into v_id;
    exit when found;
    select s.* into v_old from schedules as s where s.name = upsert_schedule.name for no key update;
    exit when found;
  end loop;

  if v_id is null then
    v_id := v_old.id;
    -- So a program that declares its schedules whenever it starts writes nothing.
    update schedules as s
    set (cron, timezone, spec, kind, args, queue, priority, max_attempts, tags, metadata, ordering_key, deadline, missed_fire, updated_at)
      = (upsert_schedule.cron, upsert_schedule.timezone, v_spec, upsert_schedule.kind, upsert_schedule.args,
        upsert_schedule.queue, upsert_schedule.priority, upsert_schedule.max_attempts, v_tags, upsert_schedule.metadata,
        upsert_schedule.ordering_key, upsert_schedule.deadline, upsert_schedule.missed_fire, _now())
    where s.id = v_id
      and (s.cron, s.timezone, s.kind, s.args, s.queue, s.priority, s.max_attempts, s.tags, s.metadata, s.ordering_key,
          s.deadline::text, s.missed_fire)
        is distinct from (upsert_schedule.cron, upsert_schedule.timezone, upsert_schedule.kind, upsert_schedule.args,
          upsert_schedule.queue, upsert_schedule.priority, upsert_schedule.max_attempts, v_tags, upsert_schedule.metadata,
          upsert_schedule.ordering_key, upsert_schedule.deadline::text, upsert_schedule.missed_fire);
  end if;
  -- With another cron or timezone, fires that were due by the old ones are given up.
  if (v_old.cron, v_old.timezone) is distinct from (upsert_schedule.cron, upsert_schedule.timezone) then
    perform _set_next_fire(v_id);
  end if;
  -- By its id, because a transaction-long snapshot may show one of this name that was removed
  -- since.
  return (
    select f.next_fire_at
    from schedules as s
    cross join lateral (
      select n.next_fire_at from cron_fires as n where n.schedule_id = s.id order by n.point desc limit 1
    ) as f
    where s.id = v_id and s.paused_at is null);
end;
$$;

comment on function {{ .schema }}.upsert_schedule is
  'Adds the schedule of that name, or replaces all of it but its pause, and returns its next fire, null while it is paused. A new schedule, and one whose cron or timezone changes, fires first at the next match; otherwise its next fire stays. maintain() enqueues a job at each fire, with the fire time as run_at, and cron_name and cron_fire_time in metadata. Of fires that were missed while nobody called maintain(), coalesce makes one job, catch_up one each, skip none for those more than a minute late. Waits for another open transaction that changes the same schedule. Raises AW006 for an argument out of bounds and for a cron that never fires.';

create or replace function {{ .schema }}.remove_schedule (name text)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
begin
  delete from schedules as s where s.name = remove_schedule.name;
  return found;
end;
$$;

comment on function {{ .schema }}.remove_schedule is
  'Removes a schedule; its jobs stay. False when there is none of that name. Waits for another open transaction that changes the same schedule.';

create or replace function {{ .schema }}.pause_schedule (name text)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
begin
  update schedules as s set paused_at = _now() where s.name = pause_schedule.name and s.paused_at is null;
  return found or exists (select from schedules as s where s.name = pause_schedule.name);
end;
$$;

comment on function {{ .schema }}.pause_schedule is
  'Keeps a schedule from firing until resume_schedule; once this is committed it fires no more. False when there is none of that name. Waits for another open transaction that changes the same schedule.';

create or replace function {{ .schema }}.resume_schedule (name text)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  v_id bigint;
begin
  update schedules as s set paused_at = null
  where s.name = resume_schedule.name and s.paused_at is not null
  returning s.id into v_id;
  if found then
    perform _set_next_fire(v_id);
    return true;
  end if;
  return exists (select from schedules as s where s.name = resume_schedule.name);
end;
$$;

comment on function {{ .schema }}.resume_schedule is
  'Ends pause_schedule: the schedule fires at its next match; fires missed during the pause are not made up for. False when there is none of that name. Waits for another open transaction that changes the same schedule.';
