// graphile-worker with the settings of its documentation's page on performance.

import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import pg from 'pg'
import { docs, Flow, Meter, parts, seconds, sideBySide, sleep } from './common.mjs'

process.env.NO_LOG_SUCCESS = '1' // or it formats a line for every job

const logger = new Logger(() => () => {})
const batched = {
  concurrentJobs: 24,
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
}

export async function open(config) {
  const pool = new pg.Pool({ ...config, max: 25 })
  pool.on('error', (error) => console.error(error))
  pool.on('connect', (client) => client.on('error', (error) => console.error(error)))
  const utils = await makeWorkerUtils({ pgPool: pool, logger })
  await utils.migrate()

  let holder // the connection of a transaction that stays open
  const spec = (payload) => ({ identifier: 'bench', payload })
  const work = (options, task) =>
    run({ preset: { worker: { logger, ...options } }, pgPool: pool, noHandleSignals: true, taskList: { bench: task } })

  return {
    // Completed jobs are deleted: none is left when every completion is committed.
    async empty() {
      const { rows } = await pool.query('select exists (select from graphile_worker._private_jobs) as some')
      return !rows[0].some
    },

    async bulk({ n, size }) {
      const all = parts(docs(n, size).map(spec), size, 10_000)
      return seconds(async () => {
        for (const part of all) await utils.addJobs(part)
      })
    },

    async drain({ n }) {
      let left = n
      let runner
      const took = await seconds(async () => {
        await new Promise(async (resolve) => {
          runner = await work(batched, () => {
            if (--left === 0) resolve()
          })
        })
        while (!(await this.empty())) await sleep(1)
      })
      await runner.stop()
      return took
    },

    async produce({ n, duration }) {
      const [payload] = docs(1, 100)
      return sideBySide(n, duration, async () => {
        await utils.addJob('bench', payload)
        return true
      })
    },

    // One job a claim: no local queue, no batches of completions.
    async oneJob({ n, duration }) {
      let done = 0
      const runner = await work({ concurrentJobs: n }, () => {
        done++
      })
      const start = performance.now()
      const before = done
      await sleep(duration * 1000)
      const rate = (done - before) / ((performance.now() - start) / 1000)
      await runner.stop()
      return rate
    },

    async traffic({ duration }) {
      const meter = new Meter(duration)
      const runner = await work(batched, () => meter.add(1))
      await meter.feed((payloads) => utils.addJobs(payloads.map(spec)))
      await runner.stop()
      return meter.perSecond
    },

    async flow(load) {
      const flow = new Flow(load)
      const options = load.chunk > 1 ? batched : { concurrentJobs: 10 }
      const runner = await work(options, (payload) => flow.works(payload))
      const put = async (payloads) => {
        if (payloads.length > 1) await utils.addJobs(payloads.map(spec))
        else await utils.addJob('bench', payloads[0])
      }
      const course = await flow.run(put)
      await runner.stop()
      return course
    },

    async hold() {
      holder = await pool.connect()
      await holder.query('begin')
      await holder.query("select graphile_worker.add_job('held', '{}')")
      return true
    },

    async release() {
      await holder?.query('rollback')
      holder?.release()
      return true
    },
  }
}
