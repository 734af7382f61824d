-- A trigger that enqueues: whatever changes a document, whoever does it, the
-- search index follows.
--
-- Run it with psql -v ON_ERROR_STOP=1 -f trigger.sql; a second run changes nothing.

create table if not exists documents (
  id   bigint generated always as identity primary key,
  body text not null
);

-- The job belongs to the transaction that changed the document. Its key makes one
-- job of many changes, as long as that job waits: the mask says scheduled,
-- available and retryable. A change while it runs makes another one.
create or replace function documents_changed ()
  returns trigger
  language plpgsql
as $$
declare
  v_args jsonb := jsonb_build_object('document', coalesce(new.id, old.id));
begin
  perform awa.enqueue('index_document', v_args, queue => 'search',
    unique_key => awa.unique_key_of('index_document', 'search', v_args),
    unique_states => b'11001000');
  return null;
end;
$$;

drop trigger if exists changed on documents;
create trigger changed
  after insert or delete or update of body on documents
  for each row execute function documents_changed();
