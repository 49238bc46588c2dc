// The prepared statements of one client, under names of their own in the shared session.
//
// A named statement gets a name made of the client's number. The unnamed one exists only once in the session, so
// each client's last Parse of it is kept, and sent again when another client's has replaced it meanwhile.
// Portals need nothing: they live in a transaction only, and a transaction keeps the turn.

import { CLIENT, HEADER_BYTES, SERVER, afterText, closeStatement, message, messagesIn, text } from './protocol.mjs'
import { inspect } from './sql.mjs'

const STATEMENT = 'S'.charCodeAt(0)
const latin1 = (source) => Buffer.from(`${source}\0`, 'latin1')

/** What the session holds: whose unnamed statement, and how often the session was lost with all its statements. */
export class SessionStatements {
  owner = null
  losses = 0

  lose() {
    this.owner = null
    this.losses += 1
  }
}

export class Names {
  #prefix
  #session
  #named = new Map() // client's name -> {server, effects, parse, losses}
  #unnamed = null // {parse, effects}
  #count = 0

  constructor(id, session) {
    this.#prefix = `c${id}_`
    this.#session = session
  }

  /**
   * Translate the messages of a unit into the session's names. Gives the `parts` to run, the special `effects` of its SQL
   * (sql.mjs), and what is to be `hidden` of the answer, since the client did not send the message for it.
   * Throws RangeError for a malformed message.
   */
  translate(unit) {
    const work = { parts: [], effects: [], hidden: [] }
    for (const part of unit.parts) this.#translatePart(part, work)
    return work
  }

  /** What the names of this client's statements begin with in the backend. */
  get prefix() {
    return this.#prefix
  }

  /** The backend's name of a named statement of this client. */
  serverName(name) {
    return this.#named.get(name)?.server
  }

  /** The backend's name for a statement that SQL's PREPARE is about to make. */
  define(name) {
    const server = this.#newName(name)
    this.#named.set(name, { server, effects: [], parse: null, losses: this.#session.losses })
    return server
  }

  #newName(name) {
    return this.serverName(name) ?? this.#prefix + ++this.#count
  }

  forget(name) {
    if (name === '') this.#unnamed = null
    else this.#named.delete(name)
  }

  #isThere = (record) => record.losses === this.#session.losses

  /** Forget all, and give the messages that close them in the backend. */
  forgetAll() {
    const closing = [...this.#named.values()].filter(this.#isThere).map((record) => closeStatement(record.server))
    this.#named.clear()
    this.#unnamed = null
    if (this.#session.owner === this) this.#session.owner = null
    return closing
  }

  #translatePart(part, work) {
    let copied = 0
    for (const [kind, start, end] of messagesIn(part)) {
      const changed = this.#translateMessage(kind, part.subarray(start, end), work)
      if (changed === null) continue
      if (start > copied) work.parts.push(part.subarray(copied, start))
      work.parts.push(...changed)
      copied = end
    }
    if (copied < part.length) work.parts.push(copied === 0 ? part : part.subarray(copied))
  }

  // The messages to send instead of this one, or null: as it is.
  #translateMessage(kind, bytes, work) {
    if (kind === CLIENT.QUERY) return this.#query(bytes, work)
    if (kind === CLIENT.PARSE) return this.#parse(bytes, work)
    if (kind === CLIENT.BIND) return this.#bind(bytes, work)
    if (kind === CLIENT.DESCRIBE) return this.#describe(bytes, work)
    if (kind === CLIENT.CLOSE) return this.#close(bytes, work)
    return null
  }

  /** A simple query does away with the unnamed statement. */
  dropUnnamed() {
    this.#unnamed = null
    this.#session.owner = null
  }

  #query(bytes, work) {
    this.dropUnnamed()
    const special = inspect(bytes.latin1Slice(HEADER_BYTES, bytes.length - 1), this)
    if (special === null) return null
    work.effects.push(...special.effects)
    return [message(CLIENT.QUERY, latin1(special.source))]
  }

  #parse(bytes, work) {
    const afterName = afterText(bytes, HEADER_BYTES)
    const afterSql = afterText(bytes, afterName)
    const name = bytes.latin1Slice(HEADER_BYTES, afterName - 1)
    const sql = bytes.latin1Slice(afterName, afterSql - 1)
    const special = inspect(sql, this)
    const effects = special?.effects ?? []
    if (name === '' && special === null) {
      this.#keepUnnamed(bytes, effects)
      return null
    }
    const server = name === '' ? '' : this.#newName(name)
    const fields = [text(server), latin1(special?.source ?? sql), bytes.subarray(afterSql)]
    const changed = message(CLIENT.PARSE, ...fields)
    if (name === '') this.#keepUnnamed(changed, effects)
    else this.#named.set(name, { server, effects, parse: changed, losses: this.#session.losses })
    return [changed]
  }

  #bind(bytes, work) {
    const afterPortal = afterText(bytes, HEADER_BYTES)
    const afterName = afterText(bytes, afterPortal)
    const name = bytes.latin1Slice(afterPortal, afterName - 1)
    if (name === '') return this.#useUnnamed(bytes, work)
    const record = this.#named.get(name)
    if (record === undefined) return null // one of SQL's PREPARE, or none
    work.effects.push(...record.effects)
    const portal = bytes.subarray(HEADER_BYTES, afterPortal)
    return this.#withParse(record, message(CLIENT.BIND, portal, text(record.server), bytes.subarray(afterName)), work)
  }

  #describe(bytes, work) {
    if (bytes[HEADER_BYTES] !== STATEMENT) return null
    const name = bytes.latin1Slice(HEADER_BYTES + 1, bytes.length - 1)
    return name === '' ? this.#restoreUnnamed(bytes, work) : this.#renamed(CLIENT.DESCRIBE, name, work)
  }

  #close(bytes, work) {
    if (bytes[HEADER_BYTES] !== STATEMENT) return null
    const name = bytes.latin1Slice(HEADER_BYTES + 1, bytes.length - 1)
    work.effects.push({ kind: 'forget', name })
    return this.#renamed(CLIENT.CLOSE, name, work)
  }

  #renamed(kind, name, work) {
    const record = this.#named.get(name)
    return record ? this.#withParse(record, message(kind, Buffer.of(STATEMENT), text(record.server)), work) : null
  }

  // A session that was started again has no statements: the client's is made once more before it is used.
  #withParse(record, used, work) {
    if (this.#isThere(record) || record.parse === null) return [used]
    record.losses = this.#session.losses
    work.hidden.push(SERVER.PARSE_COMPLETE)
    return [record.parse, used]
  }

  #keepUnnamed(parse, effects) {
    this.#unnamed = { parse: Buffer.from(parse), effects } // a copy: `parse` is a view of a whole read
    this.#session.owner = this
  }

  #useUnnamed(bytes, work) {
    if (this.#unnamed) work.effects.push(...this.#unnamed.effects)
    return this.#restoreUnnamed(bytes, work)
  }

  #restoreUnnamed(bytes, work) {
    if (this.#session.owner === this) return null
    if (this.#unnamed === null) return this.#clearUnnamed(bytes, work)
    this.#session.owner = this
    work.hidden.push(SERVER.PARSE_COMPLETE)
    return [this.#unnamed.parse, bytes]
  }

  // The client has none: what another client left must not be taken for it.
  #clearUnnamed(bytes, work) {
    this.#session.owner = null
    work.hidden.push(SERVER.CLOSE_COMPLETE)
    return [closeStatement(''), bytes]
  }
}
