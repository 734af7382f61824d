// What both peers share. Times are in seconds, latencies in milliseconds.

export const batch = 200
const backlog = 20_000
const chunk = 2000

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export async function seconds(work) {
  const start = performance.now()
  await work()
  return (performance.now() - start) / 1000
}

// docs makes n payloads of about so many bytes; large ones hardly compress.
export function docs(n, size) {
  let random = ''
  if (size > 1000) {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
    const letters = []
    for (let i = 0; i < 2 * size; i++) letters.push(alphabet[Math.floor(Math.random() * 64)])
    random = letters.join('')
  }
  const pad = 'x'.repeat(Math.max(0, Math.min(size, 1000) - 20))
  return Array.from({ length: n }, (_, i) => {
    const from = (i * 37) % size
    return { i: i + 1, pad: random ? random.slice(from, from + size - 20) : pad }
  })
}

// parts cuts a list so that no part holds more than 20 MB or max items.
export function parts(list, size, max) {
  const step = Math.min(max, Math.floor(20_000_000 / size) + 1)
  const all = []
  for (let from = 0; from < list.length; from += step) all.push(list.slice(from, from + step))
  return all
}

// sideBySide repeats work on n lanes until the time is up, and returns how often
// it was true, per second.
export async function sideBySide(n, duration, work) {
  let done = 0
  const start = performance.now()
  const over = () => performance.now() - start >= duration * 1000
  await Promise.all(Array.from({ length: n }, async () => {
    while (!over()) if (await work()) done++
  }))
  return done / ((performance.now() - start) / 1000)
}

// Meter counts jobs by the second in which they were finished.
export class Meter {
  constructor(duration) {
    this.start = performance.now()
    this.perSecond = new Array(Math.floor(duration)).fill(0)
    this.total = 0
  }

  add(n) {
    this.total += n
    const i = Math.floor((performance.now() - this.start) / 1000)
    if (i < this.perSecond.length) this.perSecond[i] += n
  }

  over() {
    return performance.now() - this.start >= this.perSecond.length * 1000
  }

  // feed calls put with a chunk of payloads whenever less than the backlog waits.
  async feed(put) {
    const payloads = docs(chunk, 100)
    let fed = 0
    while (!this.over()) {
      if (fed - this.total > backlog - chunk) {
        await sleep(1)
        continue
      }
      await put(payloads)
      fed += chunk
    }
  }
}

// Flow takes the times of a load that arrives whether or not earlier jobs have
// been worked. What it returns is without the time in which workers start up.
export class Flow {
  constructor({ producers, rate, chunk, every, intervals, settling }) {
    Object.assign(this, { producers, rate, chunk, every: every * 1000, settling: settling * 1000 })
    this.pad = docs(1, 100)[0].pad
    this.halves = new Map() // jobs of which only the commit or only the start is known
    this.committed = this.begun = this.deepest = 0
    this.waits = Array.from({ length: intervals }, () => [])
    this.depths = new Array(intervals).fill(0)
  }

  // works is what a handler calls first, with the payload of its job.
  works({ i }) {
    const now = performance.now()
    this.begun++
    if (this.halves.has(i)) {
      this.add(now, now - this.halves.get(i))
      this.halves.delete(i)
    } else this.halves.set(i, now)
  }

  wasCommitted(payloads) {
    const now = performance.now()
    this.committed += payloads.length
    for (const { i } of payloads) {
      if (this.halves.has(i)) {
        this.add(this.halves.get(i), 0)
        this.halves.delete(i)
      } else this.halves.set(i, now)
    }
    if (now > this.start) this.deepest = Math.max(this.deepest, this.committed - this.begun)
  }

  add(begun, wait) {
    if (begun > this.start) this.waits[Math.floor((begun - this.start) / this.every)]?.push(wait)
  }

  // run offers the load by put, which enqueues payloads, and returns when every job
  // was begun.
  async run(put) {
    const first = performance.now()
    this.start = first + this.settling
    const end = this.start + this.waits.length * this.every
    const until = async (at) => {
      const left = at - performance.now()
      if (left > 0) await sleep(left)
    }
    let last = 0
    const produce = async (_, p) => {
      const period = (this.producers * this.chunk * 1000) / this.rate
      for (let due = first + (p * period) / this.producers; due < end && performance.now() < end; due += period) {
        await until(due)
        const payloads = Array.from({ length: this.chunk }, () => ({ i: ++last, pad: this.pad }))
        await put(payloads)
        this.wasCommitted(payloads)
      }
    }
    const watch = async () => {
      for (let i = 0; i < this.depths.length; i++) {
        await until(this.start + (i + 1) * this.every)
        this.depths[i] = Math.max(0, this.committed - this.begun)
      }
    }
    await Promise.all([...Array.from({ length: this.producers }, produce), watch()])
    const patience = performance.now() + 60_000
    while (this.begun < this.committed) {
      if (performance.now() > patience) throw new Error(`${this.committed - this.begun} jobs were not started`)
      await sleep(10)
    }
    if (this.halves.size > 0) throw new Error(`${this.halves.size} jobs were only committed or only started, or started twice`)
    const intervals = this.waits.map((waits, i) => ({ Begun: waits.length, Depth: this.depths[i], ...quantiles(waits) }))
    return { ...quantiles(this.waits.flat()), Deepest: this.deepest, Intervals: intervals }
  }
}

function quantiles(samples) {
  const sorted = Float64Array.from(samples).sort()
  const n = sorted.length
  if (n === 0) return { Median: 0, P99: 0 }
  return { Median: sorted[Math.floor(n / 2)], P99: sorted[Math.min(n - 1, Math.floor((n * 99) / 100))] }
}
