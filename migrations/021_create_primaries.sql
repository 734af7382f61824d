-- 021: rescue knows since when the server has been the primary.

-- Newest last: a row for each timeline that rescue met, from the first one on.
create table {{ .schema }}.primaries (
  n        bigint primary key,
  timeline integer not null,
  since    timestamptz not null
);

---- create above / drop below ----

drop table {{ .schema }}.primaries;
