-- Settings of the storage.

create or replace function {{ .schema }}.configure_storage (settings jsonb)
  returns jsonb
{{ template "internal/public.sql" . -}}
as $$
declare
  v_default constant jsonb := jsonb_build_object('segment_max_age', '10 minutes', 'segment_max_bytes', 536870912,
    'history_retention', '1 hour', 'straggler_limit', 1000, 'worker_silence', '90 seconds');
  v_new storage_settings;
begin
  perform _check_settings(configure_storage.settings,
    array['segment_max_age', 'segment_max_bytes', 'history_retention', 'straggler_limit', 'worker_silence']);
  -- Reading works on a standby. A change waits for its turn, and so keeps what others changed
  -- before.
  if configure_storage.settings <> '{}' then
    perform from storage_settings as s for update;
  end if;
  begin
    select n.* into v_new
    from storage_settings as s
    cross join lateral jsonb_populate_record(s, (
      select coalesce(jsonb_object_agg(k.key, case when k.value = 'null' then v_default -> k.key else k.value end), '{}')
      from jsonb_each(configure_storage.settings) as k (key, value))) as n;
  exception when data_exception then
    perform _invalid(format('settings %s: %s', configure_storage.settings, sqlerrm), 'Give intervals, bytes and numbers.');
  end;
  if _shortest(v_new.segment_max_age) < '1 second' or v_new.segment_max_age > '100 years' or v_new.segment_max_bytes < 8192
    or _shortest(v_new.history_retention) < '0' or v_new.history_retention > '100 years' or v_new.straggler_limit not between 0 and 1000000
    or _shortest(v_new.worker_silence) < '1 second' or v_new.worker_silence > '1 day'
  then
    perform _invalid(format('settings %s', configure_storage.settings),
      'segment_max_age goes from 1 second and worker_silence from 1 second to 1 day, history_retention and straggler_limit from zero, segment_max_bytes from 8192.');
  end if;
  if configure_storage.settings <> '{}' then
    update storage_settings as s
    set segment_max_age = v_new.segment_max_age, segment_max_bytes = v_new.segment_max_bytes,
      history_retention = v_new.history_retention, straggler_limit = v_new.straggler_limit, worker_silence = v_new.worker_silence;
  end if;
  return to_jsonb(v_new) - 'singleton';
end;
$$;

comment on function {{ .schema }}.configure_storage is
  'Changes the named settings of the storage, effective at once, and returns all of them; a null resets one to its default, an empty object changes none. Waits for a concurrent change. Raises AW006 for an unknown key or a value out of bounds.';
