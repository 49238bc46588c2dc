/** The title of what is chosen in a list: on a narrow screen, where the list is not shown, it is that of the page. */

import type { ComponentChildren } from "preact";

import { narrow } from "./media";

export function Title({ class: name, children }: { class?: string; children: ComponentChildren }) {
  return narrow.value ? <h1 class={name}>{children}</h1> : <h2 class={name}>{children}</h2>;
}
