/** The text for a place that is empty, or still empty. */

import type { ComponentChildren } from "preact";

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="muted">{children}</div>}
    </div>
  );
}

/** Stands for content that is being fetched: it shows only if that takes a moment. */
export function Loading({ what }: { what: string }) {
  return (
    <p class="loading muted" role="status">
      Loading {what} …
    </p>
  );
}
