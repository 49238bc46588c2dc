/** A list of rows of one height of which only those on screen exist, so that 10,000 stay fluid. It scrolls by itself. */

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const BEYOND = 8; // rows above and below the screen

export interface VirtualListProps<T> {
  items: readonly T[];
  keyOf: (item: T) => string;
  /** A row's content. It is put into an element with the role `row`, so its parts are cells. */
  row: (item: T, index: number) => ComponentChildren;
  rowHeight: number;
  /** Names the table. */
  label: string;
  /** What stands above the rows: one element with the role `row`. */
  header?: ComponentChildren;
  /** A class of a row. */
  rowClass?: (item: T, index: number) => string;
  /** Which rows are on screen, from the first to before the last; told when that changes. */
  onVisible?: (first: number, last: number) => void;
  /** A row that is to be brought into view, when this changes. */
  reveal?: number | undefined;
  /** What stands below the last row. */
  footer?: ComponentChildren;
}

interface Window {
  top: number;
  height: number;
}

export function VirtualList<T>(props: VirtualListProps<T>) {
  const { items, rowHeight, label, header, footer } = props;
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState<Window>({ top: 0, height: 800 });
  useEffect(() => (box.current ? observed(box.current, setView) : undefined), []);
  const first = Math.max(0, Math.floor(view.top / rowHeight) - BEYOND);
  const last = Math.min(items.length, Math.ceil((view.top + view.height) / rowHeight) + BEYOND);
  useEffect(() => props.onVisible?.(first, last), [first, last, items.length > 0]);
  useLayoutEffect(() => revealed(box.current, props.reveal, rowHeight), [props.reveal, rowHeight]);
  return (
    <div class="vlist" ref={box} role="table" aria-label={label} aria-rowcount={items.length + (header ? 1 : 0)}>
      {header && (
        <div class="vlist-header" role="rowgroup">
          {header}
        </div>
      )}
      <div class="vlist-rows" role="rowgroup" style={{ height: `${items.length * rowHeight}px` }}>
        {items.slice(first, last).map((item, offset) => (
          <Row key={props.keyOf(item)} {...props} item={item} index={first + offset} />
        ))}
      </div>
      {footer}
    </div>
  );
}

function Row<T>({ item, index, row, rowClass, rowHeight, header }: VirtualListProps<T> & { item: T; index: number }) {
  return (
    <div
      role="row"
      class={`vlist-row ${rowClass?.(item, index) ?? ""}`}
      aria-rowindex={index + (header ? 2 : 1)}
      data-index={index}
      style={{ height: `${rowHeight}px`, transform: `translateY(${index * rowHeight}px)` }}
    >
      {row(item, index)}
    </div>
  );
}

function observed(box: HTMLElement, tell: (view: Window) => void): () => void {
  const look = (): void => tell({ top: box.scrollTop, height: box.clientHeight });
  const resized = new ResizeObserver(look);
  resized.observe(box);
  box.addEventListener("scroll", look, { passive: true });
  return () => {
    resized.disconnect();
    box.removeEventListener("scroll", look);
  };
}

/** Scroll no further than is needed to have the row on screen, below the header. */
function revealed(box: HTMLElement | null, index: number | undefined, rowHeight: number): void {
  if (!box || index === undefined || index < 0) return;
  const covered = box.querySelector<HTMLElement>(".vlist-header")?.offsetHeight ?? 0;
  const top = index * rowHeight;
  const bottom = top + rowHeight + covered;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
}
