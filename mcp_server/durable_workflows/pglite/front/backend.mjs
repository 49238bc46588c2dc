// The one Postgres session: PGlite in this process, driven through its module and not through its JavaScript API.
//
// PGlite's own execProtocolRaw swallows every exception, also those after which the session is dead, and would
// spin for ever. Here only the exception that stands for Postgres' error longjmp is handled; any other one ends the session
// (BackendDied). It must then be started again: a new module recovers from the WAL, as Postgres does after a crash, and what was
// committed is there.
// The names that begin with _ are the C functions of @electric-sql/pglite 0.5.17; its version is exact in package.json.

import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

import { Guard } from './guard.mjs'
import { HEADER_BYTES, SERVER, firstError, errorFields, messagesIn, query } from './protocol.mjs'
import { Wal, isLog } from './wal.mjs'

const LOCK_FILE = 'postmaster.pid'
const LONGJMP = 100 // the "exit status" by which PGlite's build reports a Postgres error

const LIBRARIES = '/pglite/lib/postgresql'
const CONVERSION = /_and_|^euc2004/

const START_PARAMETERS = {
  // An fsync that reaches the disk: with the default method WAL flushes would bypass the hook in durableFileSystem.
  wal_sync_method: 'fsync',
  shared_buffers: '16MB', // the default of 128 MB doubles the memory and gains nothing at this size
  default_statistics_target: '20', // all wait while a table is analyzed: of a large one that took half a second
  // Measured by the WASM stack, which fills more slowly than Node's: with the default of 2 MB a deeply nested expression would
  // end the process (RangeError) before Postgres could refuse it.
  max_stack_depth: '250kB',
  // Errors are for the client that caused them; they quote statements and values, which must not get into a log.
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
}

const STARTUP_PACKET = Buffer.concat([
  Buffer.of(0, 0, 0, 41, 0, 3, 0, 0),
  Buffer.from('user\0postgres\0database\0postgres\0\0'),
])

export class BackendDied extends Error {}

/** A statement of the front itself failed; `fields` are those of the ErrorResponse. */
export class BackendError extends Error {
  constructor(response) {
    const fields = errorFields(response)
    super(`${fields.C} ${fields.M}`)
    this.response = response
    this.fields = fields
  }
}

export class Backend {
  #options
  #db
  #mod
  #input = new Input([])
  #output = () => {}
  #starve = null

  /** The rules of the running session. */
  guard

  /** What of the database's log is on the disk. */
  wal = new Wal()

  /** Open the database in `data` with PGlite from the `modules` directory; `log` gets Postgres' own log lines. */
  static async open(options) {
    // All paths are relative to the working directory from here on. So whatever is moved or put in the place of the data, this
    // process goes on in the directory whose lock it has inherited, and never writes into another one.
    process.chdir(options.data)
    const backend = new Backend(options)
    await backend.#start()
    return backend
  }

  constructor(options) {
    this.#options = options
  }

  /** Start again after BackendDied. Nothing of the old session is left: no transaction, setting, statement or channel. */
  async restart() {
    this.wal.settle()
    for (const stream of this.#mod.FS.streams) if (stream?.nfd !== undefined) closeQuietly(stream.nfd)
    await this.#start()
  }

  async #start() {
    const { modules, log } = this.#options
    const dist = path.join(modules, '@electric-sql', 'pglite', 'dist')
    let exports
    const [{ PGlite }, { NodeFS }] = await Promise.all(
      ['index.js', path.join('fs', 'nodefs.js')].map((file) => import(pathToFileURL(path.join(dist, file)))),
    )
    // A process that was killed leaves this file. Whose directory it is say the lock that our parent holds, and its look at this
    // file; Postgres itself cannot judge: PGlite's process has the number -42.
    fs.rmSync(LOCK_FILE, { force: true })
    this.#db = await PGlite.create({
      fs: durableFileSystem(NodeFS, this.wal, (instance) => (exports = instance.exports)),
      startParams: startParameters(PGlite.defaultStartParams),
      initDbStartParams: ['--wal-segsize=1'], // 1 MB: a new project is small, and grows in small steps
      onStderr: log,
    })
    this.#mod = this.#db.Module
    fs.writeFileSync(LOCK_FILE, fs.readFileSync(LOCK_FILE, 'utf8').replace(/^.*/, String(process.pid)))
    const read = this.#mod.addFunction((pointer, most) => this.#read(pointer, most), 'ipi')
    const write = this.#mod.addFunction((pointer, length) => this.#write(pointer, length), 'ipi')
    this.#mod._pgl_set_rw_cbs(read, write)
    removeConversions(this.#mod.FS)
    this.guard = new Guard(this.#mod, exports)
    this.parameters = this.#startSession()
    this.demand([query('RESET ALL')]) // any utility statement: the guard waits for a first one
  }

  /** Whether a transaction is open, also a failed one. */
  get inTransaction() {
    return this.#mod._IsTransactionBlock() !== 0
  }

  /** Whether a transaction is open and has not failed. */
  get transactionWorks() {
    return this.inTransaction && this.#mod._IsTransactionState() !== 0
  }

  /**
   * Run messages (an iterable of Buffers) to their end, in one go: nobody else's can come between.
   * `output` gets each piece of the answer, as it comes. It is the backend's memory, which writes over it after the call. When the backend wants more than there is, as in COPY … FROM STDIN,
   * it gets what `starve()` returns.
   */
  run(messages, output, starve = null) {
    this.#input = new Input(messages)
    this.#output = output
    this.#starve = starve
    while (!this.#input.exhausted || this.#mod._pq_buffer_remaining_data() > 0) this.#loopOnce()
    this.#guarded(() => {
      this.#mod._PostgresSendReadyForQueryIfNecessary()
      this.#mod._pgl_pq_flush()
    })
  }

  /** Run messages and return the whole answer, which must be small. */
  collect(messages, starve) {
    const pieces = []
    this.run(messages, (piece) => pieces.push(Buffer.from(piece)), starve)
    return Buffer.concat(pieces)
  }

  /** Run messages of the front itself; throws BackendError when there is an error in the answer. */
  demand(messages) {
    const answer = this.collect(messages)
    const error = firstError(answer)
    if (error) throw new BackendError(error)
    return answer
  }

  /** Write everything to the disk and end. The backend cannot be used afterwards. */
  async close() {
    await this.#db.close()
  }

  #startSession() {
    const pieces = []
    this.#input = new Input([STARTUP_PACKET])
    this.#output = (piece) => pieces.push(Buffer.from(piece))
    this.#mod._ProcessStartupPacket(this.#mod._pgl_getMyProcPort(), true, true)
    this.#mod._pgl_sendConnData()
    this.#mod._pgl_pq_flush()
    return parametersIn(Buffer.concat(pieces))
  }

  #loopOnce() {
    const stack = this.#mod.stackSave()
    try {
      this.#mod._PostgresMainLoopOnce()
    } catch (error) {
      if (error?.status !== LONGJMP) throw new BackendDied(`the database session ended: ${error}`)
      this.#mod.stackRestore(stack)
      this.#guarded(() => this.#mod._PostgresMainLongJmp())
    }
  }

  #guarded(work) {
    try {
      work()
    } catch (error) {
      throw new BackendDied(`the database session ended: ${error}`)
    }
  }

  #read(pointer, most) {
    if (this.#input.exhausted && this.#starve) this.#input = new Input(this.#starve())
    const bytes = this.#input.take(most)
    this.#mod.HEAPU8.set(bytes, pointer)
    return bytes.length
  }

  #write(pointer, length) {
    // No copy: copies of a large answer would fill the memory before they are collected.
    const { buffer, byteOffset } = this.#mod.HEAPU8
    this.#output(Buffer.from(buffer, byteOffset + pointer, length))
    return length
  }
}

/** Bytes from an iterable of Buffers, taken in pieces. */
class Input {
  #buffers
  #current
  #at = 0

  constructor(buffers) {
    this.#buffers = buffers[Symbol.iterator]()
    this.#advance()
  }

  get exhausted() {
    return this.#current === null
  }

  take(most) {
    if (this.#current === null) return Buffer.alloc(0)
    const bytes = this.#current.subarray(this.#at, this.#at + most)
    this.#at += bytes.length
    if (this.#at === this.#current.length) this.#advance()
    return bytes
  }

  #advance() {
    this.#at = 0
    do this.#current = this.#buffers.next().value ?? null
    while (this.#current?.length === 0)
  }
}

function closeQuietly(descriptor) {
  try {
    fs.closeSync(descriptor)
  } catch {
    // the module had closed it before it died
  }
}

function startParameters(defaults) {
  const settings = Object.entries(START_PARAMETERS).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  return [...defaults.filter((flag) => flag !== '-F'), ...settings] // -F turns fsync off
}

function parametersIn(answer) {
  const parameters = new Map()
  for (const [kind, start, end] of messagesIn(answer)) {
    if (kind !== SERVER.PARAMETER_STATUS) continue
    const [name, value] = answer.toString('utf8', start + HEADER_BYTES, end).split('\0')
    parameters.set(name, value)
  }
  return parameters
}

// Libraries that convert to other encodings lack functions that this build does not have: using one ends the session, while one that is
// not there is an error.
function removeConversions(files) {
  for (const name of files.readdir(LIBRARIES)) if (CONVERSION.test(name)) files.unlink(path.posix.join(LIBRARIES, name))
}

/** PGlite's file system on the working directory, with the two things that it lacks. */
function durableFileSystem(NodeFS, wal, onInstance) {
  return new (class extends NodeFS {
    async init(pglite, options) {
      this.rootDir = '.'
      const { emscriptenOpts } = await super.init(pglite, options)
      emscriptenOpts.preRun.push((mod) => makeDurable(mod.NODEFS, wal))
      emscriptenOpts.instantiateWasm = withoutTimers(emscriptenOpts.instantiateWasm, onInstance)
      return { emscriptenOpts }
    }
  })('.')
}

// Emscripten's NODEFS has no fsync at all: Postgres would take its word for what is only in the page cache. And the log must be on
// the disk before anything else changes there.
function makeDurable({ stream_ops: streams, node_ops: nodes }, wal) {
  const after = (operation) => (...given) => {
    wal.settle()
    return operation(...given)
  }
  const { write, close, setattr } = streams
  streams.fsync = (stream) => fsync(stream, wal)
  streams.write = (stream, ...given) => {
    if (!isLog(stream)) wal.settle()
    return write(stream, ...given)
  }
  streams.close = (stream) => {
    if (isLog(stream)) wal.settle()
    return close(stream)
  }
  streams.setattr = after(setattr) // ftruncate
  for (const name of ['rename', 'rmdir', 'setattr', 'symlink', 'unlink']) nodes[name] = after(nodes[name])
}

// Postgres also fsyncs directories after renames, which arrive here like files; fdatasync is enough for a file, a directory wants fsync.
function fsync(stream, wal) {
  if (stream.nfd === undefined) return 0
  if (isLog(stream)) {
    wal.sync(stream.nfd)
    return 0
  }
  wal.settle()
  const isDirectory = (stream.node.mode & fs.constants.S_IFMT) === fs.constants.S_IFDIR
  if (isDirectory) fs.fsyncSync(stream.nfd)
  else fs.fdatasyncSync(stream.nfd)
  return 0
}

// Postgres' timeouts are signals from a timer. Node's timers run only between our calls, never during a statement, so that
// statement_timeout cannot work, while idle_in_transaction_session_timeout would end the one session that everybody shares
// (seen: `SET` by one client, and the database was gone). So there are no timers inside; the front has its own limit.
function withoutTimers(instantiate, onInstance) {
  return (imports, done) => {
    for (const names of Object.values(imports)) {
      if ('_setitimer_js' in names) names._setitimer_js = () => 0
    }
    return instantiate(imports, (instance, module) => {
      onInstance(instance)
      return done(instance, module)
    })
  }
}
