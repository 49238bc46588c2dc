/** What the dialog of a fork asks, and its answer. */

import { signal } from "@preact/signals";

import type { ForkBody } from "../api";

export interface AskedFork {
  body: ForkBody;
  /** null: do not fork. */
  answer: (body: ForkBody | null) => void;
}

export const asked = signal<AskedFork | null>(null);

/** Ask how to fork. null: do not do it. */
export function askFork(body: ForkBody): Promise<ForkBody | null> {
  asked.value?.answer(null);
  return new Promise((resolve) => {
    asked.value = {
      body,
      answer: (given) => {
        asked.value = null;
        resolve(given);
      },
    };
  });
}
