/** How wide the screen is. */

import { signal } from "@preact/signals";

const query = window.matchMedia("(max-width: 720px)");

/** Whether it is as narrow as a telephone: as in style.css. */
export const narrow = signal(query.matches);

query.addEventListener("change", () => {
  narrow.value = query.matches;
});
