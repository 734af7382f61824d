-- 007: attempts outside of the ring.

-- An attempt that waits for somebody outside, or that runs on after it did: it
-- left the ring (its outcome there says m) with its body, so it holds no segment
-- however long it waits. A finisher deletes its row. receipt_lease is the lease
-- in the worker's receipt; run_lease is the next one, under which the attempt
-- goes to history. due_at is when rescue looks: the callback's timeout, or the
-- lease of an attempt that was resumed. stays is false once its worker has left: then
-- a resumed job goes back to its lane.
create table {{ .schema }}.leases (
  job_id        bigint primary key,
  lane          bigint not null,
  state         {{ .schema }}.job_state not null check (state in ('running', 'waiting_external')),
  batch_id      bigint not null,
  receipt_lease integer not null,
  callback_id   uuid unique,
  due_at        timestamptz not null,
  deadline_at   timestamptz,
  claimed_at    timestamptz not null,
  lease         interval not null,
  worker        text,
  stays         boolean not null default true,
  result        jsonb,
  run_at        timestamptz not null,
  created_at    timestamptz not null,
  run_lease     integer not null,
  attempt       smallint not null,
  max_attempts  smallint not null,
  kind          text not null,
  args          jsonb not null,
  metadata      jsonb,
  tags          text[],
  errors        jsonb[],
  progress      jsonb,
  unique_key    bytea,
  unique_states bit(8),
  ordering_key  text,
  deadline      interval,
  check ((state = 'waiting_external') = (callback_id is not null))
);
create index leases_lane_idx on {{ .schema }}.leases (lane, state);
create index leases_due_idx on {{ .schema }}.leases (due_at);
create index leases_running_idx on {{ .schema }}.leases (job_id) where state = 'running';

---- create above / drop below ----

drop table {{ .schema }}.leases;
