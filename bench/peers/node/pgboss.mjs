// pg-boss: explicit fetch and complete, which is its fastest documented way.

import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { batch, docs, Flow, Meter, parts, seconds, sideBySide, sleep } from './common.mjs'

const queue = 'bench'
const lanes = 4

export async function open(config) {
  const boss = new PgBoss({ ...config, max: 20, useListenNotify: true })
  boss.on('error', (error) => console.error(error))
  boss.on('warning', () => {})
  await boss.start()
  await boss.createQueue(queue, { partition: true, notify: true })

  let holder // the connection of a transaction that stays open

  // step fetches and completes up to n jobs; begin hears of them before they are
  // completed.
  const step = async (n, begin) => {
    const jobs = await boss.fetch(queue, { batchSize: n })
    begin?.(jobs)
    if (jobs.length > 0) await boss.complete(queue, jobs.map((job) => job.id))
    return jobs.length
  }

  return {
    async bulk({ n, size }) {
      const all = parts(docs(n, size).map((data) => ({ data })), size, 10_000)
      return seconds(async () => {
        for (const part of all) await boss.insert(queue, part)
      })
    },

    async drain({ n }) {
      let left = n
      return seconds(() =>
        Promise.all(Array.from({ length: lanes }, async () => {
          while (left > 0) {
            const done = await step(batch) // not in one expression: others change left meanwhile
            left -= done
          }
        })))
    },

    async produce({ n, duration }) {
      const [data] = docs(1, 100)
      return sideBySide(n, duration, async () => {
        await boss.send(queue, data)
        return true
      })
    },

    oneJob({ n, duration }) {
      return sideBySide(n, duration, async () => (await step(1)) > 0)
    },

    async traffic({ duration }) {
      const meter = new Meter(duration)
      const workers = Array.from({ length: lanes }, async () => {
        while (!meter.over()) {
          const done = await step(batch)
          meter.add(done)
          if (done === 0) await sleep(1)
        }
      })
      await meter.feed((payloads) => boss.insert(queue, payloads.map((data) => ({ data }))))
      await Promise.all(workers)
      return meter.perSecond
    },

    async flow(load) {
      const flow = new Flow(load)
      const put = async (payloads) => {
        if (payloads.length > 1) await boss.insert(queue, payloads.map((data) => ({ data })))
        else await boss.send(queue, payloads[0])
      }
      const begin = (jobs) => jobs.forEach((job) => flow.works(job.data))
      let over = false
      let workers = []
      if (load.chunk > 1) {
        workers = Array.from({ length: lanes }, async () => {
          while (!over) if ((await step(batch, begin)) === 0) await sleep(1)
        })
      } else {
        await boss.work(queue, { localConcurrency: 10, pollingIntervalSeconds: 0.5 }, async (jobs) => begin(jobs))
      }
      const course = await flow.run(put)
      over = true
      await Promise.all(workers)
      return course
    },

    async hold() {
      holder = new pg.Client(config)
      await holder.connect()
      await holder.query('begin')
      await boss.send(queue, {}, { db: { executeSql: (text, values) => holder.query(text, values) } })
      return true
    },

    async release() {
      await holder?.end()
      return true
    },
  }
}
