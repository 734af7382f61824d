-- Queues: settings, pause and resume.
begin;
select plan(49);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

select lives_ok($$ select awa.configure_queue('tap/13/all', '{"enqueue_shards": 3, "dlq_enabled": true, "priority_aging_interval": "10 minutes",
    "rate_limit": 2.5, "rate_burst": 10, "failed_retention": "3 days", "dlq_retention": "30 days", "notify": false, "max_depth": 1000}') $$,
  'every setting is known');
select results_eq(
  $$ select enqueue_shards::integer, dlq_enabled, priority_aging_interval, rate_limit, rate_burst, failed_retention, dlq_retention, notify, max_depth
     from awa.queue_meta where queue = 'tap/13/all' $$,
  $$ values (3, true, interval '10 minutes', 2.5::double precision, 10, interval '3 days', interval '30 days', false, 1000::bigint) $$,
  'and kept');
select lives_ok($$ select awa.configure_queue('tap/13/all', '{"rate_burst": 11}') $$, 'one setting can be changed alone');
select results_eq(
  $$ select enqueue_shards::integer, rate_limit, rate_burst, notify from awa.queue_meta where queue = 'tap/13/all' $$,
  $$ values (3, 2.5::double precision, 11, false) $$, 'settings that are not named stay');
select lives_ok($$ select awa.configure_queue('tap/13/all', '{"enqueue_shards": null, "notify": null, "failed_retention": null, "max_depth": null}') $$,
  'null resets a setting');
select results_eq(
  $$ select a.enqueue_shards, a.notify, a.failed_retention, a.max_depth, a.rate_burst from awa.queue_meta as a where queue = 'tap/13/all' $$,
  $$ select f.enqueue_shards, f.notify, f.failed_retention, f.max_depth, 11 from awa.queue_meta as f where queue = 'tap/13/fresh' $$,
  'a reset setting equals that of a fresh queue')
from awa.configure_queue('tap/13/fresh', '{}');

-- What is set can be read, in the form in which it is set.
select is(awa.queue_settings('tap/13/all'), '{"enqueue_shards": 1, "dlq_enabled": true, "priority_aging_interval": "00:10:00", "rate_limit": 2.5, "rate_burst": 11,
  "failed_retention": "72:00:00", "dlq_retention": "30 days", "notify": true, "max_depth": null, "on_full": "reject", "concurrency_limit": null}',
  'queue_settings tells every setting');
select is(awa.queue_settings('tap/13/unknown'), awa.queue_settings('tap/13/fresh'), 'of an unknown queue the defaults');
select is_empty($$ select * from awa.queue_meta where queue = 'tap/13/unknown' $$, 'and makes no entry');
set local intervalstyle = 'sql_standard';
select awa.configure_queue('tap/13/source', '{"failed_retention": "+1 -2:00:00", "dlq_retention": "1 0:00:01", "on_full": "warn", "notify": false, "concurrency_limit": 3}'),
  awa.configure_queue('tap/13/copy', awa.queue_settings('tap/13/source')) \g /dev/null
reset intervalstyle;
select results_eq($$ select failed_retention, dlq_retention, on_full, notify, concurrency_limit, enqueue_shards from awa.queue_meta where queue = 'tap/13/copy' $$,
  $$ values (interval '1 day -2 hours', interval '1 day 1 second', 'warn', false, 3, 1::smallint) $$, 'and can be given to another queue');
select throws_ok($$ select awa.queue_settings(null) $$, 'AW006', null, 'a null name is refused');
select throws_ok($$ select awa.queue_settings('') $$, 'AW006', null, 'and an empty one');

\ir refused.psql
select is((select (r.state, r.hinted, r.message like '%' || named || '%') from pg_temp.refused(sql) as r),
  ('AW006'::text, true, true), format('%s is refused with AW006, %s in the message and a hint', title, named))
from (values
  ('an unknown setting',       'colour',    $$ select awa.configure_queue('tap/13/bad', '{"colour": "red"}') $$),
  ('pausing by settings',      'paused',    $$ select awa.configure_queue('tap/13/bad', '{"paused": true}') $$),
  ('the queue as a setting',   'queue',     $$ select awa.configure_queue('tap/13/bad', '{"queue": "tap/13/other"}') $$),
  ('no shard',                 '0',         $$ select awa.configure_queue('tap/13/bad', '{"enqueue_shards": 0}') $$),
  ('65 shards',                '65',        $$ select awa.configure_queue('tap/13/bad', '{"enqueue_shards": 65}') $$),
  ('shards in words',          'many',      $$ select awa.configure_queue('tap/13/bad', '{"enqueue_shards": "many"}') $$),
  ('a retention in words',     'a while',   $$ select awa.configure_queue('tap/13/bad', '{"failed_retention": "a while"}') $$),
  ('a retention below zero in some months', '29', $$ select awa.configure_queue('tap/13/bad', '{"failed_retention": "1 month -29 days"}') $$),
  ('one of dead letters, too', '29',        $$ select awa.configure_queue('tap/13/bad', '{"dlq_retention": "1 month -29 days"}') $$),
  ('a rate that is no number', 'NaN',       $$ select awa.configure_queue('tap/13/bad', '{"rate_limit": "NaN"}') $$),
  ('an endless rate',          'Infinity',  $$ select awa.configure_queue('tap/13/bad', '{"rate_limit": "Infinity"}') $$),
  ('a rate without an effect', '5e-324',    $$ select awa.configure_queue('tap/13/bad', '{"rate_limit": "5e-324"}') $$),
  ('settings as a list',       'JSON array: []', $$ select awa.configure_queue('tap/13/bad', '[]') $$),
  ('null settings',            'settings is null', $$ select awa.configure_queue('tap/13/bad', null) $$),
  ('a null queue',             'is null',   $$ select awa.configure_queue(null, '{}') $$),
  ('an empty queue',           '''''',      $$ select awa.configure_queue('', '{}') $$),
  ('pausing a null queue',     'is null',   $$ select awa.pause_queue(null) $$),
  ('pausing an empty queue',   '''''',      $$ select awa.pause_queue('') $$),
  ('resuming a null queue',    'is null',   $$ select awa.resume_queue(null) $$),
  ('resuming an empty queue',  '''''',      $$ select awa.resume_queue('') $$),
  -- As an interval this would be 72 seconds.
  ('a retention in parts',     'failed_retention', $$ select awa.configure_queue('tap/13/bad', '{"failed_retention": {"hours": 72}}') $$),
  ('a list as a retention',    'dlq_retention',    $$ select awa.configure_queue('tap/13/bad', '{"dlq_retention": ["1 hour"]}') $$)
) as v (title, named, sql);
select is((select r.message from pg_temp.refused(format('select awa.configure_queue(%L, %L)', 'tap/13/bad', jsonb_build_object(setting, value))) as r),
  format('%s is %s', setting, value), format('%s out of bounds is named, and no table or constraint of awa', setting))
from (values ('enqueue_shards', '0'), ('priority_aging_interval', '-1 s'), ('rate_burst', '0'), ('max_depth', '0'), ('on_full', 'wait'),
  ('concurrency_limit', '1001'), ('dlq_retention', '101 years')) as v (setting, value);
select is_empty($$ select * from awa.queue_meta where queue = 'tap/13/bad' $$, 'a refused call leaves no queue behind');

-- Pause and resume

select awa.enqueue('k', queue => 'tap/13/pause') from generate_series(1, 3) \g /dev/null
create temp table before_pause as select * from awa.claim('tap/13/pause', 1);
select awa.pause_queue('tap/13/pause') \g /dev/null
select is_empty($$ select * from awa.claim('tap/13/pause', 10) $$, 'a paused queue hands nothing out');
select ok(awa.complete(receipt), 'what runs may finish') from before_pause;
select isnt(awa.enqueue('k', queue => 'tap/13/pause'), null, 'and producers may add');
select awa.pause_queue('tap/13/pause') \g /dev/null
select awa.resume_queue('tap/13/pause'), awa.resume_queue('tap/13/unknown') \g /dev/null
select is((select count(*) from awa.claim('tap/13/pause', 10)), 3::bigint, 'once resumed, however often it was paused, everything is handed out');
select is_empty($$ select * from awa.queue_meta where queue = 'tap/13/unknown' $$, 'resuming an unknown queue adds none');
select results_eq($$ select enqueue_shards::integer, paused from awa.queue_meta where queue = 'tap/13/pause' $$, 'values (1, false)',
  'pausing leaves the settings alone');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
