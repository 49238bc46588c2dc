// Group commit: one write to the disk for the commits of many clients.
//
// Postgres asks for an fsync of its log at each commit and takes the answer for done. Here the answer may come early, and the log is
// written while other clients' statements run. A client that could have seen such a commit waits: front.mjs holds back what is sent to it
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
  /** Whether an fsync is under way that is not waited for. */
  isRunning = false
  #files = new Set() // the descriptors of files with something that is not on the disk

  /** Whether something is taken for done that is not on the disk yet. */
  get isBehind() {
    return this.synced < this.asked
  }

  /** An fsync of a file of the log is asked for. */
  sync(descriptor) {
    this.asked += 1
    this.#files.add(descriptor)
    if (!this.deferring) this.settle()
  }

  /** Have everything on the disk that was asked for, before returning. */
  settle() {
    if (!this.isBehind) return
    try {
      for (const descriptor of this.#files) fs.fdatasyncSync(descriptor)
    } catch (error) {
      end(error)
    }
    this.#note(this.asked)
  }

  /** Have on the disk what was asked for until now; `onSynced` tells when. One at a time is under way. */
  start() {
    if (this.isRunning || !this.isBehind) return
    this.isRunning = true
    const upTo = this.asked
    const files = [...this.#files]
    let left = files.length
    for (const descriptor of files) {
      fs.fdatasync(descriptor, (error) => {
        // One that settle() has synced since may be closed.
        if (error && this.synced < upTo) end(error)
        left -= 1
        if (left > 0) return
        this.isRunning = false
        this.#note(upTo)
        this.onSynced()
      })
    }
  }

  // Files stay until nothing is behind: only then is it certain that no later bytes of theirs wait.
  #note(upTo) {
    this.synced = Math.max(this.synced, upTo)
    if (!this.isBehind) this.#files.clear()
  }
}

function end(error) {
  process.stderr.write(`${new Date().toISOString()} fatal: the log of the database cannot be written to the disk: ${error.message}\n`)
  process.exit(70)
}
