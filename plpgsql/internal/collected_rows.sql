-- The rows of an UPDATE or DELETE on jobs: each leaves a JSON value in transaction-local
-- settings, and the statement's end acts on all of them at once, in the common lock order and
-- with one delta per key. A statement that runs inside another, or beside it as a CTE, has a
-- frame of its own. Rows add to a small setting, which is moved into larger ones when it is
-- full. So a row copies little, and there are few settings, which the session keeps and scans at
-- many a call.

create or replace function {{ .schema }}._setting (p_name text)
  returns text
  language sql
  stable
as $$
  select coalesce(pg_catalog.current_setting('{{ .schema }}.' || p_name, true), '')
$$;

create or replace function {{ .schema }}._set (p_name text, p_value text)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform set_config('{{ .schema }}.' || p_name, p_value, true);
end;
$$;

create or replace function {{ .schema }}._collect (p_op text, p_value text)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_frame text := p_op || _setting(p_op) || '_';
  v_few   text := _setting(v_frame || 'few');
  v_chunk text;
  v_held  text;
begin
  if length(v_few) > 8000 then
    v_chunk := _setting(v_frame || 'chunk');
    v_held := _setting(v_frame || v_chunk);
    if length(v_held) > 250000 then
      v_chunk := (v_chunk::integer + 1)::text;
      v_held := '';
      perform _set(v_frame || 'chunk', v_chunk);
    end if;
    perform _set(v_frame || v_chunk, v_held || v_few);
    v_few := '';
  end if;
  perform _set(v_frame || 'few', v_few || p_value || ',');
end;
$$;

-- The values of the frame in order, chunk by chunk, because together they may exceed what a
-- text or a jsonb can hold.
create or replace function {{ .schema }}._rows_collected (p_op text)
  returns setof jsonb
  language plpgsql
  stable
as $$
declare
  v_frame text := p_op || _setting(p_op) || '_';
begin
  for v_chunk in 0 .. _setting(v_frame || 'chunk')::integer loop
    return query select e.* from jsonb_array_elements(('[' || left(_setting(v_frame || v_chunk), -1) || ']')::jsonb) as e;
  end loop;
  return query select e.* from jsonb_array_elements(('[' || left(_setting(v_frame || 'few'), -1) || ']')::jsonb) as e;
end;
$$;

create or replace function {{ .schema }}._jobs_end (p_op text)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _set(p_op, (_setting(p_op)::integer - 1)::text);
end;
$$;

create or replace function {{ .schema }}._jobs_begin ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
declare
  v_depth integer := coalesce(nullif(_setting(lower(tg_op)), '')::integer, 0) + 1;
begin
  perform _set(lower(tg_op), v_depth::text),
    _set(lower(tg_op) || v_depth || '_chunk', '0'),
    _set(lower(tg_op) || v_depth || '_0', ''),
    _set(lower(tg_op) || v_depth || '_few', '');
  return null;
end;
$$;
