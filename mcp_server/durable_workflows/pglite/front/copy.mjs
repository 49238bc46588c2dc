// COPY … FROM STDIN, on a backend that runs to the end in one call and cannot wait for a client in the middle.
//
// So it runs twice. The first time is a trial with no data: it gives the client the backend's CopyInResponse, or the error
// that the statement deserves, and is undone. Then the client's data are collected, bounded, without keeping others waiting.
// The second time runs the statement with all its data.

import { CLIENT, HEADER_BYTES, SERVER, SYNC, afterText, closeStatement, copyFail, messagesIn, query } from './protocol.mjs'
import { SpoolFull } from './spool.mjs'

const SAVEPOINT = '"durable_workflows_copy"'
const NOT_ALONE = 'COPY FROM STDIN must be the only statement, in the text of a query'
// What comes before CopyInResponse: ParseComplete, BindComplete, NoData, ParameterDescription, RowDescription.
const BEGINNING = new Set([...'12ntT'].map((kind) => kind.charCodeAt(0)))

/** What the backend gets when it asks for COPY data where nobody expected it: an error, never the end of its input. */
export const refuseData = () => [copyFail(NOT_ALONE), SYNC]

/** The data of one COPY as they come. */
export class CopyIn {
  unit
  ended = false // CopyDone or CopyFail has come
  #spool
  #last = null

  constructor(unit, spool) {
    this.#spool = spool
    this.unit = { ...unit, bytes: 0, copied: this }
  }

  append(message) {
    if (this.ended || this.#last !== null) return
    try {
      this.#spool.append(Buffer.from(message))
    } catch (error) {
      if (!(error instanceof SpoolFull)) throw error
      this.#last = copyFail(error.message)
    }
  }

  /** Take CopyDone or CopyFail; true if the COPY can run now. In the extended protocol a Sync must come first. */
  end(message) {
    if (this.ended) return false
    this.#last ??= Buffer.from(message)
    this.ended = true
    return this.unit.end === CLIENT.QUERY
  }

  /** All the messages to run: the statement, its data, how they end. */
  *messages() {
    yield* this.unit.translated.parts
    for (let piece; (piece = this.#spool.take()).length > 0; ) yield piece
    yield this.#last
    if (this.unit.end !== CLIENT.QUERY) yield SYNC
  }

  close() {
    this.#spool.close()
  }
}

/** Run the trial and undo it. `answer` gets what the client shall see; true if the client may send its data. */
export function tryCopy(backend, parts, answer) {
  const inside = backend.transactionWorks
  if (inside) backend.demand([query(`SAVEPOINT ${SAVEPOINT}`)])
  const all = backend.collect(parts, () => [copyFail('trial'), SYNC])
  const asked = afterCopyIn(all)
  answer.take(asked === null ? all : all.subarray(0, asked))
  if (asked === null) return false
  if (inside) backend.demand([query(`ROLLBACK TO ${SAVEPOINT}; RELEASE ${SAVEPOINT}`)])
  backend.demand([...namedStatements(parts).map(closeStatement), SYNC])
  return true
}

/** Run a COPY with its data; the client has had the beginning of the answer. */
export function runCopy(backend, copy, answer) {
  const all = backend.collect(copy.messages(), refuseData)
  copy.close()
  answer.take(all.subarray(afterCopyIn(all) ?? afterBeginning(all)))
}

function afterCopyIn(answer) {
  for (const [kind, , end] of messagesIn(answer)) if (kind === SERVER.COPY_IN) return end
  return null
}

function afterBeginning(answer) {
  for (const [kind, start] of messagesIn(answer)) if (!BEGINNING.has(kind)) return start
  return answer.length
}

// A trial is undone, but not the names of prepared statements: they belong to no transaction.
function namedStatements(parts) {
  const names = parts.flatMap((part) => [...messagesIn(part)].map(([kind, start]) => parsedName(part, kind, start)))
  return names.filter((name) => name !== '')
}

function parsedName(part, kind, start) {
  if (kind !== CLIENT.PARSE) return ''
  return part.latin1Slice(start + HEADER_BYTES, afterText(part, start + HEADER_BYTES) - 1)
}
