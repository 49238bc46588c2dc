// The PostgreSQL wire protocol, version 3: names of the messages, and the few that the front writes itself.
//
// A message is one letter, a big-endian length that counts itself but not the letter, and a body.

const letter = (text) => text.charCodeAt(0)

/** What clients send. */
export const CLIENT = Object.freeze({
  BIND: letter('B'),
  CLOSE: letter('C'),
  COPY_DATA: letter('d'),
  COPY_DONE: letter('c'),
  COPY_FAIL: letter('f'),
  DESCRIBE: letter('D'),
  EXECUTE: letter('E'),
  FLUSH: letter('H'),
  FUNCTION_CALL: letter('F'),
  PARSE: letter('P'),
  PASSWORD: letter('p'),
  QUERY: letter('Q'),
  SYNC: letter('S'),
  TERMINATE: letter('X'),
})

/** What the backend sends, as far as the front looks at it. */
export const SERVER = Object.freeze({
  CLOSE_COMPLETE: letter('3'),
  COMMAND_COMPLETE: letter('C'),
  COPY_IN: letter('G'),
  DATA_ROW: letter('D'),
  ERROR: letter('E'),
  NOTIFICATION: letter('A'),
  PARAMETER_STATUS: letter('S'),
  PARSE_COMPLETE: letter('1'),
  READY: letter('Z'),
})

export const HEADER_BYTES = 5
export const PROTOCOL_3 = 3
export const CANCEL_REQUEST = 80877102
export const SSL_REQUEST = 80877103
export const GSSENC_REQUEST = 80877104

const NUL = Buffer.of(0)

export function int32(value) {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** A NUL-terminated string. */
export const text = (value) => Buffer.concat([Buffer.from(value, 'utf8'), NUL])

export function message(kind, ...fields) {
  const body = Buffer.concat(fields)
  const code = typeof kind === 'string' ? letter(kind) : kind
  return Buffer.concat([Buffer.of(code), int32(4 + body.length), body])
}

export const query = (sql) => message(CLIENT.QUERY, text(sql))
export const SYNC = message(CLIENT.SYNC)
export const closeStatement = (name) => message(CLIENT.CLOSE, Buffer.from('S'), text(name))
export const copyFail = (reason) => message(CLIENT.COPY_FAIL, text(reason))
export const readyForQuery = (status) => message(SERVER.READY, Buffer.from(status))
export const parameterStatus = (name, value) =>
  message(SERVER.PARAMETER_STATUS, text(name), text(value))
export const authentication = (code, data = Buffer.alloc(0)) => message('R', int32(code), data)
export const backendKey = (id, secret) => message('K', int32(id), int32(secret))

/** Tell a client that asked for a newer minor version or for protocol options that it gets 3.0 and none. */
export const negotiateVersion = (options) =>
  message('v', int32(PROTOCOL_3 << 16), int32(options.length), ...options.map(text))

export function errorResponse(severity, code, problem, hint = null) {
  const fields = [`S${severity}`, `V${severity}`, `C${code}`, `M${problem}`, ...(hint === null ? [] : [`H${hint}`])]
  return message(SERVER.ERROR, ...fields.map(text), NUL)
}

export const fatal = (code, problem, hint) => errorResponse('FATAL', code, problem, hint)

/** The fields of an ErrorResponse, by their letters. */
export function errorFields(bytes) {
  const parts = bytes.toString('utf8', HEADER_BYTES).split('\0')
  return Object.fromEntries(parts.filter(Boolean).map((part) => [part[0], part.slice(1)]))
}

/** Yield [kind, start, end] of each message in bytes that hold whole messages only. */
export function* messagesIn(bytes) {
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + bytes.readInt32BE(at + 1)
    yield [bytes[at], at, end]
    at = end
  }
}

/** The position behind the NUL-terminated string that starts at `at`; RangeError if it does not end. */
export function afterText(bytes, at) {
  const end = bytes.indexOf(0, at)
  if (end < 0) throw new RangeError('a string without an end')
  return end + 1
}

const BODIES = new Map([
  [CLIENT.BIND, (body) => (body.text(), body.text(), body.int16s(), body.values(), body.int16s())],
  [CLIENT.CLOSE, (body) => (body.oneOf('SP'), body.text())],
  [CLIENT.DESCRIBE, (body) => (body.oneOf('SP'), body.text())],
  [CLIENT.EXECUTE, (body) => (body.text(), body.skip(4))],
  [CLIENT.COPY_DATA, (body) => body.rest()],
  [CLIENT.COPY_FAIL, (body) => body.text()],
  [CLIENT.FUNCTION_CALL, (body) => body.rest()],
  [CLIENT.PARSE, (body) => (body.text(), body.text(), body.skip(4 * body.count()))],
  [CLIENT.QUERY, (body) => body.text()],
])

/** Whether a client's whole message has the form that its kind must have, to the last byte. */
export function isWellFormed(bytes) {
  const body = new Body(bytes)
  try {
    BODIES.get(bytes[0])?.(body)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return false
  }
  return body.isRead
}

/** Reads the fields of a message in turn; throws RangeError where one is not there. */
class Body {
  #bytes
  #at = HEADER_BYTES

  constructor(bytes) {
    this.#bytes = bytes
  }

  get isRead() {
    return this.#at === this.#bytes.length
  }

  text() {
    this.#at = afterText(this.#bytes, this.#at)
  }

  oneOf(letters) {
    if (!letters.includes(String.fromCharCode(this.#bytes.readUInt8(this.#at)))) throw new RangeError('an unknown letter')
    this.#at += 1
  }

  skip(length) {
    if (this.#at + length > this.#bytes.length) throw new RangeError('a field without an end')
    this.#at += length
  }

  rest() {
    this.#at = this.#bytes.length
  }

  count() {
    this.skip(2)
    return this.#bytes.readUInt16BE(this.#at - 2)
  }

  int16s() {
    this.skip(2 * this.count())
  }

  // Of Bind's parameters. A length of -1 stands for NULL.
  values() {
    for (let left = this.count(); left > 0; left--) {
      this.skip(4)
      const length = this.#bytes.readInt32BE(this.#at - 4)
      if (length < -1) throw new RangeError('an impossible length')
      this.skip(Math.max(length, 0))
    }
  }
}

/** The text columns of each DataRow in the answer to one of the front's own queries. */
export function rowsIn(answer) {
  const rows = []
  for (const [kind, start] of messagesIn(answer)) {
    if (kind === SERVER.DATA_ROW) rows.push(columns(answer, start + HEADER_BYTES))
  }
  return rows
}

function columns(bytes, start) {
  const values = []
  let at = start + 2
  for (let left = bytes.readInt16BE(start); left > 0; left--) {
    const length = bytes.readInt32BE(at)
    at += 4
    values.push(length < 0 ? null : bytes.toString('utf8', at, at + length))
    at += Math.max(length, 0)
  }
  return values
}

/** The first ErrorResponse in an answer, or null. */
export function firstError(answer) {
  for (const [kind, start, end] of messagesIn(answer)) {
    if (kind === SERVER.ERROR) return answer.subarray(start, end)
  }
  return null
}
