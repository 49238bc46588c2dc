/** A name and its value, in a `<dl class="facts">`. */

import type { ComponentChildren } from "preact";

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd class="wrap">{children}</dd>
    </div>
  );
}
