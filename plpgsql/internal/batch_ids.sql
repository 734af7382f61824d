-- The names of batches.

-- A batch is named after its highest job id and that job's lease, with random
-- low bits. Ids and xids can be issued again after a crash that forgot an
-- asynchronously committed claim; the random bits keep a receipt from before
-- the crash apart. The id range also finds a job's batch by index.
create or replace function {{ .schema }}._draw_batch_id (p_top bigint)
  returns bigint
  language sql
  volatile
as $$
  -- Not by a shift: a job id beyond 46 bits must not pass unnoticed.
  select p_top * 8192 + pg_catalog.floor(pg_catalog.random() * 8192)::bigint
$$;

-- A batch id that the segment does not have yet.
create or replace function {{ .schema }}._unused_batch_id (p_slot integer, p_top bigint)
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_batch bigint;
begin
  loop
    v_batch := _draw_batch_id(p_top);
    case p_slot
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      exit when not exists (select from claims_{{ $i }} as c where c.batch_id = v_batch);
{{ end }}
    end case;
  end loop;
  return v_batch;
end;
$$;

-- The id of a new batch in a slot. p_top is job id * 16 + run lease % 16 at its
-- highest, p_lease the highest lease: above 16 an earlier lease of the job may have
-- drawn the same.
create or replace function {{ .schema }}._batch_id (p_slot integer, p_top bigint, p_lease integer)
  returns bigint
  language sql
  volatile
as $$
  select case when p_lease > 16 then {{ .schema }}._unused_batch_id(p_slot, p_top) else {{ .schema }}._draw_batch_id(p_top) end
$$;
