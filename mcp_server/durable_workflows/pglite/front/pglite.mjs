// PGlite as a Postgres server for many clients on this machine. Started by pglite.py:
//
//   node pglite.mjs --project DIR --data DIR --modules DIR --port N
//
// stdin    one line of JSON, {"password", "idle_transaction_seconds", …}; then it stays open. Its end is the order to stop, also
//          when the parent was killed. SIGTERM is the same order.
// stdout   one line of JSON: {"event":"ready","port"} or {"event":"failed","reason","message"}. Later a line when clients begin to wait
//          for the one session most of the time, {"event":"crowded","busy","blocked"} (load.mjs), and "eased" when they no longer do.
// stderr   the log, without statements, values or the password.
// exit     0 after an orderly stop. What a client sends ends that client and never the process (front.mjs). Any other unforeseen
//          error ends it at once: committed data is on the disk, and the parent starts it again.
//
// An open file that holds the lock on the data directory is inherited and left alone: it is free when this process is gone.

import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import process from 'node:process'
import { parseArgs } from 'node:util'

import { Backend } from './backend.mjs'
import { Front } from './front.mjs'
import { Housekeeping } from './housekeeping.mjs'
import { watch } from './load.mjs'
import { query } from './protocol.mjs'
import { verifierOf } from './scram.mjs'

const NICER = 10
const NICEST = 19
const STOP_MS = 4500 // an orderly stop takes no longer; then the process ends as if killed, which loses nothing
const SELDOM_MS = 60_000
const FATAL = / (FATAL|PANIC): |^postgres: /
const OTHER_POSTGRES = / DETAIL: .* was initialized (by PostgreSQL version|with CATALOG_VERSION_NO)/
const FULL_DISK_BYTES = 4 << 20

const LIMITS = {
  idle_transaction_seconds: 60,
  login_seconds: 10,
  login_bytes: 8192,
  max_connections: 200,
  max_guests: 32, // connections that have not logged in
  max_message_bytes: 64 << 20,
  max_spool_bytes: 1 << 30, // of one client's COPY data or unread results
  housekeeping_seconds: 30,
  crowded_seconds: 60,
}

const log = (line) => process.stderr.write(`${new Date().toISOString()} ${line}\n`)
const announce = (event) => fs.writeSync(1, `${JSON.stringify(event)}\n`)

/** Say something that nobody has to hear. */
function mention(event) {
  try {
    announce(event)
  } catch (error) {
    log(`nobody hears: ${error.code}`) // the parent is gone, and this process is about to stop
  }
}

class StartFailed extends Error {
  constructor(reason, problem) {
    super(problem)
    this.reason = reason
  }
}

function main() {
  yieldToWorkers()
  process.on('uncaughtException', (error) => {
    log(`fatal: ${error.stack ?? error}`)
    process.exit(70)
  })
  process.on('SIGINT', () => {}) // a terminal's Ctrl-C is for the foreground program
  const { values } = parseArgs({ options: Object.fromEntries(OPTIONS.map((name) => [name, { type: 'string' }])) })
  configuration(process.stdin)
    .then((config) => serve(values, config))
    .catch(giveUp)
}

/**
 * V8 optimizes WASM code in threads of its own. That takes a second of processor time in a new process, in which the project's worker starts:
 * a start under load took twice as long with threads of equal priority. Other systems have no priorities of threads. Node 26 calls them node-V8Worker.
 */
function yieldToWorkers() {
  if (process.platform !== 'linux') return
  const nice = Math.min(os.getPriority() + NICER, NICEST)
  for (const thread of fs.readdirSync('/proc/self/task')) {
    const name = fs.readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').trim()
    if (name.endsWith('V8Worker')) os.setPriority(Number(thread), nice)
  }
}

const OPTIONS = ['project', 'data', 'modules', 'port']

function giveUp(error) {
  log(`start failed: ${error.message}`)
  announce({ event: 'failed', reason: error.reason ?? 'other', message: error.message })
  process.exit(1)
}

/** The first line of stdin. */
async function configuration(stdin) {
  let received = ''
  for await (const chunk of stdin.iterator({ destroyOnReturn: false })) {
    received += chunk
    if (received.includes('\n')) return { ...LIMITS, ...JSON.parse(received) }
  }
  throw new StartFailed('other', 'no configuration on stdin')
}

async function serve({ data, modules, port }, config) {
  const early = [] // clients that come while the database starts
  const server = net.createServer((socket) => {
    early.push(socket.on('error', () => {}))
    if (early.length > config.max_guests) early.shift().destroy()
  })
  await listen(server, Number(port))
  const backend = await open(data, modules)
  const front = new Front(backend, {
    verifier: verifierOf(config.password),
    limits: limitsOf(config),
    spoolDirectory: path.dirname(path.resolve(data)),
    log,
  })
  front.onWork = new Housekeeping(backend, front, { log, everyMs: 1000 * config.housekeeping_seconds }).worked
  server.removeAllListeners('connection').on('connection', (socket) => front.accept(socket))
  for (const socket of early) front.accept(socket)
  const stop = once(() => stopServing(server, front, backend))
  process.on('SIGTERM', stop)
  process.stdin.on('end', stop).on('error', stop).resume()
  server.on('error', seldom((error) => log(`a client could not be accepted: ${error.message}`)))
  announce({ event: 'ready', port: server.address().port })
  log(`ready on port ${server.address().port}`)
  watch(front.load, 1000 * config.crowded_seconds, mention)
}

const limitsOf = (config) => ({
  connections: config.max_connections,
  guests: config.max_guests,
  idleTransactionMs: 1000 * config.idle_transaction_seconds,
  loginBytes: config.login_bytes,
  loginMs: 1000 * config.login_seconds,
  messageBytes: config.max_message_bytes,
  spoolBytes: config.max_spool_bytes,
})

function listen(server, port) {
  return new Promise((resolve, reject) => {
    const refuse = (error) => reject(new StartFailed('port-taken', error.message))
    server.once('error', refuse)
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(server.off('error', refuse)))
  })
}

async function open(data, modules) {
  const lines = []
  try {
    return await Backend.open({ modules, data, log: (line) => (lines.push(line), log(`postgres: ${line}`)) })
  } catch (error) {
    const said = lines.slice(-3).join('; ')
    const reason = reasonOf(data, `${error} ${said}`, lines)
    throw new StartFailed(reason, LASTING.has(reason) ? verdict(lines) : `${error.message ?? error}. ${said}`)
  }
}

// What no further start changes: Postgres has looked at the data and given up.
const LASTING = new Set(['data-directory', 'other-postgres'])

/** Why Postgres gave up, in its words. */
function verdict(lines) {
  const at = lines.findIndex((line) => FATAL.test(line))
  const told = lines.slice(at, at + 2).filter((line, place) => place === 0 || / DETAIL: /.test(line))
  return told.map((line) => line.replace(/^(.*? (FATAL|PANIC|DETAIL)|postgres): +/, '').trim()).join(': ')
}

function reasonOf(data, problem, lines) {
  if (/ENOSPC|No space left/i.test(problem) || freeBytes(data) < FULL_DISK_BYTES) return 'no-space'
  if (lines.some((line) => OTHER_POSTGRES.test(line))) return 'other-postgres'
  return lines.some((line) => FATAL.test(line)) ? 'data-directory' : 'other'
}

function freeBytes(directory) {
  const { bavail, bsize } = fs.statfsSync(directory)
  return bavail * bsize
}

/** Calls of it in the minute after one are left out: what fails once may fail a thousand times a second. */
function seldom(work) {
  let next = 0
  return (...values) => {
    if (performance.now() < next) return
    next = performance.now() + SELDOM_MS
    work(...values)
  }
}

function once(work) {
  let called = false
  return () => {
    if (called) return
    called = true
    work()
  }
}

async function stopServing(server, front, backend) {
  setTimeout(() => {
    log('the stop took too long')
    process.exit(3)
  }, STOP_MS)
  server.close()
  await front.stop()
  backend.collect([query('CHECKPOINT')])
  await backend.close()
  log('stopped')
  process.exit(0)
}

main()
