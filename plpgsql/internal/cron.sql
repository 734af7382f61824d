-- Cron: expressions, and the instants at which they fire. Both are those of
-- github.com/robfig/cron/v3, clock changes included.

-- A number, or the name of one; null for anything else.
create or replace function {{ .schema }}._cron_number (p_text text, p_low integer, p_names text[])
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select coalesce(
    pg_catalog.array_position(p_names, pg_catalog.lower(p_text)) - 1 + p_low,
    case when p_text ~ '^[+]?[0-9]{1,9}$' then p_text::integer end)
$$;

-- The values that a field admits, as bits. It is open when it has a star, unless with a step
-- above 1.
create or replace function {{ .schema }}._cron_field (
  p_cron text, p_field text, p_what text, p_low integer, p_high integer, p_names text[], out bits bigint, out open boolean
)
  language plpgsql
  volatile
as $$
declare
  v_item  text;
  v_parts text[];
  v_ends  text[];
  v_from  integer;
  v_to    integer;
  v_step  integer;
begin
  bits := 0::bigint;
  open := false;
  foreach v_item in array string_to_array(p_field, ',') loop
    continue when v_item = '';
    v_parts := string_to_array(v_item, '/');
    v_ends := string_to_array(v_parts[1], '-');
    v_step := case cardinality(v_parts) when 1 then 1 when 2 then _cron_number(v_parts[2], 0, null) end;
    if v_ends[1] in ('*', '?') then
      v_from := p_low;
      v_to := p_high;
      open := open or v_step = 1;
    else
      v_from := _cron_number(v_ends[1], p_low, p_names);
      v_to := case cardinality(v_ends)
        when 1 then case cardinality(v_parts) when 1 then v_from else p_high end
        when 2 then _cron_number(v_ends[2], p_low, p_names) end;
    end if;
    if v_step is null or v_step < 1 or v_from is null or v_to is null
      or v_from < p_low or v_to > p_high or v_from > v_to
    then
      bits := 0::bigint;
      exit;
    end if;
    for i in v_from .. v_to by v_step loop
      bits := bits | (1::bigint << i);
    end loop;
  end loop;
  if bits = 0 then
    perform _invalid(format('cron %L: the %s is %L', p_cron, p_what, p_field),
      format('Give numbers from %s to %s%s, ranges (1-5), steps (*/2), lists of these, or a star.', p_low, p_high,
        ' or names like ' || upper(p_names[2])));
  end if;
end;
$$;

-- The delay of "@every 1h30m", in whole seconds, at least one.
create or replace function {{ .schema }}._cron_every (p_cron text)
  returns interval
  language plpgsql
  volatile
as $$
declare
  v_text    text := substr(p_cron, length('@every ') + 1);
  v_seconds numeric;
begin
  -- The two micro signs by their numbers, for not every encoding has them.
  if v_text ~ E'^[+]?(([0-9]{1,12}([.][0-9]{0,12})?|[.][0-9]{1,12})(ns|us|\\u00b5s|\\u03bcs|ms|s|m|h))+$' then
    select sum(rtrim('0' || m.part[1], '.')::numeric * case m.part[2]
      when 'h' then 3600 when 'm' then 60 when 's' then 1 when 'ms' then 0.001 when 'ns' then 0.000000001 else 0.000001 end)
    into v_seconds
    from regexp_matches(v_text, E'([0-9.]+)(ns|us|\\u00b5s|\\u03bcs|ms|s|m|h)', 'g') as m (part);
  end if;
  if v_seconds is null or v_seconds > 3155760000 then
    perform _invalid(format('cron %L: the delay is %L', p_cron, v_text), 'Give a delay like 1h30m, 90s or 24h, up to 100 years.');
  end if;
  return make_interval(secs => greatest(floor(v_seconds), 1)::double precision);
end;
$$;

create or replace function {{ .schema }}._parse_cron (p_cron text)
  returns {{ .schema }}.cron_spec
  language plpgsql
  volatile
as $$
declare
  -- A cron expression is ASCII, whatever the collation makes of its letters.
  v_cron   text collate "C" := btrim(p_cron, E' \t\r\n');
  v_fields text[] collate "C";
  v_spec   cron_spec;
  v_open   boolean;
  v_any    boolean;
begin
  if v_cron like '@every %' then
    v_spec.every := _cron_every(v_cron);
    return v_spec;
  end if;
  v_fields := regexp_split_to_array(case v_cron
    when '@yearly' then '0 0 1 1 *'
    when '@annually' then '0 0 1 1 *'
    when '@monthly' then '0 0 1 * *'
    when '@weekly' then '0 0 * * 0'
    when '@daily' then '0 0 * * *'
    when '@midnight' then '0 0 * * *'
    when '@hourly' then '0 * * * *'
    else v_cron end, '[[:space:]]+');
  if v_cron ~ '^@' and cardinality(v_fields) = 1 then
    perform _invalid(format('cron is %L', p_cron),
      'The descriptors are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and @every with a delay.');
  elsif v_cron ~ '^(CRON_)?TZ=' then
    perform _invalid(format('cron %L names a time zone', p_cron), 'Give the zone as timezone.');
  elsif cardinality(v_fields) = 5 then
    v_fields := array['0'] || v_fields;
  elsif v_cron is null or v_cron = '' or cardinality(v_fields) <> 6 then
    perform _invalid(format('cron is %L', p_cron),
      'Give 5 fields, minute hour day month weekday, or 6 with seconds first, or a descriptor like @daily.');
  end if;
  select f.bits into v_spec.seconds from _cron_field(v_cron, v_fields[1], 'second', 0, 59, null) as f;
  select f.bits into v_spec.minutes from _cron_field(v_cron, v_fields[2], 'minute', 0, 59, null) as f;
  select f.bits into v_spec.hours from _cron_field(v_cron, v_fields[3], 'hour', 0, 23, null) as f;
  select f.bits, f.open into v_spec.days, v_open from _cron_field(v_cron, v_fields[4], 'day', 1, 31, null) as f;
  select f.bits into v_spec.months from _cron_field(v_cron, v_fields[5], 'month', 1, 12,
    array['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']) as f;
  select f.bits, f.open into v_spec.weekdays, v_any from _cron_field(v_cron, v_fields[6], 'weekday', 0, 6,
    array['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']) as f;
  v_spec.either := not (v_open or v_any);
  return v_spec;
end;
$$;

-- A zone must be a name of the time zone database. PostgreSQL would also take
-- abbreviations, which know no clock changes, and POSIX rules, whose sign is the
-- other way round.
create or replace function {{ .schema }}._check_timezone (p_timezone text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_timezone ~ '^[A-Za-z][A-Za-z_-]*(/[A-Za-z_-]+)*$' and (
      p_timezone ~ '/' or p_timezone in ('UTC', 'UCT', 'GMT', 'Zulu', 'EST', 'MST', 'HST')
      or not exists (select from pg_timezone_abbrevs as a where a.abbrev = upper(p_timezone)))
    or p_timezone ~ '^(Etc/)?GMT[+-]?0$' or p_timezone ~ '^Etc/GMT[+-]([1-9]|1[0-4])$'
    or p_timezone in ('EST5EDT', 'CST6CDT', 'MST7MDT', 'PST8PDT')
  then
    begin
      perform timestamptz '2000-01-01 00:00:00Z' at time zone p_timezone;
      return;
    exception when invalid_parameter_value then
      null;
    end;
  end if;
  perform _invalid(format('timezone is %L', p_timezone),
    'Give a name of pg_timezone_names like Europe/Berlin or UTC; abbreviations and offsets do not follow clock changes.');
end;
$$;

-- The instant of a wall clock time. One that does not exist, or exists twice, is read as the
-- library does: with the offset that holds there or, if that leads to another time, that one.
create or replace function {{ .schema }}._cron_instant (p_wall timestamp, p_timezone text)
  returns timestamptz
  language plpgsql
  immutable
  parallel safe
as $$
declare
  v_instant timestamptz := p_wall at time zone 'UTC';
  v_offset  interval := (v_instant at time zone p_timezone) - p_wall;
begin
  if v_offset = '0' then
    return v_instant;
  end if;
  v_instant := v_instant - v_offset;
  return v_instant + (p_wall - (v_instant at time zone p_timezone));
end;
$$;

-- How many steps from p_value to the next admitted one, or to the end of the field
-- when there is none.
create or replace function {{ .schema }}._cron_steps (p_bits bigint, p_value integer, p_size integer)
  returns integer
  language plpgsql
  immutable
  parallel safe
as $$
declare
  v_above bigint := p_bits & ((-1)::bigint << (p_value + 1));
begin
  if v_above = 0 then
    return p_size - p_value;
  end if;
  return round(ln((v_above & (- v_above))::double precision) / ln(2::double precision))::integer - p_value;
end;
$$;

-- As far as p_by from an instant whose wall clock time is p_wall, or one p_unit where the
-- clock changes in between.
create or replace function {{ .schema }}._cron_leap (p_at timestamptz, p_wall timestamp, p_by interval, p_unit interval, p_timezone text)
  returns timestamptz
  language plpgsql
  immutable
  parallel safe
as $$
begin
  return p_at + case when (p_at + p_by) at time zone p_timezone = p_wall + p_by then p_by else p_unit end;
end;
$$;

-- The first fire after an instant, or null when there is none within eight years:
-- 29 February is never farther. Field by field, from the month down to the second;
-- whenever one wraps around, all are looked at again. The steps and their quirks
-- around clock changes are those of the library named above, so a leap over
-- several steps is taken only where the clock does not change in between.
create or replace function {{ .schema }}._cron_after (p_spec {{ .schema }}.cron_spec, p_timezone text, p_after timestamptz)
  returns timestamptz
  language plpgsql
  stable
  parallel safe
as $$
declare
  t        timestamptz;
  w        timestamp;           -- the wall clock at t
  v_far    timestamptz;
  v_last   double precision;
  v_inside boolean := false;    -- t is no longer where the search began
  v_value  integer;
  v_steps  integer;
begin
  -- Years that end before the search would.
  if p_after is null or not isfinite(p_after) or p_after > '294000-01-01' then
    return null;
  elsif p_spec.every is not null then
    return date_trunc('second', p_after) + p_spec.every;
  end if;
  t := date_trunc('second', p_after) + interval '1 second';
  w := t at time zone p_timezone;
  v_last := date_part('year', w) + 8;

  <<wrapped>>
  loop
    if date_part('year', w) > v_last then
      return null;
    end if;

    while (p_spec.months >> date_part('month', w)::integer) & 1 = 0 loop
      if not v_inside then
        v_inside := true;
        w := _cron_instant(date_trunc('month', w), p_timezone) at time zone p_timezone;
      end if;
      t := _cron_instant(date_trunc('month', w) + interval '1 month' + (w - date_trunc('month', w)), p_timezone);
      w := t at time zone p_timezone;
      continue wrapped when date_part('month', w) = 1;
    end loop;

    while case when p_spec.either
      then ((p_spec.days >> date_part('day', w)::integer) | (p_spec.weekdays >> date_part('dow', w)::integer)) & 1 = 0
      else ((p_spec.days >> date_part('day', w)::integer) & (p_spec.weekdays >> date_part('dow', w)::integer)) & 1 = 0 end
    loop
      if not v_inside then
        v_inside := true;
        t := _cron_instant(date_trunc('day', w), p_timezone);
        w := t at time zone p_timezone;
      end if;
      v_far := t;
      t := _cron_instant(w + interval '1 day', p_timezone);
      -- Where the clock skips a whole day, the library would loop for ever.
      if t <= v_far then
        t := v_far + interval '24 hours';
      end if;
      w := t at time zone p_timezone;
      v_value := date_part('hour', w)::integer;
      if v_value <> 0 then
        t := t + make_interval(hours => case when v_value > 12 then 24 - v_value else - v_value end);
        w := t at time zone p_timezone;
      end if;
      continue wrapped when date_part('day', w) = 1;
    end loop;

    while (p_spec.hours >> date_part('hour', w)::integer) & 1 = 0 loop
      if not v_inside then
        v_inside := true;
        t := _cron_instant(date_trunc('hour', w), p_timezone);
        w := t at time zone p_timezone;
      end if;
      v_steps := _cron_steps(p_spec.hours, date_part('hour', w)::integer, 24);
      t := _cron_leap(t, w, v_steps * interval '1 hour', interval '1 hour', p_timezone);
      w := t at time zone p_timezone;
      continue wrapped when date_part('hour', w) = 0;
    end loop;

    while (p_spec.minutes >> date_part('minute', w)::integer) & 1 = 0 loop
      if not v_inside then
        v_inside := true;
        t := date_trunc('minute', t, 'UTC');
        w := t at time zone p_timezone;
      end if;
      v_steps := _cron_steps(p_spec.minutes, date_part('minute', w)::integer, 60);
      t := _cron_leap(t, w, v_steps * interval '1 minute', interval '1 minute', p_timezone);
      w := t at time zone p_timezone;
      continue wrapped when date_part('minute', w) = 0;
    end loop;

    while (p_spec.seconds >> date_part('second', w)::integer) & 1 = 0 loop
      v_inside := true;
      v_steps := _cron_steps(p_spec.seconds, date_part('second', w)::integer, 60);
      t := _cron_leap(t, w, v_steps * interval '1 second', interval '1 second', p_timezone);
      w := t at time zone p_timezone;
      continue wrapped when date_part('second', w) = 0;
    end loop;

    return t;
  end loop;
end;
$$;
