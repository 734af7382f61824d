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

// Pickups measures how long jobs wait for an idle worker in this process.
export class Pickups {
  started = new Map()
  warmUp = 50

  begun(id) {
    this.started.set(String(id), performance.now())
  }

  async measure(n, every, enqueue) {
    const committed = new Map()
    for (let i = 0; i < n + this.warmUp; i++) {
      await sleep(every * 1000)
      const id = await enqueue()
      if (i >= this.warmUp) committed.set(String(id), performance.now())
    }
    for (let i = 0; this.started.size < n + this.warmUp; i++) {
      if (i > 1000) throw new Error('not every job was started')
      await sleep(10)
    }
    return [...committed].map(([id, at]) => Math.max(0, this.started.get(id) - at))
  }
}
