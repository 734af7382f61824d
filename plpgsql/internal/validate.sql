-- Argument checks. Raise AW006.

create or replace function {{ .schema }}._check_name (p_what text, p_name text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_name is null or length(p_name) not between 1 and 200 then
    perform _invalid(
      format('%s %s', p_what, coalesce(quote_literal(left(p_name, 40)) || format(' has %s characters', length(p_name)), 'is null')),
      'Give a text of 1 to 200 characters.');
  end if;
end;
$$;

create or replace function {{ .schema }}._check_priority (p_priority integer)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_priority is null or p_priority not between 1 and 4 then
    perform _invalid(format('priority is %s', coalesce(p_priority::text, 'null')), 'Priorities go from 1 (first) to 4.');
  end if;
end;
$$;

create or replace function {{ .schema }}._check_job (
  p_kind text, p_queue text, p_priority integer, p_max_attempts integer, p_tags text[], p_args jsonb, p_metadata jsonb
)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _check_name('kind', p_kind), _check_name('queue', p_queue), _check_priority(p_priority);
  if p_max_attempts is null or p_max_attempts not between 1 and 1000 then
    perform _invalid(format('max_attempts is %s', coalesce(p_max_attempts::text, 'null')),
      'max_attempts goes from 1 to 1000.');
  end if;
  if array_ndims(p_tags) > 1 then
    perform _invalid(format('tags has %s dimensions', array_ndims(p_tags)), 'Pass a plain array of texts.');
  end if;
  if cardinality(p_tags) > 20 then
    perform _invalid(format('tags has %s elements', cardinality(p_tags)), 'A job has at most 20 tags.');
  end if;
  if array_position(p_tags, null) is not null then
    perform _invalid(format('tags is %s', left(p_tags::text, 80)), 'No tag may be null.');
  end if;
  if p_args is null then
    perform _invalid('args is null', 'Pass a JSON value; an empty object is the default.');
  end if;
  if p_metadata is null or jsonb_typeof(p_metadata) <> 'object' then
    perform _invalid(format('metadata is %s', coalesce('a JSON ' || jsonb_typeof(p_metadata), 'null')),
      'metadata is a JSON object.');
  end if;
end;
$$;

-- Where a job is to come back to; null means where it was. Checked whether or not there is such
-- a job.
create or replace function {{ .schema }}._check_place (p_queue text, p_priority integer)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _check_name('queue', coalesce(p_queue, 'q')), _check_priority(coalesce(p_priority, 1));
end;
$$;

-- A bulk call's bound; null is none.
create or replace function {{ .schema }}._check_max_jobs (p_max_jobs integer)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_max_jobs < 0 then
    perform _invalid(format('max_jobs is %s', p_max_jobs), 'Give zero or more, or null for all.');
  end if;
end;
$$;

create or replace function {{ .schema }}._check_object (p_name text, p_value jsonb, p_hint text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_value is null or jsonb_typeof(p_value) <> 'object' then
    perform _invalid(format('%s is %s', p_name, coalesce('a JSON ' || jsonb_typeof(p_value) || ': ' || left(p_value::text, 80), 'null')), p_hint);
  end if;
end;
$$;

-- An object with settings, all under known names.
create or replace function {{ .schema }}._check_settings (p_settings jsonb, p_known text[])
  returns void
  language plpgsql
  volatile
as $$
declare
  v_hint text := format('The keys are %s.', array_to_string(p_known, ', '));
  v_key  text;
begin
  perform _check_object('settings', p_settings, 'Give a JSON object. ' || v_hint);
  select k.key into v_key from jsonb_object_keys(p_settings) as k (key) where k.key <> all (p_known) limit 1;
  if found then
    perform _invalid(format('unknown setting %L', v_key), v_hint);
  end if;
  perform _check_scalar(k.key, k.value) from jsonb_each(p_settings) as k (key, value);
end;
$$;

-- Otherwise a name would be read from any JSON, and an interval from any text with digits in
-- it: {"hours": 5} would be 5 seconds.
create or replace function {{ .schema }}._check_scalar (p_name text, p_value jsonb)
  returns void
  language plpgsql
  volatile
as $$
begin
  if jsonb_typeof(p_value) in ('object', 'array') then
    perform _invalid(format('%s is a JSON %s: %s', p_name, jsonb_typeof(p_value), left(p_value::text, 80)),
      'Give one value, an interval as a text such as "5 hours".');
  end if;
end;
$$;

-- The least that an interval can amount to. A comparison takes a month as 30 days, so that '1
-- mon -28 days' is two days; from the first of February it is nothing.
create or replace function {{ .schema }}._shortest (p_interval interval)
  returns interval
  language sql
  immutable
  parallel safe
as $$
  select case when p_interval between '-100 years' and '100 years'
    then timestamp '2001-02-01' + p_interval - timestamp '2001-02-01' else p_interval end
$$;

-- A time after which a job comes again.
create or replace function {{ .schema }}._check_delay (p_name text, p_delay interval)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_delay is null or p_delay < '0' or p_delay > '100 years' then
    perform _invalid(format('%s is %s', p_name, coalesce(p_delay::text, 'null')), 'Pass a delay of zero or more, up to 100 years.');
  end if;
end;
$$;

-- A lease, a timeout.
create or replace function {{ .schema }}._check_time (p_name text, p_time interval)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_time is null or _shortest(p_time) <= '0' or p_time > '100 years' then
    perform _invalid(format('%s is %s', p_name, coalesce(p_time::text, 'null')), format('Give a %s above zero, up to 100 years.', p_name));
  end if;
end;
$$;

create or replace function {{ .schema }}._check_deadline (p_deadline interval)
  returns void
  language plpgsql
  volatile
as $$
begin
  if _shortest(p_deadline) <= '0' or p_deadline > '100 years' then
    perform _invalid(format('deadline is %s', p_deadline), 'Give the time that an attempt may take, up to 100 years, or null.');
  end if;
end;
$$;

-- The length of an argument's type is not enforced, and an index has no room for every key.
create or replace function {{ .schema }}._check_key (p_key bytea, p_states bit)
  returns void
  language plpgsql
  volatile
as $$
begin
  if length(p_states) <> 8 then
    perform _invalid(format('unique_states is %L, %s bits', left(p_states::text, 40), length(p_states)),
      'Give 8 bits, one for each state in the order of job_state.');
  end if;
  if octet_length(p_key) > 2000 then
    perform _invalid(format('unique_key has %s bytes', octet_length(p_key)),
      'A unique key has up to 2000 bytes; unique_key_of makes one of 32 from whatever a job holds.');
  end if;
end;
$$;

-- Whether a job's values are so small that their text is within bounds, whatever they are:
-- a number of 131,072 digits may take 12 bytes in jsonb, and a compressed value is any
-- number of times larger.
create or replace function {{ .schema }}._is_light (p_args jsonb, p_metadata jsonb, p_tags text[], p_ordering_key text)
  returns boolean
  language sql
  stable
  parallel safe
as $$
  select pg_catalog.pg_column_size(p_args) + pg_catalog.pg_column_size(p_metadata)
      + coalesce(pg_catalog.pg_column_size(p_tags), 0) + coalesce(pg_catalog.pg_column_size(p_ordering_key), 0) <= 65000
    and pg_catalog.pg_column_compression(p_args) is null and pg_catalog.pg_column_compression(p_metadata) is null
$$;

-- Whether a claim can return the job: the server sends rows of up to 1 GB, which also hold
-- progress and the answer to a callback. Metadata is merged with more later on, so its nesting
-- must leave some stack for that.
create or replace function {{ .schema }}._fits (p_args jsonb, p_metadata jsonb, p_tags text[], p_ordering_key text)
  returns boolean
  language plpgsql
  stable
as $$
begin
  if pg_column_size(p_metadata) > 32000 or pg_column_compression(p_metadata) is not null then
    perform (repeat('[', 4000) || p_metadata::text || repeat(']', 4000))::jsonb;
  end if;
  return octet_length(p_args::text)::bigint + octet_length(p_metadata::text) + coalesce(octet_length(p_tags::text), 0)
    + coalesce(octet_length(p_ordering_key), 0) <= 268435456;
exception when program_limit_exceeded then
  return false;
end;
$$;

create or replace function {{ .schema }}._check_size (p_args jsonb, p_metadata jsonb, p_tags text[], p_ordering_key text)
  returns void
  language plpgsql
  stable
as $$
begin
  if _is_light(p_args, p_metadata, p_tags, p_ordering_key) or _fits(p_args, p_metadata, p_tags, p_ordering_key) then
    return;
  end if;
  perform _invalid('the values of a job are too large or nested too deeply',
    'args, metadata, tags and ordering_key together have up to 256 MB as text. Keep what is larger elsewhere and name its place.');
end;
$$;
