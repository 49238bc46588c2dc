/** A card with a title, and a table in it. */

import type { ComponentChildren } from "preact";

interface SectionProps {
  title: string;
  /** The text in place of the content. */
  empty?: string | false;
  children: ComponentChildren;
}

export function Section({ title, empty, children }: SectionProps) {
  return (
    <div class="card">
      <h2>{title}</h2>
      {empty ? <p class="muted">{empty}</p> : children}
    </div>
  );
}

export function Table({ label, head, children }: { label: string; head: readonly string[]; children: ComponentChildren }) {
  return (
    <div class="table-box" tabIndex={0} role="region" aria-label={label}>
      <table class="table">
        <thead>
          <tr>
            {head.map((one, place) => (
              <th key={place} scope="col">
                {one || <span class="hidden">Actions</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
