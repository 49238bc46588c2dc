// SCRAM-SHA-256 (RFC 5802, 7677), the server's side, without channel binding.
//
// It is mutual: a program that took our port learns nothing about the password, and the client sees that we know it.

import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto'

export const MECHANISM = 'SCRAM-SHA-256'

const ITERATIONS = 4096 // the RFC's least; the password is a long random token, not a word
const HASH_BYTES = 32

const hmac = (key, data) => createHmac('sha256', key).update(data).digest()
const hash = (data) => createHash('sha256').update(data).digest()

/** What the server keeps of a password for its life. */
export function verifierOf(password) {
  const salt = randomBytes(16)
  const salted = pbkdf2Sync(password, salt, ITERATIONS, HASH_BYTES, 'sha256')
  return {
    salt: salt.toString('base64'),
    storedKey: hash(hmac(salted, 'Client Key')),
    serverKey: hmac(salted, 'Server Key'),
  }
}

export class ScramError extends Error {}

/** One exchange: `first`, then `final`; each throws ScramError for a message that it does not understand. */
export class ScramExchange {
  #verifier
  #prefix // client-first-bare and server-first, which the proof covers
  #header
  #nonce

  constructor(verifier) {
    this.#verifier = verifier
  }

  /** Take client-first, give server-first. */
  first(message) {
    const match = /^([ny],(?:a=[^,]*)?,)(n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+))$/.exec(message)
    if (!match) throw new ScramError('malformed first message')
    this.#header = Buffer.from(match[1]).toString('base64')
    this.#nonce = match[3] + randomBytes(18).toString('base64')
    const answer = `r=${this.#nonce},s=${this.#verifier.salt},i=${ITERATIONS}`
    this.#prefix = `${match[2]},${answer}`
    return answer
  }

  /** Take client-final, give server-final, or null when the password is wrong. */
  final(message) {
    const match = /^(c=([^,]+),r=([^,]+)),p=([A-Za-z0-9+/=]+)$/.exec(message)
    if (!match) throw new ScramError('malformed final message')
    if (match[2] !== this.#header || match[3] !== this.#nonce) throw new ScramError('wrong nonce')
    const covered = `${this.#prefix},${match[1]}`
    if (!this.#proves(Buffer.from(match[4], 'base64'), covered)) return null
    return `v=${hmac(this.#verifier.serverKey, covered).toString('base64')}`
  }

  #proves(proof, covered) {
    if (proof.length !== HASH_BYTES) return false
    const signature = hmac(this.#verifier.storedKey, covered)
    const clientKey = proof.map((byte, index) => byte ^ signature[index])
    return timingSafeEqual(hash(clientKey), this.#verifier.storedKey)
  }
}
