// How much of the time the one session is what clients wait for. It is measured around turns, not statements.

import { performance } from 'node:perf_hooks'

const BUSY = 0.9
const BLOCKED = 0.5

export class Load {
  #began = performance.now() // of the time that is measured
  #marked = this.#began
  #state = 'free' // since then
  #spent = { free: 0, busy: 0, blocked: 0 }

  /** From now on the session works (busy), or clients wait for another one's open transaction (blocked), or neither (free). */
  is(state) {
    const now = performance.now()
    this.#spent[this.#state] += now - this.#marked
    this.#marked = now
    this.#state = state
  }

  /** The shares of the time since the last call. */
  take() {
    this.is(this.#state)
    const whole = this.#marked - this.#began
    const { busy, blocked } = this.#spent
    this.#began = this.#marked
    this.#spent = { free: 0, busy: 0, blocked: 0 }
    return { busy: busy / whole, blocked: blocked / whole }
  }
}

/** Call `tell` with the shares whenever clients begin to wait for the session most of the time, and when they no longer do. */
export function watch(load, everyMs, tell) {
  let wasCrowded = false
  const look = () => {
    const shares = load.take()
    const crowded = shares.busy > BUSY || shares.blocked > BLOCKED
    if (crowded !== wasCrowded) tell({ event: crowded ? 'crowded' : 'eased', ...shares })
    wasCrowded = crowded
  }
  setInterval(look, everyMs).unref()
}
