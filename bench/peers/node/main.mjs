// Serves one peer: reads calls from stdin, one JSON document a line, and answers
// each on file descriptor 3, where a first line says that the peer is ready. What
// libraries print goes to stderr.

import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'

const peer = await (await import(`./${process.argv[2]}.mjs`)).open(JSON.parse(process.argv[3]))
console.log = console.error

const reply = (answer) => writeSync(3, JSON.stringify(answer) + '\n')
reply({ result: true }) // ready

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...params } = JSON.parse(line)
  let answer
  try {
    answer = { result: await peer[call](params) }
  } catch (error) {
    answer = { error: error.stack ?? String(error) }
  }
  reply(answer)
}
process.exit(0)
