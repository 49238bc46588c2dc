// The time that a client has for something.

import { performance } from 'node:perf_hooks'

const LATE_MS = 50

/**
 * Calls `done(isLate)` after the time. A timer that comes late says that this process was busy or stood still, and not
 * that the client was slow: what the client has sent may be here, unread.
 */
export function after(wait, done) {
  const due = performance.now() + wait
  return setTimeout(() => done(performance.now() - due > LATE_MS), wait)
}
