-- A second claimer waits for the first one's commit; it never comes back empty
-- while jobs wait.
\ir sessions.psql
select pg_temp.forget('race/21') \g /dev/null
select plan(27);
select pg_temp.open(s) from unnest(array['first', 'second', 'third']) as s \g /dev/null

create function pg_temp.fill (p_queue text, p_priority integer, variadic p_names text[]) returns void
  language sql as $$
  select awa.enqueue('k', to_jsonb(n), queue => p_queue, priority => p_priority) from unnest(p_names) with ordinality as u (n, i) order by i
$$;
create function pg_temp.claiming (p_queue text, p_max integer) returns text
  language sql as $$
  select format('select c.args #>> ''{}'' from awa.claim(%L, %s) as c', p_queue, p_max)
$$;

-- One lane

select pg_temp.fill('race/21/one', 2, 'a', 'b', 'c', 'd') \g /dev/null
select pg_temp.tell('first', 'begin') \g /dev/null
select is(pg_temp.run('first', pg_temp.claiming('race/21/one', 2)), 'a b', 'the first claimer takes two of four');
select ok(pg_temp.waits('second', pg_temp.claiming('race/21/one', 10)), 'the second waits for it');
select pg_temp.tell('first', 'commit') \g /dev/null
select is(pg_temp.answer('second'), 'c d', 'and gets the others');

select pg_temp.fill('race/21/one', 2, 'e', 'f') \g /dev/null
select pg_temp.tell('first', 'begin') \g /dev/null
select is(pg_temp.run('first', pg_temp.claiming('race/21/one', 10)), 'e f', 'the first claimer takes all');
select ok(pg_temp.waits('second', pg_temp.claiming('race/21/one', 10)), 'the second waits');
select pg_temp.tell('first', 'rollback') \g /dev/null
select is(pg_temp.answer('second'), 'e f', 'and gets all when the first rolls back');

select pg_temp.fill('race/21/one', 2, 'g', 'h') \g /dev/null
select pg_temp.tell('first', 'begin'), pg_temp.run('first', pg_temp.claiming('race/21/one', 1)) \g /dev/null
select ok(pg_temp.waits('second', pg_temp.claiming('race/21/one', 10)), 'the second waits');
select pg_temp.fill('race/21/one', 2, 'i') \g /dev/null
select pg_temp.tell('first', 'commit') \g /dev/null
select is(pg_temp.answer('second'), 'h i', 'and gets what was committed while it waited, too');

select pg_temp.tell('first', 'begin') \g /dev/null
select is(pg_temp.run('first', pg_temp.claiming('race/21/one', 1)), null, 'a claim of an empty lane');
select pg_temp.fill('race/21/one', 2, 'j') \g /dev/null
select pg_temp.tell('first', 'commit') \g /dev/null
select is(pg_temp.run('second', pg_temp.claiming('race/21/one', 1)), 'j', 'does not take what comes later');

-- Two lanes: another lane is taken rather than waited for

select pg_temp.fill('race/21/two', 1, 'high1', 'high2'), pg_temp.fill('race/21/two', 3, 'low1', 'low2') \g /dev/null
select pg_temp.tell('first', 'begin') \g /dev/null
select is(pg_temp.run('first', pg_temp.claiming('race/21/two', 2)), 'high1 high2', 'the first claimer empties the first lane');
select ok(not pg_temp.waits('second', pg_temp.claiming('race/21/two', 1)), 'the second does not wait, there is another lane');
select is(pg_temp.answer('second'), 'low1', 'and takes from that');
select pg_temp.tell('first', 'commit') \g /dev/null
select is(pg_temp.run('second', pg_temp.claiming('race/21/two', 10)), 'low2', 'the rest is taken later');

-- Everything is in the first one's hands, and more waits in each lane

select pg_temp.fill('race/21/two', 1, 'h1', 'h2'), pg_temp.fill('race/21/two', 3, 'l1', 'l2', 'l3') \g /dev/null
select pg_temp.tell('first', 'begin') \g /dev/null
select is(pg_temp.run('first', pg_temp.claiming('race/21/two', 3)), 'h1 h2 l1', 'the first claimer holds both lanes');
select ok(pg_temp.waits('second', pg_temp.claiming('race/21/two', 10)), 'now the second waits');
select pg_temp.tell('first', 'commit') \g /dev/null
select is(pg_temp.answer('second'), 'l2 l3', 'and gets what the first left');

-- Three claimers

select pg_temp.fill('race/21/three', 2, '1', '2', '3', '4', '5', '6') \g /dev/null
select pg_temp.tell('first', 'begin') \g /dev/null
select is(pg_temp.run('first', pg_temp.claiming('race/21/three', 2)), '1 2', 'three claimers of one lane');
select ok(pg_temp.waits('second', pg_temp.claiming('race/21/three', 2)), 'the second waits');
select ok(pg_temp.waits('third', pg_temp.claiming('race/21/three', 2)), 'the third waits');
select pg_temp.tell('first', 'commit') \g /dev/null
select bag_eq($$ select pg_temp.answer(s) from unnest(array['second', 'third']) as s $$, $$ values ('3 4'), ('5 6') $$, 'each gets its share, none the same');

-- Other queues are not waited for

select pg_temp.fill('race/21/x', 2, 'x'), pg_temp.fill('race/21/y', 2, 'y') \g /dev/null
select pg_temp.tell('first', 'begin'), pg_temp.run('first', pg_temp.claiming('race/21/x', 1)) \g /dev/null
select ok(not pg_temp.waits('second', pg_temp.claiming('race/21/y', 1)), 'a claimer of another queue does not wait');
select is(pg_temp.answer('second'), 'y', 'and gets its job');
select pg_temp.tell('first', 'commit') \g /dev/null

-- Finishers of one batch

select pg_temp.fill('race/21/batch', 2, '1', '2', '3') \g /dev/null
create temp table held as select c.receipt, row_number() over () as n from awa.claim('race/21/batch', 3) as c;
select pg_temp.tell('first', 'begin'), pg_temp.run('first', (select format('select awa.complete(%L::awa.receipt)', receipt) from held where n = 1)) \g /dev/null
select ok(pg_temp.waits('second', (select format('select awa.complete_many(%L::awa.receipt[])', array_agg(receipt order by n)) from held)),
  'a finisher of a batch waits for another one of that batch');
select pg_temp.tell('first', 'commit') \g /dev/null
select is(pg_temp.answer('second'), (select receipt::text from held where n = 1), 'then finishes the others and names the stale one');
select results_eq($$ select running, completed from awa.queue_counts('race/21/batch') $$, 'values (0::bigint, 3::bigint)', 'each counts once');

select pg_temp.forget('race/21') \g /dev/null
select is_empty('select * from awa.check()', 'the storage is sound after all of this');
select * from finish();
