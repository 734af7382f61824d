package lifecycle_test

import "regexp"

// wideMoves are calls that may meet a job on its way from one place to another, and are then to
// be made again.
var wideMoves = regexp.MustCompile(`^update|^delete|cancel|delete_job_compat|resume_callback|park|batch_operation`)

// wideMaintain makes a pass, and returns what its tasks have to say beside what they did.
const wideMaintain = `select m.task || ': ' || regexp_replace(m.detail, '[0-9]+', '#', 'g') from awa.maintain() as m where m.detail is not null`

// wideReports are what a task of maintain may say.
var wideReports = regexp.MustCompile(`another session|its unique key is held by job #$|moved on while it was deleted|is in the way|segment #$|operation #: [a-z]+$|lock timeout|user request|statement timeout`)

// manyKeys are concurrency keys of wideEnqueues, of which there may be more.
var manyKeys = regexp.MustCompile(`\(\$1 % [235]\)::text`)

// wideEnqueues take a number, a queue, two ids, a unique key and its mask.
var wideEnqueues = []string{
	`awa.enqueue('kind' || $1 % 3, queue => $2, priority => 1 + $1 % 4, max_attempts => 1 + $1 % 3,
		run_at => case when $1 % 7 = 0 then clock_timestamp() + interval '20 ms' end, deadline => case when $1 % 11 = 0 then interval '100 ms' end)`,
	`awa.enqueue('kind' || $1 % 3, queue => $2, max_attempts => 1 + $1 % 3, unique_key => $5, unique_states => $6::bit(8),
		run_at => case when $1 % 3 = 0 then clock_timestamp() + interval '20 ms' end)`,
	`awa.enqueue('kind' || $1 % 3, queue => $2, max_attempts => 1 + $1 % 3, concurrency_key => ($1 % 3)::text, follow_ups => '{
		"completed": [{"kind": "next"}], "failed": [{"kind": "next", "delay": "10 ms"}], "exhausted": [{"kind": "next", "concurrency_key": "1"}]}')`,
	`awa.enqueue('kind' || $1 % 3, queue => $2, after => array[$3, $4])`,
	`(awa.enqueue_many('many', array_fill('{}'::jsonb, array[1 + $1 % 12]), $2, 1 + $1 % 4,
		run_at => case when $1 % 3 = 0 then clock_timestamp() + interval '15 ms' end))[1]`,
	`(awa.enqueue_many(jsonb_build_array(
		jsonb_build_object('kind', 'kind1', 'run_at', clock_timestamp() + interval '10 ms'),
		jsonb_build_object('kind', 'kind2', 'unique_key', $5, 'unique_states', $6),
		jsonb_build_object('kind', 'kind0', 'after', jsonb_build_array($3)),
		jsonb_build_object('kind', 'kind1', 'priority', 1 + $1 % 4)), $2))[4]`,
	`awa.enqueue('kind' || $1 % 3, queue => $2, max_attempts => 1 + $1 % 3, concurrency_key => ($1 % 2)::text, unique_key => $5, unique_states => $6::bit(8),
		run_at => case when $1 % 3 = 0 then clock_timestamp() + interval '20 ms' end, after => case when $1 % 5 = 0 then array[$3] end)`,
	`(awa.enqueue_many(jsonb_build_array(
		jsonb_build_object('kind', 'kind1', 'concurrency_key', '1', 'follow_ups', jsonb_build_object('completed', jsonb_build_array(jsonb_build_object('kind', 'next', 'queue', 'limited', 'concurrency_key', '2')))),
		jsonb_build_object('kind', 'kind2', 'concurrency_key', '0', 'after', jsonb_build_array($3)),
		jsonb_build_object('kind', 'kind0', 'concurrency_key', '0', 'max_attempts', 2)), $2))[3]`,
	`(awa.enqueue_many(jsonb_build_array(
		jsonb_build_object('kind', 'kind' || $1 % 3, 'queue', $2, 'concurrency_key', ($1 % 2)::text, 'unique_key', $5, 'unique_states', $6, 'deadline', '80 ms', 'max_attempts', 1 + $1 % 3,
			'after', case when $1 % 3 = 0 then jsonb_build_array($3, $4) end, 'run_at', case when $1 % 4 = 0 then clock_timestamp() + interval '10 ms' end,
			'follow_ups', jsonb_build_object('completed', jsonb_build_array(jsonb_build_object('kind', 'next', 'queue', 'rated', 'concurrency_key', '1')),
				'failed', jsonb_build_array(jsonb_build_object('kind', 'next', 'delay', '5 ms', 'concurrency_key', '0')))),
		jsonb_build_object('kind', 'kind' || $1 % 3, 'queue', 'rated', 'concurrency_key', ($1 % 5)::text, 'priority', 1 + $1 % 4))))[2]`,
	`(awa.insert_job_compat('kind0', p_queue => $2, p_unique_key => case when $1 % 2 = 0 then $5 end)).id`,
	`awa.enqueue('own', queue => $2) from awa.claim($2, 3)`,
}

// widePlans are settings under which plans are others: no rule may depend on one.
var widePlans = []string{
	`enable_hashjoin = off`, `enable_mergejoin = off`, `enable_nestloop = off`, `enable_sort = off`, `enable_bitmapscan = off`, `enable_indexscan = off`,
	`enable_seqscan = off`, `enable_material = off`, `enable_memoize = off`, `enable_hashagg = off`, `enable_incremental_sort = off`, `work_mem = '64kB'`,
	`plan_cache_mode = force_generic_plan`, `plan_cache_mode = force_custom_plan`, `cursor_tuple_fraction = 0.001`, `random_page_cost = 100`,
	`parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set min_parallel_index_scan_size = 0`,
	`default_transaction_isolation = 'repeatable read'`, `search_path = pg_catalog`, `datestyle = 'SQL, DMY'`, `intervalstyle = 'sql_standard'`, `timezone = 'Asia/Kathmandu'`,
	`bytea_output = 'escape'`, `constraint_exclusion = on`, `from_collapse_limit = 1`, `join_collapse_limit = 1`, `geqo_threshold = 2`, `row_security = off`,
	`temp_buffers = 100`, `extra_float_digits = 0`, `synchronous_commit = off`, `client_min_messages = debug1`,
}

// wideFinishes take receipts.
var wideFinishes = []string{
	`fail_many($1)`, `fail_many($1, terminal => true)`, `fail_many($1, retry_after => '10 ms')`, `fail($1[1], 'e', retry_after => '5 ms')`,
	`snooze_many($1, '5 ms')`, `cancel_attempt($1[1])`,
	`set_progress($1[1], 5, 'wide', '{"a": 1}')`, `extend_lease($1, '200 ms')`, `callback_status($1[1])`, `park($1[1])`,
}

// wideSettings are a queue's.
var wideSettings = []string{
	`{"enqueue_shards": 1}`, `{"enqueue_shards": 3}`, `{"concurrency_limit": 1}`, `{"concurrency_limit": 2}`, `{"concurrency_limit": null}`,
	`{"rate_limit": 300, "rate_burst": 30}`, `{"rate_limit": null}`, `{"dlq_enabled": true}`, `{"dlq_enabled": false}`,
	`{"failed_retention": "0"}`, `{"failed_retention": "300 ms"}`, `{"dlq_retention": "100 ms"}`, `{"dlq_retention": null}`,
	`{"priority_aging_interval": "10 ms"}`, `{"priority_aging_interval": null}`,
	`{"max_depth": 60}`, `{"max_depth": 60, "on_full": "warn"}`, `{"max_depth": null}`, `{"notify": false}`, `{"notify": true}`,
}

// wideCalls take a queue, an id, a unique key, a number, a setting and the worker.
var wideCalls = []string{
	`select awa.configure_queue($1, $5::jsonb)`, `select awa.configure_queue($1, $5::jsonb)`,
	`select awa.pause_queue($1)`, `select awa.resume_queue($1)`, `select awa.resume_queue($1)`,
	`select awa.retry($2, run_at => case when $4 % 2 = 0 then clock_timestamp() + interval '10 ms' end)`, `select awa.retry($2, queue => $1)`,
	`select awa.retry_from_dlq($2, queue => $1)`, `select awa.bulk_retry_from_dlq($1, max_jobs => 10)`,
	`select awa.move_failed_to_dlq($2)`, `select awa.bulk_move_failed_to_dlq($1, max_jobs => 10)`, `select awa.purge_dlq($1, max_jobs => 10)`,
	`select awa.discard_failed_by_kind('kind' || $4 % 3)`,
	`select awa.cancel($2)`, `select awa.cancel($2 + 1)`, `select awa.cancel_by_unique_key($3)`,
	`select awa.delete_job_compat($2)`, `delete from awa.jobs where id between $2 and $2 + 30`, `delete from awa.jobs where queue = $1 and id % 3 = 0`,
	`update awa.jobs set priority = priority % 4 + 1 where id > $2 and state in ('available', 'scheduled', 'retryable')`,
	`update awa.jobs set run_at = clock_timestamp() + interval '5 ms' * (id % 3) where id > $2 and state in ('available', 'scheduled', 'retryable')`,
	`update awa.jobs set queue = $1, tags = '{b}' where id = $2 and state in ('available', 'scheduled', 'retryable')`,
	`insert into awa.jobs (kind, queue, args, tags, metadata) values ('kind2', $1, '{}', '{a}', '{}')`,
	`select awa.start_batch_operation((array['retry', 'cancel', 'discard', 'delete'])[1 + $4 % 4], jsonb_build_object('queue', $1, 'min_id', $2))`,
	`select awa.start_batch_operation((array['move', 'reprioritize'])[1 + $4 % 2], jsonb_build_object('min_id', $2),
		(array['{"queue": "wide/1"}', '{"priority": 1}'])[1 + $4 % 2]::jsonb)`,
	`select awa.run_batch_operation(b.id, 1 + $4 % 200) from awa.list_batch_operations() as b where b.finished_at is null order by b.id limit 1`,
	`select awa.cancel_batch_operation(max(b.id)) from awa.list_batch_operations() as b where $4 % 4 = 0`,
	`select awa.count_batch_jobs('cancel', jsonb_build_object('queue', $1))`,
	`select awa.upsert_schedule('s' || $4 % 3, '* * * * * *', 'cron', queue => $1)`,
	`select awa.upsert_schedule('s' || $4 % 3, '*/2 * * * * *', 'cron', queue => $1, missed_fire => 'skip')`,
	`select awa.remove_schedule('s' || $4 % 3)`, `select awa.pause_schedule('s' || $4 % 3)`, `select awa.resume_schedule('s' || $4 % 3)`,
	`update awa.jobs set priority = priority % 4 + 1 where run_at = 'infinity'`,
	`update awa.jobs set run_at = clock_timestamp() where run_at = 'infinity' and id > $2`,
	`update awa.jobs set run_at = 'infinity' where id between $2 and $2 + 5 and state in ('available', 'scheduled', 'retryable')`,
	`select awa.retry($2, run_at => 'infinity')`,
	`update awa.jobs set queue = $1, priority = 1 + $4 % 4 where run_at = 'infinity' and id > $2`,
	`update awa.jobs as j set priority = 1 + $4 % 4, metadata = '{"a": 1}' from generate_series(1, 2) as g where j.id between $2 and $2 + 3 and j.state in ('available', 'scheduled', 'retryable')`,
	`delete from awa.jobs as j using generate_series($2, $2 + 10) as g, generate_series(1, 2) where j.id = g`,
	`insert into awa.jobs (kind, queue, priority, run_at) select 'kind1', $1, 1 + n % 4, case when n % 2 = 0 then clock_timestamp() + interval '20 ms' end from generate_series(1, 1 + $4 % 20) as n`,
	`select awa.bulk_retry_from_dlq(max_jobs => 50)`, `select awa.bulk_move_failed_to_dlq(max_jobs => 50)`, `select awa.purge_dlq(older_than => '100 ms')`,
	`select awa.complete_many(array(select c.receipt from awa.claim($1, 30) as c))`,
	`select awa.set_progress(c.receipt, 7, 'x'), awa.register_callback(c.receipt, '40 ms') from awa.claim($1, 3) as c`,
	`select awa.park(c.receipt) from awa.claim($1, 3) as c cross join lateral awa.register_callback(c.receipt, '10 minutes') as r`,
	`select awa.resume_callback(l.callback_id) from awa.jobs as l where l.callback_id is not null limit 1`,
	`select awa.complete_callback(l.callback_id) from awa.jobs as l where l.callback_id is not null limit 1`,
	`select awa.storage_abort(), awa.active_queue_storage_schema()`, `select awa.storage_status()`,
	`select awa.heartbeat($6)`, `select awa.heartbeat($6)`, `select awa.register_worker($6, '{"a": 1}')`,
	`select awa.rescue_unknown($6, '{}')`, `select awa.rescue_unknown('wide/nobody', array(select c.receipt from awa.claim($1, 3, 'wide/nobody') as c))`,
	`select awa.start_waiting(array[$1]), awa.stop_waiting(array[$1])`,
	`select awa.enqueue('lone', queue => 'lone', run_at => case when $4 % 2 = 0 then clock_timestamp() + interval '5 ms' end)`,
	`select awa.complete_many(array(select c.receipt from awa.claim('lone', 100) as c))`,
	`select awa.queue_counts($1)`, `select awa.list_jobs($1)`, `select awa.get_job($2)`, `select awa.queue_overview()`, `select count(*) from awa.jobs where queue = $1`,
}

// wideSeveral are statements of several calls each, which may take keys and lanes in any order.
var wideSeveral = []string{
	`select awa.fail_many(array(select c.receipt from awa.claim($1, 10) as c), retry_after => '1 microsecond')`,
	`with d as (delete from awa.jobs where id between $2 and $2 + 5 returning id), u as (
		update awa.jobs set max_attempts = 3 where id between $2 + 10 and $2 + 15 and state in ('available', 'scheduled', 'retryable') returning id)
		select count(*) from d, u`,
	`select awa.cancel(j.id) from awa.list_jobs($1, max_jobs => 5) as j`,
	`select awa.retry(j.id) from awa.list_jobs($1, state => 'failed', max_jobs => 5) as j`,
	`select awa.cancel(j.id) from awa.jobs as j where j.run_at = 'infinity' limit 3`,
	`select awa.resume_callback(l.callback_id) from awa.jobs as l where l.callback_id is not null limit 2`,
	`select awa.complete_callback(l.callback_id) from awa.jobs as l where l.callback_id is not null limit 2`,
}
