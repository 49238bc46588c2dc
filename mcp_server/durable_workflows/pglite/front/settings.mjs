// Settings (SET, RESET, set_config, startup options) are of the session, which all clients share; here each keeps its own.
//
// What a client has set is read back from Postgres at the end of a turn in which it may have changed (guard.mjs), so that rolled-back
// and invalid SETs need no thought. When the turn goes to a client with other settings, the session is reset and that
// client's are applied. As long as all clients have the same ones, usually none, this costs nothing.

import { query, rowsIn } from './protocol.mjs'
import { WITHOUT_EFFECT } from './sql.mjs'

const RESET = 'RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL'
const LAST = ['session_authorization', 'role', 'client_encoding'] // these change how the next ones are taken

const literal = (value) => `'${value.replaceAll("'", "''")}'`

/** The settings of one client; `key` is equal for equal settings. */
export class Settings {
  constructor(values = new Map()) {
    this.values = values
    this.key = JSON.stringify([...values].sort())
  }
}

export class SessionSettings {
  #backend
  #applied = new Settings().key

  constructor(backend) {
    this.#backend = backend
  }

  /** The session was started again: it has no settings of any client. */
  lose() {
    this.#applied = new Settings().key
  }

  /** Whether the session has other settings than these. */
  differ(settings) {
    return settings.key !== this.#applied
  }

  /** Give the session these settings and no other; returns the backend's answer, throws BackendError if one is invalid. */
  apply(settings) {
    this.#applied = null // unknown, until it has worked
    const names = [...settings.values.keys()].sort((a, b) => LAST.indexOf(a) - LAST.indexOf(b))
    const calls = names.map((name) => `set_config(${literal(name)}, ${literal(settings.values.get(name))}, false)`)
    const answer = this.#backend.demand([query(calls.length ? `${RESET}; SELECT ${calls}` : RESET)])
    this.#applied = settings.key
    return answer
  }

  /** Read what the session's settings are now; `names` are those that pg_settings does not list. */
  read(names) {
    const answer = this.#backend.demand([query(readingQuery([...names, 'role', 'session_authorization']))])
    const values = new Map(rowsIn(answer).filter(([name, value]) => value !== null && !WITHOUT_EFFECT.has(name)))
    const settings = new Settings(values)
    this.#applied = settings.key
    return settings
  }
}

const readingQuery = (names) => `
  SELECT name, current_setting(name, true)
  FROM (SELECT name FROM pg_settings WHERE source = 'session' UNION SELECT unnest(ARRAY[${names.map(literal)}])) AS names
  WHERE NOT (name IN ('role', 'session_authorization') AND current_setting(name, true) IN ('', 'none', 'postgres'))
  ORDER BY name`
