// One client: its bytes cut into units of work, its output, and what it has of its own in the shared session.
//
// A unit ends in Sync, Query or Flush and runs in one go (front.mjs). While a client has enough units waiting, or does
// not read what it asked for, nothing more is read from it.

import { randomInt } from 'node:crypto'

import { CopyIn } from './copy.mjs'
import { Login, LoginRefused } from './login.mjs'
import { Names } from './names.mjs'
import { CLIENT, HEADER_BYTES, SERVER, backendKey, fatal, isWellFormed, message, parameterStatus, readyForQuery, text } from './protocol.mjs'
import { inspect } from './sql.mjs'
import { Settings } from './settings.mjs'
import { Spool, SpoolFull } from './spool.mjs'
import { after } from './timers.mjs'

const MOST_LENGTH = 2 ** 31 // of a message: the protocol's own limit
const MOST_UNITS = 64
const MOST_WAITING_BYTES = 1 << 20
const MOST_OUTPUT_IN_MEMORY = 4 << 20
const CONGESTED_BYTES = 1 << 20
const GOODBYE_MS = 10_000 // for a peer that does not read its last message

const ENDS_UNIT = new Set([CLIENT.SYNC, CLIENT.QUERY, CLIENT.FLUSH, CLIENT.FUNCTION_CALL, CLIENT.TERMINATE])
const IN_UNIT = new Set([CLIENT.PARSE, CLIENT.BIND, CLIENT.DESCRIBE, CLIENT.EXECUTE, CLIENT.CLOSE])
const IN_COPY = new Set([CLIENT.COPY_DATA, CLIENT.COPY_DONE, CLIENT.COPY_FAIL])

const BEGIN =
  /^\s*(?:begin(?:\s+(?:work|transaction))?|start\s+transaction)(?:[\s,]+(?:isolation\s+level\s+(?:serializable|repeatable\s+read|read\s+(?:un)?committed)|read\s+(?:only|write)|(?:not\s+)?deferrable))*\s*;?\s*$/i
const MOST_BEGIN_BYTES = 200
const BEGUN = Buffer.concat([message(SERVER.COMMAND_COMPLETE, text('BEGIN')), readyForQuery('T')])

const NO_NAMES = { serverName: () => undefined, define: () => '' }
const newUnit = () => ({ parts: [], bytes: 0, end: null, copyIn: false, copied: null, translated: null })

export class Connection {
  units = []
  channels = new Set()
  pending = [] // effects of the open transaction, which count if it commits
  settings = new Settings()
  closed = false
  begun = null // a BEGIN that was answered, and runs with the next unit
  trusted = false // one of the project's own, which leave nothing in the session
  copy = null // the COPY … FROM STDIN whose data are coming
  waitsFor = 0 // how far the log must be on the disk before what is held is sent (wal.mjs)
  #socket
  #front
  #login
  #loginTimer
  #received = 0
  #unit = newUnit()
  #unitsBytes = 0
  #chunks = []
  #held = 0
  #needed = 0
  #unread = 0 // bytes of a message that was refused, which the client still sends
  #heldBack = false // a COPY … FROM STDIN is queued: what follows it depends on its answer
  #spool = null
  #answers = null // what is kept back, or null
  #answersBytes = 0
  #farewell = null // what ends the connection once that is sent

  constructor(socket, id, front) {
    this.id = id
    this.#socket = socket
    this.#front = front
    this.#login = new Login(front.verifier)
    this.names = new Names(id, front.statements)
    this.#watchLogin()
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#safely(() => this.#receive(chunk)))
    socket.on('drain', () => this.#safely(() => this.#drained()))
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => this.#close())
  }

  #watchLogin() {
    this.#loginTimer = after(this.#front.limits.loginMs, (isLate) => {
      if (isLate) this.#watchLogin()
      else this.leave(fatal('08006', 'login took too long'))
    })
  }

  // What goes wrong with a client's bytes ends that client. (What goes wrong in its turn: front.mjs.)
  #safely(work) {
    try {
      work()
    } catch (error) {
      this.#front.log(`connection ${this.id}: ${error.stack ?? error}`)
      this.leave(fatal('XX000', 'the front of the embedded database failed at these bytes', 'This is a bug: its log, .dbos/logs/pglite.log, says where.'))
    }
  }

  /** Whether a unit can run now: there is one, and its answer would not pile up. */
  get runnable() {
    return !this.closed && this.units.length > 0 && !this.congested
  }

  /** Whether the peer does not read what it was sent. */
  get congested() {
    return this.#spool !== null || this.#unsent > CONGESTED_BYTES
  }

  /** What the names of its statements begin with in the backend. */
  get prefix() {
    return this.names.prefix
  }

  get loggedIn() {
    return this.#login === null
  }

  /** Take the next unit; what waited behind it is read on, once it has run. */
  shift() {
    const unit = this.units.shift()
    this.#unitsBytes -= unit.bytes
    return unit
  }

  /** Go on reading, after a unit has run. */
  proceed() {
    this.#heldBack = false
    this.#cut()
  }

  /** Send bytes, which are valid during this call only. Those that the peer does not take go to a file. */
  send = (bytes) => {
    if (this.closed || bytes.length === 0) return
    this.#safely(() => this.#send(bytes))
  }

  #send(bytes) {
    if (this.#spool === null && this.#unsent + bytes.length > MOST_OUTPUT_IN_MEMORY) {
      this.#spool = this.#front.newSpool()
      setImmediate(() => this.#socket.writableNeedDrain || this.#safely(() => this.#drained())) // no 'drain' comes if nothing was written
    }
    if (this.#spool !== null) this.#keep(bytes)
    else if (this.#answers === null) this.#socket.write(Buffer.from(bytes))
    else {
      this.#answers.push(Buffer.from(bytes))
      this.#answersBytes += bytes.length
    }
  }

  get #unsent() {
    return this.#socket.writableLength + this.#answersBytes
  }

  /** Keep back what is sent from now on. */
  hold() {
    this.#answers ??= []
  }

  /** Send what was kept back, in as few packets as can be. */
  release() {
    const answers = this.#answers ?? []
    this.#answers = null
    this.#answersBytes = 0
    this.#socket.cork()
    for (const bytes of answers) this.#socket.write(bytes)
    this.#socket.uncork()
    this.#farewell?.()
    if (!this.#socket.writableNeedDrain) this.#safely(() => this.#drained())
  }

  /** Tell the client that it is in: the session's parameters, some of them its own, and that it may begin. */
  welcome(parameters) {
    const hello = [...parameters].map(([name, value]) => parameterStatus(name, value))
    this.send(Buffer.concat([...hello, backendKey(this.id, randomInt(2 ** 31)), readyForQuery('I')]))
  }

  /**
   * Say goodbye and close, once the client has sent the `unread` bytes: one that is still sending does not read why it is refused.
   * Later bytes are read and dropped: unread bytes would reset the connection, and the goodbye would be lost.
   */
  leave(goodbye, unread = 0) {
    if (this.closed) return
    this.#unread = unread
    if (this.#spool !== null) this.#socket.destroy()
    else if (this.#answers === null) this.#sayGoodbye(goodbye)
    else this.#farewell = () => this.#sayGoodbye(goodbye)
    setTimeout(() => this.#socket.destroy(), GOODBYE_MS).unref()
    this.#close()
  }

  #sayGoodbye(goodbye) {
    this.#farewell = null
    if (this.#unread > 0) this.#socket.resume().write(goodbye)
    else this.#socket.end(goodbye).resume()
  }

  #close() {
    if (this.closed) return
    this.closed = true
    clearTimeout(this.#loginTimer)
    this.#spool?.close()
    this.copy?.close()
    this.units = []
    this.#chunks = []
    this.#front.forget(this)
  }

  #receive(chunk) {
    if (this.closed) return this.#drop(chunk.length)
    this.#received += chunk.length
    this.#chunks.push(chunk)
    this.#held += chunk.length
    this.#front.sawLife(this)
    if (!this.loggedIn && this.#received > this.#front.limits.loginBytes) this.leave(fatal('08P01', 'login too long'))
    else this.#cut()
    return undefined
  }

  #drop(bytes) {
    if (this.#unread <= 0) return
    this.#unread -= bytes
    if (this.#unread <= 0 && this.#farewell === null) this.#socket.end()
  }

  get #mayCut() {
    if (this.closed || this.#heldBack) return false
    return this.units.length < MOST_UNITS && this.#unitsBytes < MOST_WAITING_BYTES
  }

  // Take the whole messages that are there. Chunks are joined only when they complete one, so that a
  // message of many megabytes is copied once. Units are offered when all is cut: running one leads back to here.
  #cut() {
    if (this.#mayCut && this.#held >= this.#needed && this.#held > 0) this.#cutMessages(this.#joined())
    if (this.runnable) this.#front.offer(this)
    if (this.closed) return
    if (this.#mayCut) this.#socket.resume()
    else this.#socket.pause()
  }

  #joined() {
    return this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks)
  }

  #cutMessages(bytes) {
    let at = 0
    this.#needed = 0
    while (this.#mayCut) {
      const length = this.#lengthAt(bytes, at)
      if (length < 0 || at + length > bytes.length) {
        this.#needed = Math.max(length, 0)
        break
      }
      this.#take(bytes.subarray(at, at + length))
      at += length
    }
    this.#held = bytes.length - at
    this.#chunks = this.#held > 0 && !this.closed ? [bytes.subarray(at)] : []
  }

  // The length of the message that begins there, or -1 if that cannot be said yet.
  #lengthAt(bytes, at) {
    const header = this.loggedIn ? HEADER_BYTES : this.#login.headerBytes
    if (bytes.length - at < header) return -1
    const length = this.loggedIn ? 1 + bytes.readUInt32BE(at + 1) : this.#login.lengthAt(bytes, at)
    const most = this.loggedIn ? this.#front.limits.messageBytes : this.#front.limits.loginBytes
    if (length < header || length > MOST_LENGTH) this.leave(fatal('08P01', 'invalid message length'))
    else if (length > most) this.leave(fatal('54000', `a message of more than ${most} bytes`), this.loggedIn ? length - (bytes.length - at) : 0)
    return this.closed ? -1 : length
  }

  #take(bytes) {
    if (!this.loggedIn) return this.#takeLogin(bytes)
    if (!isWellFormed(bytes)) return this.leave(fatal('08P01', 'malformed message'))
    const kind = bytes[0]
    if (IN_COPY.has(kind)) return this.#takeCopy(kind, bytes)
    if (!ENDS_UNIT.has(kind) && !IN_UNIT.has(kind)) return this.leave(fatal('08P01', 'unknown message'))
    if (this.copy === null) return this.#takeInUnit(kind, bytes)
    if (kind === CLIENT.TERMINATE) return this.leave()
    if (kind === CLIENT.SYNC && this.copy.ended) this.#queueCopy() // COPY ignores what does not belong to it
    return undefined
  }

  #takeInUnit(kind, bytes) {
    addPart(this.#unit.parts, bytes)
    this.#unit.bytes += bytes.length
    if (this.#unit.bytes > this.#front.limits.messageBytes) return this.leave(fatal('54000', 'too much without a Sync'))
    if (kind === CLIENT.PARSE || kind === CLIENT.QUERY) this.#unit.copyIn ||= isCopyIn(kind, bytes)
    if (ENDS_UNIT.has(kind)) this.#queue(kind)
    return undefined
  }

  #queue(kind) {
    const unit = this.#unit
    this.#unit = newUnit()
    unit.end = kind
    if (this.#beginsLazily(unit)) return
    this.#heldBack = unit.copyIn
    this.#unitsBytes += unit.bytes
    this.units.push(unit)
  }

  // A BEGIN alone is answered without a turn: nothing is to be isolated before the first statement. Others are not kept
  // waiting while the client thinks about it; among many threads of one Python that is a third of a transaction's time.
  #beginsLazily(unit) {
    if (this.units.length > 0 || this.begun !== null || unit.end !== CLIENT.QUERY) return false
    if (unit.bytes > MOST_BEGIN_BYTES || unit.parts[0][0] !== CLIENT.QUERY || this.#front.hasTurn(this)) return false
    if (!BEGIN.test(unit.parts[0].latin1Slice(HEADER_BYTES, unit.bytes - 1))) return false
    this.begun = Buffer.from(unit.parts[0])
    this.names.dropUnnamed()
    this.send(BEGUN)
    return true
  }

  // Outside of a COPY such messages are ignored, as Postgres does: the rest of one that failed.
  #takeCopy(kind, bytes) {
    if (this.copy === null) return
    if (kind === CLIENT.COPY_DATA) this.copy.append(bytes)
    else if (this.copy.end(bytes)) this.#queueCopy()
  }

  #queueCopy() {
    this.units.push(this.copy.unit)
    this.copy = null
    this.#heldBack = true
  }

  /** The backend has asked for the data of this unit's COPY: collect them. */
  beginCopy(unit) {
    this.copy = new CopyIn(unit, this.#front.newSpool())
  }

  #takeLogin(bytes) {
    try {
      const { reply, settings, trusted } = this.#login.take(bytes)
      this.trusted = trusted
      this.send(reply)
      if (settings !== null) this.#enter(settings)
    } catch (error) {
      if (!(error instanceof LoginRefused)) throw error
      this.leave(error.code === null ? undefined : fatal(error.code, error.message, error.hint))
    }
  }

  #enter(values) {
    clearTimeout(this.#loginTimer)
    this.#login = null
    if (!this.#front.admit(this)) return this.leave(fatal('53300', 'too many connections'))
    this.settings = new Settings(values)
    if (values.size === 0) return this.welcome(this.#front.parameters)
    this.units.push({ ...newUnit(), end: 'welcome' }) // its settings must be tried, in a turn
    return undefined
  }

  #keep(bytes) {
    try {
      this.#spool.append(bytes)
    } catch (error) {
      if (!(error instanceof SpoolFull)) throw error
      this.#front.log(`connection ${this.id} closed, it does not read its results: ${error.message}`)
      this.leave()
    }
  }

  #drained() {
    if (this.closed || this.#answers !== null) return
    while (this.#spool?.waiting > 0) if (!this.#socket.write(this.#spool.take())) return
    this.#spool?.close()
    this.#spool = null
    if (this.units.length > 0) this.#front.offer(this)
  }
}

// Neighbours in one read become one part again.
function addPart(parts, bytes) {
  const last = parts.at(-1)
  if (last?.buffer === bytes.buffer && last.byteOffset + last.length === bytes.byteOffset) {
    parts[parts.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + bytes.length)
  } else {
    parts.push(bytes)
  }
}

function isCopyIn(kind, bytes) {
  const at = kind === CLIENT.QUERY ? HEADER_BYTES : bytes.indexOf(0, HEADER_BYTES) + 1
  const end = bytes.indexOf(0, at)
  const head = bytes.latin1Slice(at, Math.min(end, at + 200))
  if (!/^\s*(?:copy\b|--|\/\*)/i.test(head)) return false
  return inspect(bytes.latin1Slice(at, end), NO_NAMES)?.copyIn ?? false
}
