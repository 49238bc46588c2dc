// Bytes that wait for a slow peer: a little in memory, the rest in a file that has no name and goes with the process.
//
// Memory stays small whatever a client asks for, and nobody else waits for it.

import fs from 'node:fs'
import path from 'node:path'

const IN_MEMORY_BYTES = 1 << 20
const READ_BYTES = 1 << 18

export class SpoolFull extends Error {}

export class Spool {
  #directory
  #most
  #pieces = []
  #file = null
  #written = 0
  #taken = 0

  constructor(directory, most) {
    this.#directory = directory
    this.#most = most
  }

  /** How many bytes wait. */
  get waiting() {
    return this.#written - this.#taken
  }

  /** Keep `bytes`; throws SpoolFull beyond the limit, or when the disk is full. */
  append(bytes) {
    if (this.waiting + bytes.length > this.#most) throw new SpoolFull(`more than ${this.#most} bytes wait`)
    if (this.#file === null && this.waiting + bytes.length > IN_MEMORY_BYTES) this.#spill()
    if (this.#file === null) this.#pieces.push(Buffer.from(bytes))
    else this.#write(bytes, this.#written)
    this.#written += bytes.length
  }

  /** Take the next bytes, in order; none when nothing waits. */
  take() {
    const bytes = this.#file === null ? (this.#pieces.shift() ?? Buffer.alloc(0)) : this.#readFile()
    this.#taken += bytes.length
    return bytes
  }

  close() {
    this.#pieces = []
    if (this.#file !== null) fs.closeSync(this.#file)
    this.#file = null
  }

  #spill() {
    const name = path.join(this.#directory, `.spool-${process.pid}-${process.hrtime.bigint()}`)
    this.#file = fs.openSync(name, 'wx+', 0o600)
    fs.unlinkSync(name)
    let at = this.#taken
    for (const piece of this.#pieces) at += this.#write(piece, at)
    this.#pieces = []
  }

  #write(bytes, at) {
    let done = 0
    try {
      while (done < bytes.length) done += fs.writeSync(this.#file, bytes, done, bytes.length - done, at + done)
    } catch (error) {
      throw new SpoolFull(error.message)
    }
    return done
  }

  #readFile() {
    const bytes = Buffer.allocUnsafe(Math.min(READ_BYTES, this.waiting))
    return bytes.subarray(0, fs.readSync(this.#file, bytes, 0, bytes.length, this.#taken))
  }
}
