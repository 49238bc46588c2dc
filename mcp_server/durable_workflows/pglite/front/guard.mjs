// What a client may not do on a session that all share: refused inside of Postgres, wherever it is written.
//
// A statement may stand in a text, in a DO block or in a function; a function call may stand anywhere. So nothing is looked for in SQL:
// each utility statement passes Postgres' own hook on its way to be carried out, and some of the built-in functions have a wrapper
// here. What is refused is an ordinary error of that statement. SELECT, INSERT, UPDATE and DELETE do not come by here.
//
// The numbers of nodes and the places of their fields are those of PostgreSQL 18.7 in @electric-sql/pglite 0.5.17, whose version is
// exact in package.json. tests/database/test_front_sharing.py tries every rule.

import { WITHOUT_EFFECT } from './sql.mjs'

const ERROR = 21 // the level, in elog.h
const NOT_SUPPORTED = '0A000'
const TOO_DEEP = '54001'

const UTILITY = 22 // the field of a PlannedStmt that holds the statement
const NODE = Object.freeze({
  COPY: 157,
  SET: 158,
  CREATE_TABLE: 160,
  CREATE_TABLESPACE: 162,
  ALTER_ROLE_SET: 187,
  CREATE_SEQUENCE: 189,
  DECLARE_CURSOR: 201,
  LISTEN: 223,
  UNLISTEN: 224,
  CREATE_VIEW: 230,
  LOAD: 231,
  CREATE_DATABASE: 232,
  ALTER_DATABASE_SET: 235,
  ALTER_SYSTEM: 237,
  CREATE_TABLE_AS: 242,
  PREPARE: 252,
  DEALLOCATE: 254,
})
const BACKEND = 4 // the context and the source of a setting (guc.h)
const OVERRIDE = 10
const TOP_LEVEL = 0 // a statement's context: it stands in no function
const ON_COMMIT_DROP = 3
const HOLD = 0x20 // a cursor's option
const SET_VALUE = 0
const SET_MULTI = 3 // SET TRANSACTION and its like
const IS_UTF8 = /^\s*(?:utf-?8|unicode)\s*$/i
const DEEPEST_JSON = 10_000 // Postgres' parser takes so little of the stack that it measures that its own limit comes too late

const SHARED = 'All clients of the embedded database share one session, in which it would stay.'
const EXTERNAL = 'Set DBOS_DATABASE_URL to a Postgres of your own for that.'

/** What a program that runs DBOS by itself is told: the problem, and what to do. */
export const STOCK_DBOS = [
  'a program that launches DBOS itself cannot use the embedded database: it keeps a transaction open, and everybody else would wait',
  "Put the workflow in the project's workflow folder, where the project's worker runs it, or set DBOS_DATABASE_URL to a Postgres of your own.",
]

export class Guard {
  /** The client whose turn it is: {trusted, prefix}; null for statements of the front itself, which may do everything. */
  client = null
  /** What its turn has changed of the session's settings: null, or the names of custom ones, which pg_settings does not list. */
  changed = null
  #mod
  #texts = new Map() // for C
  #wantsJobLock = false
  #isNew = true

  constructor(mod, exports) {
    this.#mod = mod
    this.#hook(exports.ProcessUtility_hook.value)
    this.#wrap(exports.__indirect_function_table)
  }

  /** Begin a client's turn. */
  begin(client) {
    this.client = client
    this.#wantsJobLock = false
  }

  /** What runs from now on is the front's own. */
  end() {
    this.client = null
  }

  /** The custom settings that were changed since the last time, or null if no setting was. */
  takeChanges() {
    const changed = this.changed
    this.changed = null
    return changed
  }

  #hook(at) {
    const carryOut = this.#mod._standard_ProcessUtility
    const hook = this.#mod.addFunction((planned, source, isReadOnly, context, ...rest) => {
      if (this.#isNew) this.#giveDefaultUser()
      if (this.client !== null) this.#look(this.#word(planned, UTILITY), context)
      carryOut(planned, source, isReadOnly, context, ...rest)
    }, 'viiiiiiii')
    this.#mod.setValue(at, hook, 'i32')
  }

  // A Postgres server does this as a client connects; without it RESET SESSION AUTHORIZATION does nothing.
  #giveDefaultUser() {
    this.#isNew = false
    this.#mod._SetConfigOption(this.#forC('session_authorization'), this.#forC('postgres'), BACKEND, OVERRIDE)
  }

  #look(node, context) {
    const rule = this.#rules.get(this.#word(node, 0))
    if (rule !== undefined) rule(node, context)
  }

  #rules = new Map([
    [NODE.SET, (node) => this.#set(node)],
    [NODE.CREATE_TABLE, (node) => this.#create(this.#word(node, 1), this.#word(node, 10))],
    [NODE.CREATE_TABLE_AS, (node) => this.#create(this.#word(this.#word(node, 2), 1), this.#word(this.#word(node, 2), 5))],
    [NODE.CREATE_VIEW, (node) => this.#create(this.#word(node, 1))],
    [NODE.CREATE_SEQUENCE, (node) => this.#create(this.#word(node, 1))],
    [NODE.PREPARE, (node) => this.#nameStatement(this.#word(node, 1))],
    [NODE.DEALLOCATE, (node) => this.#nameStatement(this.#word(node, 1))],
    [NODE.DECLARE_CURSOR, (node) => this.#word(node, 2) & HOLD && this.#refuse('cursors WITH HOLD are not supported', `${SHARED} Read the cursor within its transaction.`)],
    [NODE.LISTEN, (node, context) => context !== TOP_LEVEL && this.#refuse('LISTEN within a function is not supported', SHARED)],
    [NODE.UNLISTEN, (node, context) => context !== TOP_LEVEL && this.#refuse('UNLISTEN within a function is not supported', SHARED)],
    [NODE.COPY, (node) => this.#word(node, 5) !== 0 && this.#refuse('COPY with a file or PROGRAM of the server is not supported', 'Use COPY FROM STDIN and COPY TO STDOUT.')],
    [NODE.CREATE_DATABASE, () => this.#refuse('the embedded database is the only one there is', EXTERNAL)],
    [NODE.CREATE_TABLESPACE, () => this.#refuse('tablespaces are not supported', EXTERNAL)],
    [NODE.LOAD, () => this.#refuse('LOAD is not supported', EXTERNAL)],
    [NODE.ALTER_SYSTEM, () => this.#refuse('ALTER SYSTEM is not supported', 'The settings of the embedded database are those that it needs.')],
    [NODE.ALTER_ROLE_SET, () => this.#refuse('settings of roles are not supported', SHARED)],
    [NODE.ALTER_DATABASE_SET, () => this.#refuse('settings of databases are not supported', SHARED)],
  ])

  #set(node) {
    const kind = this.#word(node, 1)
    const name = this.#text(this.#word(node, 2))
    if (this.#byte(node, 17) || (kind === SET_MULTI && name === 'TRANSACTION')) return // ends with the transaction
    this.#note(name, kind === SET_VALUE ? this.#firstValue(this.#word(node, 3)) : '')
  }

  // A setting is about to be changed. A list's first element is a constant: its text, if it is one.
  #note(given, value) {
    const name = given.toLowerCase()
    if (name === 'client_encoding' && value) this.#checkEncoding(value)
    if (WITHOUT_EFFECT.has(name)) return
    this.changed ??= new Set()
    if (name.includes('.')) this.changed.add(name)
  }

  #firstValue(list) {
    return list === 0 ? '' : this.#text(this.#word(this.#word(this.#word(list, 3), 0), 2))
  }

  #checkEncoding(name) {
    if (IS_UTF8.test(name)) return
    this.#refuse('an encoding other than UTF-8 is not supported', 'The embedded database has no conversions; Python converts bytes and text.')
  }

  #create(range, onCommit) {
    const isTemporary = this.#byte(range, 17) === 't'.charCodeAt(0) || /^pg_temp/.test(this.#text(this.#word(range, 2)))
    if (!isTemporary || onCommit === ON_COMMIT_DROP) return
    this.#refuse('temporary tables must have ON COMMIT DROP', `${SHARED} Views and sequences cannot be temporary.`)
  }

  // sql.mjs has given it a name of this client's own, unless it stands in a function.
  #nameStatement(name) {
    if (this.#text(name).startsWith(this.client.prefix)) return
    this.#refuse('PREPARE and DEALLOCATE within a function are not supported', SHARED)
  }

  #wrap(table) {
    const functions = builtInFunctions(this.#mod)
    const wrap = (name, before) => {
      const at = functions.get(name)
      if (at === undefined) throw new Error(`this PGlite has no function ${name}`)
      const original = table.get(this.#mod.getValue(at, 'i32'))
      const wrapper = (call) => {
        if (this.client !== null) before(call)
        return original(call)
      }
      this.#mod.setValue(at, this.#mod.addFunction(wrapper, 'ii'), 'i32')
    }
    wrap('set_config_by_name', (call) => this.#setConfig(call))
    wrap('pg_try_advisory_xact_lock_int8', () => this.#wantsJobLock && this.#refuse(...STOCK_DBOS))
    for (const name of SESSION_LOCKS) wrap(name, () => this.#lock())
    for (const [name, ...encodings] of CONVERSIONS) {
      wrap(name, (call) => encodings.forEach((index) => this.#checkEncoding(this.#text(this.#argument(call, index)))))
    }
    for (const name of FORBIDDEN) wrap(name, () => this.#refuse(`${name} is not supported`, EXTERNAL))
    for (const name of ['json_in', 'jsonb_in']) wrap(name, (call) => this.#checkDepth(this.#argument(call, 0)))
  }

  #setConfig(call) {
    const [name, value] = [0, 1].map((index) => (this.#isNull(call, index) ? '' : this.#text(this.#mod._text_to_cstring(this.#argument(call, index)))))
    const isLocal = this.#argument(call, 2) !== 0
    if (!isLocal) this.#note(name, value)
    // So begins the lock of DBOS's background jobs (PostgresSystemDatabase.background_job_lock).
    else if (name === 'idle_in_transaction_session_timeout') this.#wantsJobLock = true
  }

  #lock() {
    if (this.client.trusted) return // DBOS's migration, which the project's own lock keeps apart
    this.#refuse('advisory locks of the session are not supported', 'All clients of the embedded database share one session, so such a lock excludes no other client. Use pg_advisory_xact_lock.')
  }

  #checkDepth(start) {
    const bytes = this.#mod.HEAPU8
    let depth = 0
    let quoted = false
    for (let at = start; bytes[at] !== 0; at++) {
      const byte = bytes[at]
      if (byte === 0x5c) at += bytes[at + 1] === 0 ? 0 : 1
      else if (byte === 0x22) quoted = !quoted
      else if (quoted) continue
      else if (byte === 0x5b || byte === 0x7b) depth += 1
      else if (byte === 0x5d || byte === 0x7d) depth -= 1
      if (depth > DEEPEST_JSON) this.#refuse(`JSON is nested more than ${DEEPEST_JSON} deep`, 'The embedded database cannot read it.', TOO_DEEP)
    }
  }

  // Of a FunctionCallInfo: pairs of a value and whether it is null.
  #argument = (call, index) => this.#word(call, 5 + 2 * index)
  #isNull = (call, index) => this.#byte(call, 24 + 8 * index) !== 0

  #word = (at, index) => this.#mod.getValue(at + 4 * index, 'i32')
  #byte = (at, index) => this.#mod.getValue(at + index, 'i8')
  #text = (at) => (at === 0 ? '' : this.#mod.UTF8ToString(at))

  /** End the statement by an error. Does not return: Postgres jumps out of it. */
  #refuse(problem, hint, code = NOT_SUPPORTED) {
    this.#mod._errstart(ERROR, 0)
    this.#mod._errcode(sqlState(code))
    this.#mod._errmsg(this.#forC(problem), 0)
    this.#mod._errhint(this.#forC(hint), 0)
    this.#mod._errfinish(0, 0, 0)
  }

  #forC(text) {
    if (!this.#texts.has(text)) this.#texts.set(text, this.#mod.stringToNewUTF8(text.replaceAll('%', '%%')))
    return this.#texts.get(text)
  }
}

const SESSION_LOCKS = ['lock', 'lock_shared'].flatMap((lock) =>
  ['int8', 'int4'].flatMap((type) => [`pg_advisory_${lock}_${type}`, `pg_try_advisory_${lock}_${type}`]),
)

const CONVERSIONS = [['pg_convert', 1, 2], ['pg_convert_from', 1], ['pg_convert_to', 1]] // and their arguments that are encodings
// They write files, or keep WAL or a state of the session for ever.
const FORBIDDEN = ['be_lo_export', 'pg_backup_start', 'pg_create_logical_replication_slot', 'pg_create_physical_replication_slot']

// As C's MAKE_SQLSTATE.
const sqlState = (code) => [...code].reduce((state, letter, index) => state + (((letter.charCodeAt(0) - 48) & 0x3f) << (6 * index)), 0)

const ENTRY = 16 // of fmgr_builtins: number, how many arguments, name, function
const SEARCHED = 8 << 20 // bytes; the module's constants are at the beginning

/** Where Postgres' table of built-in functions has the function of each name. */
function builtInFunctions(mod) {
  const memory = Buffer.from(mod.HEAPU8.buffer, 0, Math.min(SEARCHED, mod.HEAPU8.length))
  const name = memory.indexOf('\0set_config_by_name\0') + 1
  const word = Buffer.alloc(4)
  word.writeInt32LE(name)
  const found = new Map()
  const middle = memory.indexOf(word) - 8
  const collect = (start, step) => {
    for (let at = start; isEntry(memory, at); at += step) found.set(mod.UTF8ToString(memory.readInt32LE(at + 8)), at + 12)
  }
  collect(middle, ENTRY)
  collect(middle - ENTRY, -ENTRY)
  return found
}

const isEntry = (memory, at) => {
  const [number, name] = [memory.readInt32LE(at), memory.readInt32LE(at + 8)]
  return number > 0 && number < 16_384 && name > 0 && name < memory.length
}
