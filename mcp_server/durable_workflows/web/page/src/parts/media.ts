/** How wide the screen is. */

import { type Signal, signal } from "@preact/signals";

/** Whether it is as narrow as a telephone: as in style.css. */
export const narrow = atMost(720);

/** Whether what stands beside a pane has little room. */
export const tight = atMost(1300);

function atMost(pixels: number): Signal<boolean> {
  const query = window.matchMedia(`(max-width: ${pixels}px)`);
  const found = signal(query.matches);
  query.addEventListener("change", () => {
    found.value = query.matches;
  });
  return found;
}
