/** The filter of the list of runs: chosen here, kept in the address. */

import type { RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Catalog, StatusShown } from "../api";
import type { Params } from "../data";
import { Icon } from "../parts/Icon";
import { statusLabel } from "../parts/Status";
import { href, route, setParams } from "../routes";
import { STATUSES } from "../runs";
import { line } from "../words";

const TYPING_MS = 250;
const MINUTE_MS = 60_000;

const SPANS: Readonly<Record<string, [label: string, minutes: number]>> = {
  "1h": ["Last hour", 60],
  "24h": ["Last 24 hours", 1440],
  "7d": ["Last 7 days", 10_080],
  "30d": ["Last 30 days", 43_200],
};

/** The parameters of the API for the address. */
export function asked(params: URLSearchParams): Params {
  const given = (name: string): string | null => params.get(name);
  const parent = given("parent");
  return {
    status: given("status"),
    waiting: given("waiting"),
    name: given("name"),
    version: given("version"),
    started_by: given("started_by"),
    since: since(given("since")),
    text: given("text"),
    parent,
    roots: parent === null && given("all") === null,
  };
}

/** `24h` or a moment, as a moment; rounded to the minute, so that it stays the same for a while. */
function since(given: string | null): string | null {
  if (!given) return null;
  const minutes = SPANS[given]?.[1];
  const at = minutes === undefined ? new Date(given) : new Date((Math.floor(Date.now() / MINUTE_MS) - minutes) * MINUTE_MS);
  return Number.isNaN(at.getTime()) ? null : at.toISOString();
}

/** Whether there is any filter but the choice of roots. */
export function isFiltered(params: URLSearchParams): boolean {
  return [...params.keys()].some((one) => one !== "all");
}

interface FiltersProps {
  search: RefObject<HTMLInputElement | null>;
  catalog: Catalog | undefined;
  status: StatusShown | undefined;
}

export function Filters({ search, catalog, status }: FiltersProps) {
  const { params } = route.value;
  const names = (catalog?.workflows ?? []).map(({ name }) => [name, name] as const);
  const versions = [...new Set([status?.version ?? "", ...Object.keys(status?.versions_with_unfinished_runs ?? {})])];
  const sessions = (status?.sessions ?? []).map((one) => [one.session_id, `${one.client} ${one.session_id.slice(0, 6)}`] as const);
  const starters = [["page", "This page"] as const, ...sessions.filter(([id]) => id !== "page")];
  return (
    <div class="filters" role="search" aria-label="Filter the runs">
      <Search field={search} />
      <Pick name="name" label="Workflow" options={names} />
      <Pick name="version" label="Version" options={versions.filter(Boolean).map((one) => [one, one.slice(0, 10)] as const)} />
      <Pick name="started_by" label="Started by" options={starters} />
      <Pick name="since" label="Time" options={Object.entries(SPANS).map(([value, [label]]) => [value, label] as const)} />
      {params.get("parent") === null && (
        <label class="tick">
          <input type="checkbox" checked={params.has("all")} onChange={(event) => setParams({ all: event.currentTarget.checked ? "1" : null })} />
          Children as rows
        </label>
      )}
      {isFiltered(params) && (
        <a class="button small" href={href("runs")}>
          Clear
        </a>
      )}
    </div>
  );
}

/** A text field whose search starts when the user stops typing. */
function Search({ field }: { field: RefObject<HTMLInputElement | null> }) {
  const given = route.value.params.get("text") ?? "";
  const [text, setText] = useState(given);
  const timer = useRef<number>(undefined);
  useLayoutEffect(() => setText(given), [given]);
  const typed = (next: string): void => {
    setText(next);
    window.clearTimeout(timer.current);
    timer.current = window.setTimeout(() => setParams({ text: next }), TYPING_MS);
  };
  return (
    <div class="search">
      <Icon name="search" />
      <input
        ref={field}
        type="search"
        class="input"
        aria-label="Text in inputs, outputs and errors"
        placeholder="Text in inputs, outputs, errors"
        value={text}
        onInput={(event) => typed(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
    </div>
  );
}

interface PickProps {
  name: string;
  label: string;
  options: readonly (readonly [value: string, label: string])[];
}

function Pick({ name, label, options }: PickProps) {
  const value = route.value.params.get(name) ?? "";
  const known = !value || options.some(([one]) => one === value);
  return (
    <select
      class={value ? "input pick on" : "input pick"}
      aria-label={label}
      value={value}
      onChange={(event) => setParams({ [name]: event.currentTarget.value })}
    >
      <option value="">{label}: any</option>
      {!known && <option value={value}>{line(value, 30)}</option>}
      {options.map(([one, text]) => (
        <option key={one} value={one}>
          {text}
        </option>
      ))}
    </select>
  );
}

interface TabsProps {
  counts: Readonly<Record<string, number>>;
  waiting: number;
}

/** The statuses with the numbers of all runs, each as a link to its runs. */
export function StatusTabs({ counts, waiting }: TabsProps) {
  const { params } = route.value;
  const status = params.get("status");
  const isWaiting = params.has("waiting");
  const all = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const shown = STATUSES.filter((one) => counts[one] || one === status || one === "SUCCESS" || one === "ERROR" || one === "PENDING");
  return (
    <nav class="status-tabs" aria-label="Statuses">
      <Tab label="All" count={all} to={{ status: null, waiting: null }} current={!status && !isWaiting} />
      <Tab label="Waiting" count={waiting} to={{ status: null, waiting: "1" }} current={isWaiting} />
      {shown.map((one) => (
        <Tab key={one} label={statusLabel(one)} count={counts[one] ?? 0} to={{ status: one, waiting: null }} current={status === one} />
      ))}
    </nav>
  );
}

interface TabProps {
  label: string;
  count: number;
  to: Readonly<Record<string, string | null>>;
  current: boolean;
}

function Tab({ label, count, to, current }: TabProps) {
  const params = new URLSearchParams(route.value.params);
  for (const [name, value] of Object.entries(to)) {
    if (value === null) params.delete(name);
    else params.set(name, value);
  }
  return (
    <a class="status-tab" href={href("runs", [], params)} aria-current={current ? "page" : undefined}>
      {label} <span class="status-count">{count.toLocaleString("en")}</span>
    </a>
  );
}
