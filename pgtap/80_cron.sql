-- Cron: expressions, schedules, fires.
begin;
select plan(158);
-- Alone: sets the clock forward, and counts what fires.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
set local timezone = 'America/New_York';  -- no result may depend on it
set local awa.now = '2030-01-01 00:00:30Z';
select awa.reset() \g /dev/null

-- Expressions

create function pg_temp.next (p_cron text, p_after text, p_want text, p_zone text default 'UTC') returns text
  language sql as $$
  select is(awa.cron_next(p_cron, p_zone, p_after::timestamptz), p_want::timestamptz, format('%s in %s after %s', regexp_replace(p_cron, '\s+', ' ', 'g'), p_zone, p_after))
$$;
select pg_temp.next('* * * * *', '2024-01-31 23:59:59.5Z', '2024-02-01 00:00Z');
select pg_temp.next('* * * * *', '2024-01-01 00:00Z', '2024-01-01 00:01Z');
select pg_temp.next('* * * * * *', '2024-01-01 00:00:00.999Z', '2024-01-01 00:00:01Z');
select pg_temp.next('30 0 0 * * *', '2024-01-01 00:00:30Z', '2024-01-02 00:00:30Z');
select pg_temp.next('*/20 * * * *', '2024-01-01 00:41Z', '2024-01-01 01:00Z');
select pg_temp.next('5/20 * * * *', '2024-01-01 00:26Z', '2024-01-01 00:45Z');
select pg_temp.next('0 8-18/5 * * *', '2024-01-01 09:00Z', '2024-01-01 13:00Z');
select pg_temp.next('0 0 1,15 * *', '2024-01-01 09:00Z', '2024-01-15 00:00Z');
select pg_temp.next('0 0 1 MAR,Jul,dec *', '2024-03-02 09:00Z', '2024-07-01 00:00Z');
select pg_temp.next('0 12 ? * mon-FRI', '2024-03-08 12:00Z', '2024-03-11 12:00Z');
select pg_temp.next('0 12 * * 0', '2024-03-08 12:00Z', '2024-03-10 12:00Z');
select pg_temp.next('0 0 13 * FRI', '2024-09-01 00:00Z', '2024-09-06 00:00Z');
select pg_temp.next('0 0 13 * FRI', '2024-09-11 00:00Z', '2024-09-13 00:00Z');
select pg_temp.next('0 0 13 * *', '2024-09-01 00:00Z', '2024-09-13 00:00Z');
select pg_temp.next('0 0 */10 * MON', '2024-09-03 00:00Z', '2024-09-09 00:00Z');
select pg_temp.next('0 0 13 * */2', '2024-09-03 00:00Z', '2024-09-05 00:00Z');
select pg_temp.next('0 0 31 * *', '2024-04-01 00:00Z', '2024-05-31 00:00Z');
select pg_temp.next('0 0 29 2 *', '2024-02-29 00:00Z', '2028-02-29 00:00Z');
select pg_temp.next('0 0 29 2 *', '2097-01-01 00:00Z', '2104-02-29 00:00Z');
select pg_temp.next('0 0 30 2 *', '2024-02-29 00:00Z', null);
select pg_temp.next('0 0 31 4,6,9,11 *', '2024-02-29 00:00Z', null);
select pg_temp.next('1,,2 * * * *', '2024-01-01 00:01Z', '2024-01-01 00:02Z');
select pg_temp.next(E' \t0 \n 1\t* * * ', '2024-01-01 00:01Z', '2024-01-01 01:00Z');
select pg_temp.next(d.cron, '2024-05-15 10:30:30Z', d.want)
from (values ('@hourly', '2024-05-15 11:00Z'), ('@daily', '2024-05-16 00:00Z'), ('@midnight', '2024-05-16 00:00Z'), ('@weekly', '2024-05-19 00:00Z'),
  ('@monthly', '2024-06-01 00:00Z'), ('@yearly', '2025-01-01 00:00Z'), ('@annually', '2025-01-01 00:00Z'), ('@every 90m', '2024-05-15 12:00:30Z'),
  ('@every 1h30m10.9s', '2024-05-15 12:00:40Z'), ('@every 5ms', '2024-05-15 10:30:31Z'),
  (U&'@every 2s1\00B5s', '2024-05-15 10:30:32Z'), (U&'@every 2000001\03BCs', '2024-05-15 10:30:32Z')) as d (cron, want);
select is(awa.cron_next('* * * * *'), '2030-01-01 00:01Z', 'by default in UTC, after now');
select is(awa.cron_next('* * * * *', 'UTC', 'infinity'), null, 'never after infinity');

-- Clock changes: a time that the clock leaves out does not fire, one that it
-- shows twice fires twice.

select pg_temp.next('30 2 * * *', '2024-03-30 12:00Z', '2024-04-01 00:30Z', 'Europe/Berlin');
select pg_temp.next('30 2 * * *', '2024-10-26 12:00Z', '2024-10-27 00:30Z', 'Europe/Berlin');
select pg_temp.next('30 2 * * *', '2024-10-27 00:30Z', '2024-10-27 01:30Z', 'Europe/Berlin');
select pg_temp.next('0 * * * *', '2024-03-31 00:00Z', '2024-03-31 01:00Z', 'Europe/Berlin');
select pg_temp.next('0 3 * * *', '2024-03-30 12:00Z', '2024-03-31 01:00Z', 'Europe/Berlin');
select pg_temp.next('0 0 * * *', '2018-11-03 12:00Z', '2018-11-05 02:00Z', 'America/Sao_Paulo');
select pg_temp.next('0 12 * * *', '2018-11-03 16:00Z', '2018-11-04 14:00Z', 'America/Sao_Paulo');
select pg_temp.next('0 12 30 * *', '2011-12-01 00:00Z', '2012-01-29 22:00Z', 'Pacific/Apia');
select pg_temp.next('0 12 31 * *', '2011-12-01 00:00Z', '2011-12-30 22:00Z', 'Pacific/Apia');
select pg_temp.next('15 1 * * *', '2024-04-06 12:00Z', '2024-04-06 14:15Z', 'Australia/Lord_Howe');
select pg_temp.next('0 9 * * *', '2024-05-01 00:00Z', '2024-05-01 03:15Z', 'Asia/Kathmandu');
select pg_temp.next('0 0 * * *', '294276-12-31 23:59:59.5Z', null);
-- In Turkish the lower case of I is not i. Without ICU there is no such collation to ask.
create function pg_temp.turkish () returns timestamptz
  language plpgsql as $$
declare
  v_next timestamptz;
begin
  execute $q$ select awa.cron_next('0 0 * * FRI' collate "tr-x-icu", 'UTC' collate "tr-x-icu", '2024-01-01 00:00Z') $q$ into v_next;
  return v_next;
end;
$$;
select case when exists (select from pg_collation where collname = 'tr-x-icu')
  then is(pg_temp.turkish(), '2024-01-05 00:00Z', 'names of days are English in whatever collation')
  else skip('this server has no ICU') end;

-- Arguments

select throws_ok(format('select awa.cron_next(%L)', c.cron), 'AW006', null, format('no expression: %s', coalesce(quote_literal(c.cron), 'null')))
from unnest(array[null, '', '* * * *', '* * * * * * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * * 13 *', '* * * * 7', '5-1 * * * *', '*/0 * * * *',
  '1-2-3 * * * *', '1/2/3 * * * *', 'x * * * *', '* * * foo *', '-1 * * * *', ', * * * *', '@reboot', '@every', '@every soon', '@every -1h', '@every 1000000h',
  'TZ=UTC * * * * *']) as c (cron);
select throws_ok($$ select awa.cron_next('* 24 * * *') $$, 'AW006', $$cron '* 24 * * *': the hour is '24'$$, 'the error names the field');
select throws_ok(format('select awa.cron_next(%L, %L)', '* * * * *', c.zone), 'AW006', null, format('no zone: %s', coalesce(quote_literal(c.zone), 'null')))
from unnest(array[null, '', 'Mars/Phobos', 'CET', 'PDT', 'UTC+3', 'Europe/Berlin+1', '+03', '<X>3', 'Etc/GMT+15']) as c (zone);
select is_empty(
  $$ select n.name from pg_timezone_names as n
     where n.name !~ '^(posix|right|Factory|localtime|posixrules)' and n.name not in ('CET', 'EET', 'MET', 'WET')
       and awa.cron_next('* * * * *', n.name, '2024-01-01 00:00Z') is null $$, 'every name of the time zone database is a zone');

select throws_ok(format('select awa.upsert_schedule(%s)', c.args), 'AW006', null, format('upsert_schedule(%s) is refused', c.args))
from unnest(array[$$'', '@daily', 'k'$$, $$null, '@daily', 'k'$$, $$repeat('n', 201), '@daily', 'k'$$, $$'n', '0 0 30 2 *', 'k'$$, $$'n', '@daily', ''$$,
  $$'n', '@daily', 'k', null$$, $$'n', '@daily', 'k', queue => ''$$, $$'n', '@daily', 'k', priority => 5$$, $$'n', '@daily', 'k', max_attempts => 0$$,
  $$'n', '@daily', 'k', metadata => '[]'$$, $$'n', '@daily', 'k', deadline => '0'$$, $$'n', '@daily', 'k', missed_fire => 'later'$$]) as c (args);

-- A schedule and its fires

create function pg_temp.fired () returns bigint
  language sql as $$ select coalesce(sum(m.affected), 0)::bigint from awa.maintain() as m where m.task = 'cron' $$;

select is(awa.upsert_schedule('tap/80', '0 * * * *', 'report', '{"n": 1}', queue => 'tap/80', priority => 1, max_attempts => 3, tags => '{t}',
  metadata => '{"m": 1}', ordering_key => 'o', deadline => '1 minute'), '2030-01-01 01:00Z', 'a new schedule fires at its next match');
select is(pg_temp.fired(), 0::bigint, 'not before');
set local awa.now = '2030-01-01 01:00:00.1Z';
select is(pg_temp.fired(), 1::bigint, 'then');
select is(pg_temp.fired(), 0::bigint, 'once');
select results_eq(
  $$ select kind, args, priority, max_attempts, run_at, tags, metadata, deadline_at is not null from awa.claim('tap/80', 10) $$,
  $$ values ('report', '{"n": 1}'::jsonb, 1::smallint, 3::smallint, '2030-01-01 01:00Z'::timestamptz, '{t}'::text[],
     '{"m": 1, "cron_name": "tap/80", "cron_fire_time": "2030-01-01T01:00:00Z"}'::jsonb, true) $$, 'the job is what the schedule says, with the time of its fire');
select results_eq($$ select next_fire_at, last_fire_at, last_job_id is not null, paused from awa.cron_schedules where name = 'tap/80' $$,
  $$ values ('2030-01-01 02:00Z'::timestamptz, '2030-01-01 01:00Z'::timestamptz, true, false) $$, 'the view shows the next and the last fire');

set local awa.now = '2030-01-01 02:00:01Z';
create temp table before as select count(*) as points from awa.cron_fires;
select is(awa.upsert_schedule('tap/80', '0 * * * *', 'report', '{"n": 2}', queue => 'tap/80'), '2030-01-01 02:00Z', 'the same time again leaves a due fire due');
select is((select count(*) from awa.cron_fires), (select points from before), 'and writes no point');
select is(pg_temp.fired(), 1::bigint, 'it fires');
select results_eq($$ select args, priority, tags from awa.claim('tap/80', 10) $$, $$ values ('{"n": 2}'::jsonb, 2::smallint, '{}'::text[]) $$, 'with all that changed');
set local awa.now = '2030-01-01 03:00:01Z';
select is(awa.upsert_schedule('tap/80', '30 * * * *', 'report', queue => 'tap/80'), '2030-01-01 03:30Z', 'another time fires at its next match');
select is(pg_temp.fired(), 0::bigint, 'and the old one no more');
select is(awa.upsert_schedule('tap/80', '30 * * * *', 'report', queue => 'tap/80', timezone => 'Asia/Kolkata'), '2030-01-01 04:00Z', 'so does another zone');

-- Pause, resume, remove

set local awa.now = '2030-01-01 04:00:01Z';
select is(awa.pause_schedule('tap/80'), true, 'pause');
select is(pg_temp.fired(), 0::bigint, 'a paused schedule does not fire');
select results_eq($$ select next_fire_at, paused from awa.cron_schedules where name = 'tap/80' $$, 'values (null::timestamptz, true)', 'and has no next fire');
select is(awa.upsert_schedule('tap/80', '45 * * * *', 'report', queue => 'tap/80'), null, 'it stays paused when it changes');
set local awa.now = '2030-01-01 05:00:01Z';
select is(awa.resume_schedule('tap/80'), true, 'resume');
select is(pg_temp.fired(), 0::bigint, 'the fires of the pause are not made up for');
select is(awa.resume_schedule('tap/80'), true, 'resume again changes nothing');
set local awa.now = '2030-01-01 05:45:01Z';
select is(pg_temp.fired(), 1::bigint, 'the next one comes');
select is(awa.remove_schedule('tap/80'), true, 'remove');
set local awa.now = '2030-01-01 06:45:01Z';
select is(pg_temp.fired(), 0::bigint, 'what is removed does not fire');
select is_empty('select * from awa.cron_schedules', 'and is gone');
select results_eq($$ select awa.remove_schedule('tap/80'), awa.pause_schedule('tap/80'), awa.resume_schedule('tap/80') $$, 'values (false, false, false)',
  'false: there is no such schedule');

-- Missed fires

select awa.upsert_schedule('tap/80/' || p, '0 * * * *', p, queue => 'tap/80/missed', missed_fire => p) from unnest(array['skip', 'coalesce', 'catch_up']) as p \g /dev/null
set local awa.now = '2030-01-01 10:20Z';
select is(pg_temp.fired(), 5::bigint, 'after a long silence');
select bag_eq($$ select kind, run_at from awa.claim('tap/80/missed', 10) $$,
  $$ select 'coalesce', '2030-01-01 10:00Z'::timestamptz union all select 'catch_up', t from generate_series('2030-01-01 07:00Z'::timestamptz, '2030-01-01 10:00Z', '1 hour') as t $$,
  'skip makes no job, coalesce one of the last fire, catch_up one of each');
set local awa.now = '2030-01-01 11:00:59Z';
select is(pg_temp.fired(), 3::bigint, 'within a minute nothing is missed');
select results_eq($$ select name, last_fire_at from awa.cron_schedules where name = 'tap/80/skip' $$, $$ values ('tap/80/skip', '2030-01-01 11:00Z'::timestamptz) $$, 'skip fires too');
select awa.remove_schedule(s.name) from awa.cron_schedules as s \g /dev/null
select awa.upsert_schedule('tap/80/each', '* * * * * *', 'k', queue => 'tap/80/each', missed_fire => 'catch_up'),
  awa.upsert_schedule('tap/80/last', '* * * * * *', 'k', queue => 'tap/80/last'), awa.upsert_schedule('tap/80/every', '@every 7s', 'k', queue => 'tap/80/last') \g /dev/null
set local awa.now = '2030-01-01 11:36:59.5Z';
select is(pg_temp.fired(), 1002::bigint, 'a pass catches up a thousand');
select is(pg_temp.fired(), 1000::bigint, 'the next a thousand more');
select is(pg_temp.fired(), 160::bigint, 'and the last the rest');
select is((select count(distinct run_at) from awa.claim('tap/80/each', 10000)), 2160::bigint, 'each once');
select bag_eq($$ select run_at from awa.claim('tap/80/last', 10) $$, $$ values ('2030-01-01 11:36:59Z'::timestamptz), ('2030-01-01 11:36:55Z') $$,
  'coalesced is the last fire, also of a fixed delay');
select awa.remove_schedule(s.name) from awa.cron_schedules as s \g /dev/null

-- One that cannot fire

select awa.upsert_schedule('tap/80/' || n, '0 12 * * *', 'k', queue => 'tap/80/bad') from generate_series(1, 3) as n \g /dev/null
update awa.schedules set timezone = 'Mars/Phobos' where name = 'tap/80/2';
set local awa.now = '2030-01-01 12:00:01Z';
select results_eq($$ select outcome, affected, detail from awa.maintain() where task = 'cron' $$,
  $$ values ('fired', 2::bigint, 'schedule ''tap/80/2'': time zone "Mars/Phobos" not recognized') $$, 'keeps no other, and is told');
select results_eq($$ select outcome, affected, detail is not null from awa.maintain() where task = 'cron' $$, $$ values ('idle', 0::bigint, true) $$, 'by every pass');
select is_empty('select * from awa.check()', 'it is within reach');
update awa.schedules set timezone = 'UTC' where name = 'tap/80/2';
select is(pg_temp.fired(), 1::bigint, 'healed it fires');
select is((select count(*) from awa.claim('tap/80/bad', 10)), 3::bigint, 'each has fired once');

-- A clock that goes back, reset, prune

set local awa.now = '2029-12-31 12:00:01Z';
select is(pg_temp.fired(), 0::bigint, 'a clock set back repeats no fire');
set local awa.now = '2030-01-02 12:00:01Z';
select is(pg_temp.fired(), 3::bigint, 'and leaves none out');
select is_empty('select * from awa.check()', 'check() finds nothing');
select awa.reset(keep_config => true) \g /dev/null
select results_eq('select count(*), min(next_fire_at), count(last_fire_at) from awa.cron_schedules', $$ values (3::bigint, '2030-01-03 12:00Z'::timestamptz, 0::bigint) $$,
  'reset keeps schedules on request: they go on from now');

\ir prune.psql
set local awa.now = '2030-01-03 12:00:01Z';
select is(pg_temp.fired(), 3::bigint, 'then they fire');
select is((select count(*) from awa.complete_many(array(select c.receipt from awa.claim('tap/80/bad', 10) as c))), 0::bigint, 'their jobs are done');
select awa.rotate() \g /dev/null
select is(pg_temp.prune(), 'pruned', 'the segment is emptied');
select results_eq($$ select count(*), min(next_fire_at), min(last_fire_at) from awa.cron_schedules $$,
  $$ values (3::bigint, '2030-01-04 12:00Z'::timestamptz, '2030-01-03 12:00Z'::timestamptz) $$, 'what is known of the schedules was kept');
select results_eq('select count(*), min(p.ready_slot)::integer from awa.cron_points as p', 'values (1::bigint, 1)', 'and how far the search has come');
set local awa.now = '2030-01-04 12:00:01Z';
select is(pg_temp.fired(), 3::bigint, 'they fire at their next time');
select is_empty('select * from awa.check()', 'check() finds nothing');
select awa.reset() \g /dev/null
select is_empty('select * from awa.cron_schedules', 'reset forgets schedules otherwise');

-- Far ahead, and a zone whose rules change (here, by hand, another zone)

select is(awa.upsert_schedule('tap/80/rules', '0 12 1 1 *', 'k', queue => 'tap/80/far'), '2031-01-01 12:00Z', 'once a year');
update awa.schedules set timezone = 'Asia/Tokyo' where name = 'tap/80/rules';
set local awa.now = '2030-12-31 12:00Z';
select is(pg_temp.fired(), 0::bigint, 'a pass looks at it although it is not due');
select is((select next_fire_at from awa.cron_schedules), '2031-01-01 03:00Z', 'and reckons anew');
set local awa.now = '2031-01-01 03:00:01Z';
select is(pg_temp.fired(), 1::bigint, 'so it fires by the new rules');
update awa.schedules set timezone = 'UTC' where name = 'tap/80/rules';
set local awa.now = '2032-01-01 03:00:01Z';
select is(pg_temp.fired(), 1::bigint, 'a fire that the new rules bring again is made'); -- of 2031, missed
select is((select next_fire_at from awa.cron_schedules), '2032-01-01 12:00Z', 'one that they put off is not made early');
select awa.remove_schedule('tap/80/rules') \g /dev/null
set local awa.now = '2097-01-01 00:00Z';
select is(awa.upsert_schedule('tap/80/leap', '0 0 29 2 *', 'k', queue => 'tap/80/far'), '2104-02-29 00:00Z', 'seven years ahead');
set local awa.now = '2104-02-28 23:59:59Z';
select is(pg_temp.fired(), 0::bigint, 'not the day before');
set local awa.now = '2104-02-29 00:00:01Z';
select is(pg_temp.fired(), 1::bigint, 'it fires');
select is_empty('select * from awa.check()', 'check() finds nothing');

select * from finish();
rollback;
