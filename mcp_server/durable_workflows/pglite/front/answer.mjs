// What the backend answers to one unit, on its way to the client.
//
// It comes in pieces that end anywhere. Most messages pass unseen; a few are taken out or noted. Notifications are taken out
// because they are for whoever listens, not for the client whose commit caused them.

import { HEADER_BYTES, SERVER } from './protocol.mjs'

const LOOKED_AT = new Set([
  SERVER.CLOSE_COMPLETE,
  SERVER.COMMAND_COMPLETE,
  SERVER.ERROR,
  SERVER.NOTIFICATION,
  SERVER.PARSE_COMPLETE,
  SERVER.READY,
])

export class Answer {
  failed = false // an ErrorResponse was in it
  ready = false // a ReadyForQuery was in it, and no error after that
  notifications = []
  ends = new Set() // COMMIT, ROLLBACK: how transactions ended
  #send
  #hidden
  #rest = null // the beginning of a message that is looked at
  #passing = 0 // bytes left of a message that is not

  /** `send` gets what the client shall get; `hidden` are the kinds of messages that it shall not, each once. */
  constructor(send, hidden = []) {
    this.#send = send
    this.#hidden = [...hidden]
  }

  /** Take a piece. It is valid during this call only, and so are the bytes that `send` gets. */
  take = (piece) => {
    const bytes = this.#rest === null ? piece : Buffer.concat([this.#rest, piece])
    this.#rest = null
    let at = Math.min(this.#passing, bytes.length)
    let kept = 0
    while (at < bytes.length) {
      const end = endOf(bytes, at)
      if (end < 0 || (end > bytes.length && LOOKED_AT.has(bytes[at]))) return this.#wait(bytes, kept, at)
      if (LOOKED_AT.has(bytes[at]) && !this.#look(bytes[at], bytes.subarray(at, end))) {
        this.#send(bytes.subarray(kept, at))
        kept = end
      }
      at = end
    }
    this.#passing = this.#passing > bytes.length ? this.#passing - bytes.length : at - bytes.length
    this.#send(kept === 0 ? bytes : bytes.subarray(kept))
  }

  #wait(bytes, kept, at) {
    this.#passing = 0
    this.#rest = Buffer.from(bytes.subarray(at))
    this.#send(bytes.subarray(kept, at))
  }

  // Whether the client gets the message.
  #look(kind, message) {
    if (kind === SERVER.NOTIFICATION) this.notifications.push(Buffer.from(message))
    if (kind === SERVER.ERROR) this.failed = true
    if (kind === SERVER.ERROR || kind === SERVER.READY) this.ready = kind === SERVER.READY
    if (kind === SERVER.COMMAND_COMPLETE) this.#noteEnd(message)
    return kind !== SERVER.NOTIFICATION && this.#passes(kind)
  }

  #passes(kind) {
    if (kind !== this.#hidden[0]) return true
    this.#hidden.shift()
    return false
  }

  #noteEnd(message) {
    const tag = message.latin1Slice(HEADER_BYTES, message.length - 1)
    if (tag === 'COMMIT' || tag === 'ROLLBACK') this.ends.add(tag)
  }
}

function endOf(bytes, at) {
  return bytes.length - at < HEADER_BYTES ? -1 : at + 1 + bytes.readInt32BE(at + 1)
}
