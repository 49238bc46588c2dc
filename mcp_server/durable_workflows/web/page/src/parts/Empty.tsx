/** What is said where nothing is there, or nothing yet. */

import type { ComponentChildren } from "preact";

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="muted">{children}</div>}
    </div>
  );
}

/** Held for what is on its way: it shows only if that takes a moment. */
export function Loading({ what }: { what: string }) {
  return (
    <p class="loading muted" role="status">
      Loading {what} …
    </p>
  );
}
