/** Moments and lengths of time: in the local zone, in UTC on hover. */

import { computed, signal } from "@preact/signals";
import { useMemo } from "preact/hooks";

import { about, localTime, span, utc } from "../words";

const TICK_MS = 1000;

/** The current time, to the second, for relative times. It stands still while the page is hidden. */
export const now = signal(thisSecond());

function thisSecond(): number {
  return Math.floor(Date.now() / TICK_MS) * TICK_MS;
}

window.setInterval(() => {
  if (!document.hidden) now.value = thisSecond();
}, TICK_MS);

/** A moment: `14:03:22`, with its date if it is not today. */
export function Time({ at }: { at: string }) {
  const moment = new Date(at);
  return (
    <time dateTime={at} title={utc(moment)} class="num">
      {localTime(moment)}
    </time>
  );
}

/** How long ago a moment was, or how soon it comes: `5 min ago`, `in 3 h`. */
export function Ago({ at }: { at: string }) {
  const moment = new Date(at);
  const text = useMemo(() => computed(() => relative(new Date(at).getTime() - now.value)), [at]);
  return (
    <time dateTime={at} title={`${localTime(moment)} · ${utc(moment)}`} class="num">
      {text}
    </time>
  );
}

/** From one moment to another, or to now. */
export function Took({ from, to }: { from: string; to: string | null }) {
  const text = useMemo(
    () => computed(() => (to ? span(between(from, to)) : span(wholeSeconds(now.value - new Date(from).getTime())))),
    [from, to],
  );
  return <span class="num">{text}</span>;
}

function between(from: string, to: string): number {
  return new Date(to).getTime() - new Date(from).getTime();
}

function wholeSeconds(ms: number): number {
  return Math.max(0, Math.floor(ms / TICK_MS) * TICK_MS);
}

function relative(ms: number): string {
  if (Math.abs(ms) < TICK_MS) return "now";
  return ms > 0 ? `in ${about(ms)}` : `${about(ms)} ago`;
}
