/** A list of rows of equal height. Only the visible rows exist, so that 10,000 stay fluid. It scrolls by itself. */

import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Key } from "../keys";

const BEYOND = 8; // rows above and below the screen

/** A row to bring into view and, unless `quietly`, to focus: a new object each time. */
export interface Target {
  index: number;
  quietly?: boolean;
}

export interface VirtualListProps<T> {
  items: readonly T[];
  keyOf: (item: T) => string;
  /** A row's content. It is put into an element with the role `row`, so its parts are cells. */
  row: (item: T, index: number) => ComponentChildren;
  rowHeight: number;
  /** Names the table. */
  label: string;
  /** The header above the rows: one element with the role `row`. */
  header?: ComponentChildren;
  /** A class of a row. */
  rowClass?: (item: T, index: number) => string;
  /** Reports the visible rows, from the first to before the last, when they change. */
  onVisible?: (first: number, last: number) => void;
  /** A row to bring on screen, when this changes. */
  reveal?: number | undefined;
  /** The row whose `.row-link` gets the focus. */
  target?: Target | undefined;
  /** The content below the last row. */
  footer?: ComponentChildren;
}

interface Window {
  top: number;
  height: number;
}

export function VirtualList<T>(props: VirtualListProps<T>) {
  const { items, rowHeight, label, header, footer, target } = props;
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState<Window>({ top: 0, height: 800 });
  useEffect(() => (box.current ? observed(box.current, setView) : undefined), []);
  const first = Math.max(0, Math.min(items.length, Math.floor(view.top / rowHeight)) - BEYOND);
  const last = Math.min(items.length, Math.ceil((view.top + view.height) / rowHeight) + BEYOND);
  useEffect(() => props.onVisible?.(first, last), [first, last, items.length]);
  useLayoutEffect(() => reveal(box.current, props.reveal ?? -1, rowHeight), [props.reveal, rowHeight]);
  useTarget(box, target, rowHeight);
  return (
    <div class="vlist" ref={box}>
      <div role="table" aria-label={label} aria-rowcount={items.length + (header ? 1 : 0)}>
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

/** Scroll to the row, and focus it as soon as it exists. */
function useTarget(box: RefObject<HTMLElement | null>, target: Target | undefined, rowHeight: number): void {
  const reached = useRef(target);
  useLayoutEffect(() => {
    if (target && target !== reached.current) reveal(box.current, target.index, rowHeight);
  }, [target, rowHeight]);
  useLayoutEffect(() => {
    if (!target || target === reached.current) return;
    if (target.quietly) reached.current = target;
    if (target.quietly) return;
    const link = box.current?.querySelector<HTMLElement>(`[data-index="${target.index}"] .row-link`);
    if (!link) return;
    reached.current = target;
    link.focus({ preventScroll: true });
  });
}

/** Scroll only as far as needed to bring the row on screen, below the header. */
function reveal(box: HTMLElement | null, index: number, rowHeight: number): void {
  if (!box || index < 0) return;
  const covered = box.querySelector<HTMLElement>(".vlist-header")?.offsetHeight ?? 0;
  const top = index * rowHeight;
  const bottom = top + rowHeight + covered;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
}

/** The row that has the focus; -1 if none has it. */
export function focusedRow(): number {
  const row = document.activeElement?.closest<HTMLElement>("[data-index]");
  return row ? Number(row.dataset["index"]) : -1;
}

/** The first row that is completely on screen; -1 without any. */
function topRow(): number {
  const header = document.querySelector(".vlist-header")?.getBoundingClientRect().bottom ?? 0;
  const rows = [...document.querySelectorAll<HTMLElement>(".vlist-row")];
  const top = rows.find((row) => row.getBoundingClientRect().top >= header - 1);
  return top ? Number(top.dataset["index"]) : -1;
}

/** `j` and `k` for a list of that many rows: they continue from the focused or last row, or begin with the first on screen. */
export function rowKeys(count: number, last: Target | undefined, move: (target: Target) => void): Key[] {
  const by = (step: number) => (): void => {
    const from = focusedRow() >= 0 ? focusedRow() : (last?.index ?? -1);
    const next = document.querySelector(`[data-index="${from}"]`) ? from + step : topRow();
    if (count > 0) move({ index: Math.max(0, Math.min(count - 1, next)) });
  };
  return [
    { key: "j", what: "Next row", act: by(1) },
    { key: "k", what: "Row before", act: by(-1) },
  ];
}
