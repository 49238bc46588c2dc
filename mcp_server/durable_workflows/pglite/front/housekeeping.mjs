// What the background processes of a Postgres server do, which PGlite does not have: checkpoints and vacuum.
//
// Without checkpoints the WAL grows without end and a restart replays all of it; without vacuum tables grow with
// each update, and the planner knows nothing about them. Here both are done between turns, some time after there was work;
// without work there is no timer.

import { query, rowsIn } from './protocol.mjs'

const EVERY_MS = 30_000
const WAL_BYTES = 16 << 20

const WAL_POSITION = "SELECT pg_current_wal_insert_lsn() - '0/0'"

// As autovacuum with its usual thresholds would, the catalogs too.
const WANTING_VACUUM = `
  SELECT format('%I.%I', schemaname, relname) FROM pg_stat_all_tables
  WHERE schemaname NOT LIKE 'pg_toast%' AND schemaname NOT LIKE 'pg_temp%'
    AND (n_dead_tup > 50 + 0.2 * n_live_tup OR n_ins_since_vacuum > 1000 + 0.2 * n_live_tup
      OR (n_mod_since_analyze > 50 + 0.1 * n_live_tup AND schemaname NOT LIKE 'pg_%'))
  ORDER BY n_dead_tup DESC LIMIT 20`

export class Housekeeping {
  #backend
  #front
  #log
  #every
  #timer = null
  #checkpointed

  constructor(backend, front, { log, everyMs = EVERY_MS }) {
    this.#backend = backend
    this.#front = front
    this.#log = log
    this.#every = everyMs
    this.#checkpointed = this.#position()
  }

  /** There was work: look after it, in a while. */
  worked = () => {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#front.chore(() => this.#look())
    }, this.#every).unref()
  }

  #look() {
    this.#ask('SELECT pg_stat_force_next_flush()')
    for (const [table] of this.#ask(WANTING_VACUUM)) {
      for (const command of ['VACUUM', 'ANALYZE']) this.#front.chore(() => this.#tidy(command, table))
    }
    if (this.#position() - this.#checkpointed < WAL_BYTES) return
    this.#ask('CHECKPOINT')
    this.#checkpointed = this.#position()
  }

  // A table may be gone by now; no harm.
  #tidy(command, table) {
    const answer = this.#backend.collect([query(`${command} ${table}`)])
    this.#log(`${command.toLowerCase()} ${table}: ${answer.includes(command) ? 'done' : 'failed'}`)
  }

  #position() {
    return Number(this.#ask(WAL_POSITION)[0][0])
  }

  #ask(sql) {
    return rowsIn(this.#backend.demand([query(sql)]))
  }
}
