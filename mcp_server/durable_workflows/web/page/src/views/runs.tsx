/** The runs: newest first, roots with their children folded in, filtered by the address, live. */

import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { useChanges, useGet } from "../data";
import { useKeys } from "../keys";
import { Empty, Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { narrow } from "../parts/media";
import { focusedRow, rowKeys, type Target, VirtualList } from "../parts/VirtualList";
import { href, route, runHref } from "../routes";
import { change } from "../runs";
import { counted } from "../words";
import { type Children, flattened, useChildren } from "./children";
import { asked, Filters, isFiltered, StatusTabs } from "./filters";
import { RunPages, type RunPagesState } from "./runpages";
import { Header, type RowData, RunRow, Selected } from "./runrow";

const ROW = 40;
const NARROW_ROW = 62;
const NEAR_END = 60; // rows below the screen, when the next page is read

export function Runs() {
  const { params } = route.value;
  const search = useRef<HTMLInputElement>(null);
  const selected = useSignal<ReadonlySet<string>>(new Set());
  const target = useSignal<Target | undefined>(undefined);
  const catalog = useGet("catalog", {}, {});
  const status = useGet("status", {}, {});
  const children = useChildren();
  const { state, seen, more } = usePages(params, children);
  const rows = useMemo(() => flattened(state.runs, state.parents, children.open.value), [state, children.open.value]);
  useListKeys({ rows, selected, target, children, search });
  const clients = useMemo(() => new Map(status.data?.sessions.map((one) => [one.session_id, one.client])), [status.data]);
  return (
    <div class="view runs">
      <div class="view-head">
        <h1>Runs</h1>
        <StatusTabs counts={state.counts} waiting={state.waiting} />
        <Filters search={search} catalog={catalog.data} status={status.data} />
      </div>
      {params.get("parent") && <ParentNote parent={params.get("parent") ?? ""} />}
      {state.error && <Failure error={state.error} />}
      <VirtualList
        items={rows}
        keyOf={(one) => one.key}
        row={(one) => <RunRow row={one} selected={selected} children={children} clients={clients} />}
        rowClass={(one) => (selected.value.has(one.key) ? "selected" : "")}
        rowHeight={narrow.value ? NARROW_ROW : ROW}
        label="Runs"
        header={selected.value.size ? <Selected selected={selected} act={(what) => void bulk(what, selected)} /> : <Header rows={rows} selected={selected} />}
        onVisible={seen}
        target={target.value}
        footer={<Below state={state} filtered={isFiltered(params)} more={more} />}
      />
    </div>
  );
}

interface Pages {
  state: RunPagesState;
  seen: (first: number, last: number) => void;
  more: () => void;
}

/** The pages for the filter in the address; the previous runs stay on screen until the new ones have come. */
function usePages(params: URLSearchParams, children: Children): Pages {
  const key = params.toString();
  const pages = useRef<RunPages>(undefined);
  const visible = useRef<[number, number]>([0, 0]);
  const list = useMemo(() => {
    pages.current = new RunPages(asked(params), pages.current?.state.peek());
    return pages.current;
  }, [key]);
  useEffect(() => list.refresh(0, 0), [list]);
  // A run that begins or ends a wait stays PENDING, so the list is not notified.
  useChanges({ list: true, waits: true }, () => {
    list.refresh(...visible.current);
    children.refresh();
  });
  const seen = (first: number, last: number): void => {
    visible.current = [first, last];
    if (last + NEAR_END > list.state.peek().runs.length) list.more();
  };
  return { state: list.state.value, seen, more: () => list.more() };
}

interface ListKeys {
  rows: readonly RowData[];
  selected: Signal<ReadonlySet<string>>;
  target: Signal<Target | undefined>;
  children: Children;
  search: { current: HTMLInputElement | null };
}

function useListKeys({ rows, selected, target, children, search }: ListKeys): void {
  const at = (act: (row: RowData) => unknown) => (): void => {
    const row = rows[focusedRow() >= 0 ? focusedRow() : (target.value?.index ?? -1)];
    if (row) act(row);
  };
  useKeys([
    ...rowKeys(rows.length, target.value, (next) => (target.value = next)),
    { key: "x", what: "Select the row", act: at((row) => row.run && toggle(selected, row.key)) },
    { key: "o", what: "Show or hide the children of the row", act: at((row) => row.run && row.isParent && children.toggle(row.key)) },
    { key: "/", what: "Search", act: () => search.current?.focus() },
    { key: "Escape", what: "Select nothing", act: () => (selected.value = new Set()) },
  ]);
}

export function toggle(selected: Signal<ReadonlySet<string>>, id: string): void {
  const next = new Set(selected.value);
  if (!next.delete(id)) next.add(id);
  selected.value = next;
}

async function bulk(what: "cancel" | "resume" | "delete", selected: Signal<ReadonlySet<string>>): Promise<void> {
  if (await change(what, [...selected.value])) selected.value = new Set();
}

function ParentNote({ parent }: { parent: string }) {
  return (
    <p class="list-note">
      Runs that <a href={runHref(parent)}>{parent}</a> started · <a href={href("runs")}>All runs</a>
    </p>
  );
}

interface BelowProps {
  state: RunPagesState;
  filtered: boolean;
  more: () => void;
}

function Below({ state, filtered, more }: BelowProps) {
  const { ready, runs, complete, error } = state;
  if (!ready && runs.length === 0) return error ? null : <Loading what="the runs" />;
  if (complete && runs.length === 0) return filtered ? <NoMatch /> : <NoRuns />;
  return (
    <p class="list-end muted">
      {complete ? counted(runs.length, "run") : <Further found={runs.length} more={more} />}
    </p>
  );
}

/** A search covers a part of the runs at a time: it continues on request. */
function Further({ found, more }: { found: number; more: () => void }) {
  return (
    <>
      {counted(found, "run")} so far.{" "}
      <button type="button" class="link" onClick={more}>
        Look further back
      </button>
    </>
  );
}

function NoMatch() {
  return (
    <Empty title="No run fits this filter.">
      <a href={href("runs")}>Show all runs</a>
    </Empty>
  );
}

function NoRuns() {
  return (
    <Empty title="Nothing has run yet.">
      <p>Runs that an agent or you start appear here, newest first.</p>
      <p>
        <a href={href("start")}>Start a workflow</a>
      </p>
    </Empty>
  );
}
