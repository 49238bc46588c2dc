// Many clients on one session: who may use it, and what must be kept apart.
//
// A client's unit runs in one synchronous call, and a client keeps its turn while a transaction is open or after a Flush.
// Hence transactions are isolated as if there were one client at a time. Turns go round among those who wait.
// No client gets an answer while what it may have seen is not on the disk (wal.mjs).
// All state of the session that a client can change is either its own (names.mjs, settings.mjs, channels), or refused (guard.mjs), or
// dropped when the turn goes to another client (LEFTOVERS).

import { performance } from 'node:perf_hooks'

import { Answer } from './answer.mjs'
import { BackendDied, BackendError } from './backend.mjs'
import { Connection } from './connection.mjs'
import { refuseData, runCopy, tryCopy } from './copy.mjs'
import { Load } from './load.mjs'
import { SessionStatements } from './names.mjs'
import { CLIENT, HEADER_BYTES, SYNC, afterText, errorResponse, fatal, message, query, readyForQuery, text } from './protocol.mjs'
import { SessionSettings, Settings } from './settings.mjs'
import { Spool } from './spool.mjs'
import { after } from './timers.mjs'

const SLICE_MS = 10 // of work before the event loop has its turn
const ALONE_MS = 10 // without a turn of another client
const HURRY_MS = 1000 // for the transaction that is open when the front stops
const ENDED = fatal(
  'XX000',
  'this statement ended the session of the embedded database',
  'It was started again, and nothing committed is lost. What the embedded database cannot do is listed in references/postgres.md.',
)
const FAILED = fatal('XX000', 'the front of the embedded database failed at this message', 'This is a bug: its log, .dbos/logs/pglite.log, says where.')
const NO_PORTAL = message(CLIENT.EXECUTE, text('durable_workflows_none'), Buffer.alloc(4))

const first = (set) => set.values().next().value
const statementOn = (command, channel) =>
  message(CLIENT.QUERY, Buffer.from(`${command} "${channel.replaceAll('"', '""')}"\0`, 'latin1'))

// What lastval() tells, and what got into pg_temp by a way that the guard does not see.
const LEFTOVERS = 'DISCARD SEQUENCES; DISCARD TEMP'

export class Front {
  load = new Load()
  statements = new SessionStatements()
  #backend
  #spoolDirectory
  #settings
  #wal
  #connections = new Set()
  #guests = new Set() // those of them that have not logged in, the oldest first
  #waiting = new Set() // in the order in which they get their turns
  #held = new Set() // connections whose answers wait for the disk
  #syncing = false // whether an fsync for them is due
  #holder = null
  #last = null // whose turn was the last one
  #changed = 0 // when the turn last passed to another client
  #active = null // whose unit runs now
  #skipping = false // after an error the session ignores what comes until the holder's Sync
  #restarting = null // a promise, while the session is started again
  #chores = [] // work of the front's own, for a moment when nobody has the turn
  #listeners = new Map() // channel -> connections
  #running = false
  #later = false
  #lastLife = 0
  #watch = null
  #count = 0
  #stopping = null

  constructor(backend, { verifier, limits, spoolDirectory, log }) {
    this.#backend = backend
    this.#wal = backend.wal
    this.#wal.onSynced = () => this.#synced()
    this.#spoolDirectory = spoolDirectory
    this.#settings = new SessionSettings(backend)
    this.verifier = verifier
    this.limits = limits
    this.log = log
    this.onWork = () => {}
  }

  get parameters() {
    return this.#backend.parameters
  }

  accept(socket) {
    if (this.#stopping) {
      socket.on('error', () => {})
      socket.end(fatal('57P03', 'the database is stopping'))
      return
    }
    // Clients that do not log in must not lock out clients that do.
    if (this.#guests.size >= this.limits.guests) first(this.#guests).leave(fatal('53300', 'too many connections that have not logged in'))
    this.#count += 1
    const connection = new Connection(socket, this.#count, this)
    this.#connections.add(connection)
    this.#guests.add(connection)
  }

  /** A connection has logged in; false if there are too many. */
  admit(connection) {
    this.#guests.delete(connection)
    return this.#connections.size - this.#guests.size <= this.limits.connections
  }

  newSpool() {
    return new Spool(this.#spoolDirectory, this.limits.spoolBytes)
  }

  /** A connection has something to run. */
  offer(connection) {
    this.#waiting.add(connection)
    this.#pump()
  }

  hasTurn(connection) {
    return connection === this.#holder
  }

  /** Bytes came from a connection: whoever has the turn is not idle while it sends. */
  sawLife(connection) {
    if (connection === this.#holder) this.#lastLife = performance.now()
  }

  /** A connection is gone, with all that it had. */
  forget(connection) {
    this.#connections.delete(connection)
    this.#guests.delete(connection)
    this.#waiting.delete(connection)
    for (const channel of [...connection.channels]) this.#unlisten(connection, channel)
    const closing = connection.names.forgetAll()
    if (connection === this.#holder && !this.#running) this.#release() // while it runs, #turn will see to it
    if (closing.length > 0) this.chore(() => this.#backend.demand([...closing, SYNC]))
    this.#pump()
  }

  /** Do some work of the front's own when nobody has the turn. */
  chore(work) {
    this.#chores.push(work)
    this.#pump()
  }

  /** Let the open transaction end, for a moment; then tell everybody to go. Nothing runs afterwards. */
  async stop() {
    await new Promise((resolve) => {
      this.#stopping = resolve
      setTimeout(resolve, HURRY_MS).unref()
      if (this.#holder === null) resolve()
    })
    this.#chores = []
    this.#waiting.clear()
    this.#sync()
    for (const connection of [...this.#connections]) connection.leave(fatal('57P01', 'the database is stopping'))
    if (this.#watch !== null) clearTimeout(this.#watch)
    await this.#restarting
  }

  // A slice of turns. The rest is done after the event loop has seen to the sockets.
  #pump() {
    if (this.#running || this.#later) return
    this.#running = true
    this.load.is('busy')
    const end = performance.now() + SLICE_MS
    try {
      for (let next; (next = this.#next()) !== null; ) {
        this.#safely(next)
        if (performance.now() > end) return this.#pumpLater()
      }
    } finally {
      this.#running = false
      this.load.is(this.#blocks ? 'blocked' : 'free')
    }
    if (this.#holder !== null && this.#watch === null) this.#startWatch(this.limits.idleTransactionMs)
    return undefined
  }

  // Whether others wait for the open transaction of a client that sends nothing now.
  get #blocks() {
    return this.#holder !== null && this.#waiting.size > (this.#waiting.has(this.#holder) ? 1 : 0)
  }

  // The one error boundary of all turns: an error in a client's turn ends that client only.
  #safely(work) {
    try {
      work()
    } catch (error) {
      const culprit = this.#active
      this.log(`${culprit === null ? 'housekeeping' : `connection ${culprit.id}`}: ${error.stack ?? error}`)
      if (error instanceof BackendDied) this.#restart()
      culprit?.leave(error instanceof BackendDied ? ENDED : FAILED)
      if (culprit !== null && culprit === this.#holder) this.#release()
    } finally {
      this.#active = null
    }
  }

  // The session died of what a client sent. The others notice a delay: what they have in the session is made again. If it
  // cannot start, this process ends by the unhandled rejection.
  #restart() {
    this.#holder = null
    this.#last = null
    this.#skipping = false
    this.statements.lose()
    this.#settings.lose()
    this.#restarting = this.#backend.restart().then(() => {
      for (const channel of this.#listeners.keys()) this.#backend.demand([statementOn('LISTEN', channel)])
      this.#restarting = null
      this.log('the session was started again')
      this.#pump()
    })
  }

  #pumpLater() {
    this.#later = true
    setImmediate(() => {
      this.#later = false
      this.#pump()
    })
  }

  // The next piece of work, or null.
  #next() {
    if (this.#restarting !== null) return null
    if (this.#holder !== null) return this.#holder.runnable ? () => this.#turn(this.#holder) : null
    if (this.#stopping) {
      this.#stopping() // the last transaction has ended
      return null
    }
    if (this.#chores.length > 0) return () => this.#doChore(this.#chores.shift())
    for (const connection of this.#waiting) {
      this.#waiting.delete(connection)
      if (connection.runnable) return () => this.#turn(connection)
    }
    return null
  }

  // It may fail, for want of space for instance; clients go on.
  #doChore(work) {
    try {
      work()
    } catch (error) {
      if (!(error instanceof BackendError)) throw error
      this.log(`housekeeping failed: ${error.fields.C}`)
    }
  }

  #turn(connection) {
    const began = this.#holder === null
    this.#active = connection
    this.#holder = connection
    this.#lastLife = performance.now()
    const unit = connection.shift()
    connection.hold()
    this.#wal.deferring = true
    try {
      this.#perform(connection, unit, began)
    } finally {
      this.#wal.deferring = false
      this.#letAnswer(connection)
    }
    if (connection.closed) return this.#release()
    if (!this.#keepsTurn(unit)) this.#holder = null
    connection.proceed()
    if (connection.closed && connection === this.#holder) return this.#release() // by what it had sent besides
    if (this.#holder === null && connection.runnable) this.#waiting.add(connection)
    return this.onWork()
  }

  #perform(connection, unit, began) {
    if (began && connection !== this.#last) this.#sweep(connection)
    if (began && !this.#giveSettings(connection, unit)) return
    if (connection.begun !== null) this.#begin(connection)
    this.#runUnit(connection, unit)
  }

  // What the client may have seen must be on the disk before it hears of it. One that is alone hears soonest if the disk is waited for at
  // once. Of several, those whose messages are here already have their turns first: one fsync does for all of them.
  #letAnswer(connection) {
    if (!this.#wal.isBehind) return connection.release()
    this.#hold(connection)
    if (this.#wal.isRunning) return undefined // its end comes back to what it was not for
    return this.#isAlone ? this.#sync() : this.#syncSoon()
  }

  get #isAlone() {
    return this.#waiting.size === 0 && performance.now() - this.#changed > ALONE_MS
  }

  #syncSoon() {
    if (this.#syncing) return
    this.#syncing = true
    setImmediate(() => {
      this.#syncing = false
      this.#synced()
    })
  }

  #hold(connection) {
    connection.hold()
    connection.waitsFor = this.#wal.asked
    this.#held.add(connection)
  }

  #sync() {
    this.#wal.settle()
    this.#synced()
  }

  #synced() {
    for (const connection of [...this.#held]) {
      if (connection.waitsFor > this.#wal.synced) continue
      this.#held.delete(connection)
      connection.release()
    }
    this.#wal.start()
    this.#pump()
  }

  #keepsTurn(unit) {
    return unit.end === CLIENT.FLUSH || this.#skipping || this.#backend.inTransaction
  }

  // The project's own clients leave nothing and look for nothing; among them this costs nothing.
  #sweep(connection) {
    const last = this.#last
    this.#last = connection
    this.#changed = performance.now()
    if (last === null || (last.trusted && connection.trusted)) return
    this.statements.owner = null
    this.#backend.demand([query(LEFTOVERS)])
  }

  // The session gets the client's settings; false if they are invalid, and the client is gone.
  #giveSettings(connection, unit) {
    const first = unit.end === 'welcome'
    if (!first && !this.#settings.differ(connection.settings)) return true
    try {
      this.statements.owner = null
      this.#settings.apply(connection.settings)
      return true
    } catch (error) {
      if (!(error instanceof BackendError)) throw error
      connection.leave(fatal(error.fields.C, error.fields.M))
      return false
    }
  }

  #begin(connection) {
    this.#backend.demand([connection.begun])
    connection.begun = null
    this.statements.owner = null
  }

  #runUnit(connection, unit) {
    if (unit.end === 'welcome') return this.#welcome(connection)
    if (unit.end === CLIENT.TERMINATE) return connection.leave()
    if (unit.end === CLIENT.FUNCTION_CALL) return this.#refuseFunctionCall(connection, unit)
    unit.translated ??= connection.names.translate(unit)
    const answer = new Answer(connection.send, unit.translated.hidden)
    const done = this.#guarded(connection, () => this.#execute(connection, unit, answer))
    this.#skipping = answer.failed ? !answer.ready : this.#skipping && !answer.ready
    if (done) this.#finish(connection, unit, answer)
    return undefined
  }

  #guarded(connection, work) {
    const { guard } = this.#backend
    guard.begin(connection)
    try {
      return work()
    } finally {
      guard.end()
    }
  }

  // False if the unit is a COPY whose data must come first.
  #execute(connection, unit, answer) {
    const { parts } = unit.translated
    if (unit.copied !== null) runCopy(this.#backend, unit.copied, answer)
    else if (!unit.copyIn) this.#backend.run(parts, answer.take, refuseData)
    else if (tryCopy(this.#backend, parts, answer)) {
      connection.beginCopy(unit)
      return false
    }
    return true
  }

  #welcome(connection) {
    const own = this.#settings.read([])
    connection.settings = own
    const told = [...this.parameters].map(([name, value]) => [name, own.values.get(name) ?? value])
    connection.welcome(told)
  }

  #refuseFunctionCall(connection, unit) {
    if (unit.parts[0][0] !== CLIENT.FUNCTION_CALL) return connection.leave(fatal('08P01', 'a function call within an extended query'))
    if (this.#skipping) return undefined
    const status = this.#backend.inTransaction ? 'T' : 'I'
    connection.send(errorResponse('ERROR', '0A000', 'function calls by protocol are not supported'))
    connection.send(readyForQuery(status))
    return undefined
  }

  // What the unit's special statements mean for this client, and who gets the notifications.
  #finish(connection, unit, answer) {
    for (const notification of answer.notifications) this.#notify(connection, notification)
    const { effects } = unit.translated
    const names = this.#backend.guard.takeChanges()
    if (names !== null) connection.pending.push({ kind: 'settings', names: [...names] })
    if (effects.length === 0 && connection.pending.length === 0) return
    this.#forgetNames(connection, effects, answer)
    connection.pending.push(...effects.filter((effect) => effect.kind.endsWith('listen')))
    if (this.#backend.inTransaction) return
    const pending = connection.pending.splice(0)
    this.#readSettings(connection, pending)
    if (effects.some((effect) => effect.kind === 'discard')) connection.settings = new Settings() // the role, too
    if (answer.ends.has('COMMIT') || !(answer.failed || answer.ends.has('ROLLBACK'))) this.#applyChannels(connection, pending)
  }

  // Prepared statements belong to no transaction: what closed them has worked, unless the unit failed.
  #forgetNames(connection, effects, answer) {
    if (answer.failed) return
    for (const effect of effects) {
      if (effect.kind === 'forget') connection.names.forget(effect.name)
      if (effect.kind === 'deallocate-all') this.#backend.collect([...connection.names.forgetAll(), SYNC])
    }
  }

  #readSettings(connection, effects) {
    const changed = effects.filter((effect) => effect.kind === 'settings')
    if (changed.length === 0) return
    this.statements.owner = null
    connection.settings = this.#settings.read([...connection.settings.values.keys(), ...changed.flatMap((effect) => effect.names)])
  }

  #applyChannels(connection, effects) {
    for (const { kind, channel } of effects) {
      if (kind === 'listen') this.#listen(connection, channel)
      if (kind !== 'unlisten') continue
      for (const left of channel === null ? [...connection.channels] : [channel]) this.#unlisten(connection, left)
    }
  }

  #listen(connection, channel) {
    connection.channels.add(channel)
    if (!this.#listeners.has(channel)) this.#listeners.set(channel, new Set())
    this.#listeners.get(channel).add(connection)
  }

  #unlisten(connection, channel) {
    connection.channels.delete(channel)
    const listeners = this.#listeners.get(channel)
    if (!listeners?.delete(connection) || listeners.size > 0) return
    this.#listeners.delete(channel)
    this.chore(() => this.#stopListening(channel))
  }

  #stopListening(channel) {
    if (this.#listeners.has(channel)) return
    this.statements.owner = null
    this.#backend.demand([statementOn('UNLISTEN', channel)])
  }

  #notify(sender, notification) {
    notification.writeInt32BE(sender.id, HEADER_BYTES) // whose it is, by the number that it was told at login
    const start = HEADER_BYTES + 4
    const channel = notification.latin1Slice(start, afterText(notification, start) - 1)
    for (const listener of this.#listeners.get(channel) ?? []) {
      if (this.#wal.isBehind) this.#hold(listener)
      listener.send(notification)
    }
  }

  // The turn of a client that left is ended as Postgres ends a lost connection: nothing of what was open is kept. After
  // a Flush there may be work that a Sync would commit; an error does away with it.
  #release() {
    try {
      this.#backend.collect([NO_PORTAL, SYNC])
      if (this.#backend.inTransaction) this.#backend.demand([query('ROLLBACK')])
      this.statements.owner = null
      this.#skipping = false
      this.#holder = null
    } catch (error) {
      this.log(`a turn could not be ended: ${error.stack}`)
      this.#restart() // whatever is left of it is gone then
    }
  }

  // One timer for all turns: it looks whether the holder of the turn has been still for too long.
  #startWatch(wait) {
    this.#watch = after(wait, (isLate) => {
      this.#watch = null
      if (this.#holder === null) return
      if (isLate) this.#lastLife = performance.now()
      const still = performance.now() - this.#lastLife
      if (still < this.limits.idleTransactionMs) return this.#startWatch(this.limits.idleTransactionMs - still)
      this.log(`connection ${this.#holder.id} closed: idle in a transaction for ${Math.round(still)} ms`)
      this.#holder.leave(fatal('25P03', 'terminating connection due to idle-in-transaction timeout'))
    })
    this.#watch.unref()
  }
}
