/** The title of the chosen entry of a list. On a narrow screen, where the list is hidden, it is the title of the page. */

import type { ComponentChildren } from "preact";

import { narrow } from "./media";

export function Title({ class: name, children }: { class?: string; children: ComponentChildren }) {
  return narrow.value ? <h1 class={name}>{children}</h1> : <h2 class={name}>{children}</h2>;
}
