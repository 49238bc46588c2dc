// What a client must do before it may send SQL: say who it is, and prove that it knows the password.
//
// Nothing of it reaches Postgres. All clients get the one user and the one database that there are.

import {
  CANCEL_REQUEST,
  CLIENT,
  GSSENC_REQUEST,
  HEADER_BYTES,
  PROTOCOL_3,
  SSL_REQUEST,
  afterText,
  authentication,
  negotiateVersion,
  text,
} from './protocol.mjs'
import { STOCK_DBOS } from './guard.mjs'
import { MECHANISM, ScramError, ScramExchange } from './scram.mjs'
import { WITHOUT_EFFECT } from './sql.mjs'

const OWN = /^(?:durable-workflows\b|dbos_transact_client$)/ // the second is DBOSClient's name for itself
const SASL = 10
const SASL_CONTINUE = 11
const SASL_FINAL = 12
const STARTUP_HEADER_BYTES = 4
const NO_SETTINGS = new Set(['user', 'database', 'options', 'replication', ...WITHOUT_EFFECT])

/** The login failed; `code` and the message are for the client. Without a code there is nothing to say to it. */
export class LoginRefused extends Error {
  constructor(code, problem, hint = null) {
    super(problem)
    this.code = code
    this.hint = hint
  }
}

export class Login {
  #exchange
  #parameters = null
  #step = this.#startup

  constructor(verifier) {
    this.#exchange = new ScramExchange(verifier)
  }

  get headerBytes() {
    return this.#parameters ? HEADER_BYTES : STARTUP_HEADER_BYTES
  }

  lengthAt(bytes, at) {
    return this.#parameters ? 1 + bytes.readUInt32BE(at + 1) : bytes.readUInt32BE(at)
  }

  /** Take one message; gives {reply, settings, trusted}: `settings` is null until the client has proved itself. */
  take(bytes) {
    try {
      return this.#step(bytes)
    } catch (error) {
      if (error instanceof RangeError) throw new LoginRefused('08P01', 'malformed startup message')
      if (error instanceof ScramError) throw new LoginRefused('08P01', `SCRAM: ${error.message}`)
      throw error
    }
  }

  #startup(bytes) {
    const code = bytes.readInt32BE(STARTUP_HEADER_BYTES)
    if (code === SSL_REQUEST || code === GSSENC_REQUEST) return { reply: Buffer.from('N'), settings: null }
    if (code === CANCEL_REQUEST) throw new LoginRefused(null, 'a cancel request') // a statement cannot be interrupted
    if (code >> 16 !== PROTOCOL_3) throw new LoginRefused('0A000', 'unsupported frontend protocol')
    this.#parameters = parametersOf(bytes)
    this.#step = this.#saslInitial
    const reply = authentication(SASL, Buffer.concat([text(MECHANISM), Buffer.of(0)]))
    return { reply: Buffer.concat([this.#negotiation(code & 0xffff), reply]), settings: null }
  }

  #negotiation(minor) {
    const unknown = [...this.#parameters.keys()].filter((name) => name.startsWith('_pq_.'))
    return minor > 0 || unknown.length > 0 ? negotiateVersion(unknown) : Buffer.alloc(0)
  }

  #saslInitial(bytes) {
    expectPassword(bytes)
    const afterName = afterText(bytes, HEADER_BYTES)
    const mechanism = bytes.toString('utf8', HEADER_BYTES, afterName - 1)
    if (mechanism !== MECHANISM) throw new LoginRefused('28000', `only ${MECHANISM} is supported`)
    this.#step = this.#saslFinal
    const answer = this.#exchange.first(bytes.toString('utf8', afterName + 4))
    return { reply: authentication(SASL_CONTINUE, Buffer.from(answer)), settings: null }
  }

  #saslFinal(bytes) {
    expectPassword(bytes)
    const answer = this.#exchange.final(bytes.toString('utf8', HEADER_BYTES))
    const user = this.#parameters.get('user')
    if (answer === null) throw new LoginRefused('28P01', `password authentication failed for user "${user}"`)
    this.#checkNames(user, this.#parameters.get('database') ?? user)
    const reply = Buffer.concat([authentication(SASL_FINAL, Buffer.from(answer)), authentication(0)])
    // What a client of our own asks for is only what libpq has found in the environment.
    const trusted = OWN.test(this.#parameters.get('application_name') ?? '')
    return { reply, settings: trusted ? new Map() : settingsOf(this.#parameters), trusted }
  }

  #checkNames(user, database) {
    if (user !== 'postgres') throw new LoginRefused('28000', `role "${user}" does not exist`)
    if (database !== 'postgres') throw new LoginRefused('3D000', `database "${database}" does not exist`)
    const encoding = this.#parameters.get('client_encoding') ?? 'UTF8'
    if (!isDefault('client_encoding', encoding)) throw new LoginRefused('0A000', 'the embedded database speaks UTF-8 only', 'Set client_encoding, or PGCLIENTENCODING, to UTF8.')
    if (this.#parameters.get('application_name') === 'dbos_transact') throw new LoginRefused('0A000', ...STOCK_DBOS)
    if (this.#parameters.has('replication')) throw new LoginRefused('0A000', 'replication is not supported')
  }
}

function expectPassword(bytes) {
  if (bytes[0] !== CLIENT.PASSWORD) throw new LoginRefused('08P01', 'expected a password message')
}

function parametersOf(bytes) {
  const words = bytes.toString('utf8', 2 * STARTUP_HEADER_BYTES).split('\0')
  const parameters = new Map()
  for (let at = 0; at + 1 < words.length && words[at] !== ''; at += 2) parameters.set(words[at], words[at + 1])
  return parameters
}

/** The settings that a client asks for as it connects, but those that say nothing new or have no effect here. */
function settingsOf(parameters) {
  const named = [...parameters, ...optionsIn(parameters.get('options') ?? '')]
  const kept = named.filter(([name, value]) => !NO_SETTINGS.has(name) && !name.startsWith('_pq_.') && !isDefault(name, value))
  return new Map(kept)
}

const isDefault = (name, value) => name === 'client_encoding' && /^'?(utf-?8|unicode)'?$/i.test(value)

/** `-c name=value` and `--name=value`, with backslashes before spaces. */
function optionsIn(options) {
  const words = options.match(/(?:\\[^]|[^\s\\])+/g) ?? []
  const plain = words.map((word) => word.replace(/\\([^])/g, '$1'))
  const joined = plain.join('\0').replace(/(^|\0)-c\0?/g, '$1--').split('\0')
  return joined.map((word) => /^--([^=]+)=([^]*)$/.exec(word)).filter(Boolean).map(pair)
}

const pair = ([, name, value]) => [name.replaceAll('-', '_').toLowerCase(), value]
