// A producer and a worker in Node. They only call functions: there is no library
// for awa, and none is needed.
//
//   node client.mjs     enqueues three jobs, works on what is there, ends

import pg from 'pg'

const pool = new pg.Pool() // the PG* variables

// A job commits with the rows it is about.
async function signUp(name) {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query('insert into users (name) values ($1)', [name])
    await client.query(
      `select awa.enqueue('welcome', $1::jsonb, queue => 'mail', max_attempts => 3)`,
      [JSON.stringify({ name })])
    await client.query('commit')
  } catch (err) {
    await client.query('rollback')
    throw err
  } finally {
    client.release()
  }
}

const handlers = {
  async welcome({ name }) {
    if (name === 'Nobody') throw new Error('nobody to welcome')
    console.log(`Welcome, ${name}!`)
  },
}

// The receipt is text to this client, and goes back as it came.
async function work(queue) {
  const { rows } = await pool.query(
    `select receipt::text, kind, args
     from awa.claim($1, max_jobs => $2, worker => 'node', lease => '1 minute')`,
    [queue, 10])
  const done = []
  for (const { receipt, kind, args } of rows) {
    try {
      await handlers[kind](args)
      done.push(receipt)
    } catch (err) {
      const { rows } = await pool.query(
        'select awa.fail($1::awa.receipt, error => $2) as state', [receipt, err.message])
      console.log(`${kind} failed: ${err.message}; it is ${rows[0].state}`)
    }
  }
  // One statement completes the batch, and tells what others closed meanwhile.
  const { rows: stale } = await pool.query(
    'select * from awa.complete_many($1::text[]::awa.receipt[])', [done])
  for (const { job_id } of stale) console.log(`job ${job_id} was done by another worker`)
  return rows.length
}

await pool.query('create table if not exists users (name text)')
for (const name of ['Ada', 'Grace', 'Nobody']) await signUp(name)
while (await work('mail') > 0) { /* until nothing is available */ }
const { rows } = await pool.query(`select completed, retryable from awa.queue_counts('mail')`)
console.log(`completed: ${rows[0].completed}, to be retried: ${rows[0].retryable}`)
await pool.end()
