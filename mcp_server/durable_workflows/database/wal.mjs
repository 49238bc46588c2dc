// Group commit: one write to the disk for the commits of many clients.
//
// Postgres asks for an fsync of its log at each commit and takes the answer for done. Here the answer may come early, and the log is
// written while other clients' statements run. Whoever could have seen such a commit waits: front.mjs holds back what is sent to any client
// until the disk has what was asked for before. Three rules keep the data as safe as with an fsync at once:
// - The log is on the disk before anything else is changed there: data pages, files that are removed, renamed or cut.
// - Each fsync begins after the bytes that it is for were written; those written later wait for the next one.
// - One that fails ends the process, with nothing sent: after that the kernel does not know what is on the disk.

import fs from 'node:fs'
import process from 'node:process'

const LOG_FILE = /\/pg_wal\/[0-9A-F]{24}$/

/** Whether an open file of the database is one of the log's. */
export const isLog = (stream) => (stream.isLog ??= LOG_FILE.test(stream.path ?? ''))

export class Wal {
  /** Whether an fsync may come later; else it is done at once. */
  deferring = false
  /** Called when `synced` has changed by an fsync that was not waited for. */
  onSynced = () => {}
  /** How many fsyncs were asked for, and how many of these, from the first one on, are done. */
  asked = 0
  synced = 0
  #waiting = new Set() // descriptors
  #running = new Set()

  /** Whether something is taken for done that is not on the disk yet. */
  get isBehind() {
    return this.synced < this.asked
  }

  /** Whether an fsync is under way. */
  get isRunning() {
    return this.#running.size > 0
  }

  /** An fsync of a file of the log is asked for. */
  sync(descriptor) {
    this.asked += 1
    this.#waiting.add(descriptor)
    if (!this.deferring) this.settle()
  }

  /** Have everything on the disk that was asked for, before returning. */
  settle() {
    if (!this.isBehind) return
    try {
      for (const descriptor of new Set([...this.#running, ...this.#waiting])) fs.fdatasyncSync(descriptor)
    } catch (error) {
      end(error)
    }
    this.#waiting.clear()
    this.synced = this.asked
  }

  /** Have on the disk what was asked for until now; `onSynced` tells when. One at a time is under way. */
  start() {
    if (this.isRunning || !this.isBehind) return
    const upTo = this.asked
    this.#running = this.#waiting
    this.#waiting = new Set()
    const left = new Set(this.#running)
    for (const descriptor of this.#running) {
      fs.fdatasync(descriptor, (error) => {
        // It may have been closed since, by settle() before that.
        if (error && this.synced < upTo) end(error)
        left.delete(descriptor)
        if (left.size === 0) this.#finish(upTo)
      })
    }
  }

  #finish(upTo) {
    this.#running = new Set()
    this.synced = Math.max(this.synced, upTo)
    this.onSynced()
  }
}

function end(error) {
  process.stderr.write(`${new Date().toISOString()} fatal: the log of the database cannot be written to the disk: ${error.message}\n`)
  process.exit(70)
}
