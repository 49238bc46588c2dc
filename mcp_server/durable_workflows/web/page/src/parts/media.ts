/** The width of the screen. */

import { type Signal, signal } from "@preact/signals";

/** Whether it is as narrow as a telephone, as in style.css. */
export const narrow = atMost(720);

/** Whether the bars of a timeline are below the names, as in run.css. */
export const snug = atMost(940);

/** Whether there is little room beside a pane. */
export const tight = atMost(1300);

function atMost(pixels: number): Signal<boolean> {
  const query = window.matchMedia(`(max-width: ${pixels}px)`);
  const found = signal(query.matches);
  query.addEventListener("change", () => {
    found.value = query.matches;
  });
  return found;
}
