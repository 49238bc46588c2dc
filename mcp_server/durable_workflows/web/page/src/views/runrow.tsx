/** One row of the list of runs, and the header above the rows. */

import type { Signal } from "@preact/signals";

import type { RunSummary } from "../api";
import { Icon } from "../parts/Icon";
import { narrow } from "../parts/media";
import { Status } from "../parts/Status";
import { Ago, Took } from "../parts/Time";
import { href, runHref } from "../routes";
import { inboxHref, isUnfinished } from "../runs";
import { line } from "../words";
import type { Children } from "./children";

const LONGEST = 160;
const PERSON = "person:"; // the prefix of the topic of a question to a person, as in settings.py
const STARTING_MS = 50; // a shorter run has no duration worth showing

/** A run, or a note below one. `key` is the run's id. */
export type RowData =
  | { key: string; run: RunSummary; depth: number; isParent: boolean; note?: undefined }
  | { key: string; run?: undefined; depth: number; note: string; parent: string | undefined };

interface RowProps {
  row: RowData;
  selected: Signal<ReadonlySet<string>>;
  children: Children;
  clients: ReadonlyMap<string, string>;
}

export function RunRow({ row, selected, children, clients }: RowProps) {
  if (!row.run) return <NoteRow row={row} />;
  const { run, depth } = row;
  return (
    <div class="r-row">
      <div role="cell" class="c-pick">
        <Pick id={run.workflow_id} selected={selected} />
      </div>
      <div role="cell" class="c-name" style={{ paddingLeft: `${depth * 20}px` }}>
        {row.isParent ? <Expander run={run} children={children} /> : <span class="no-expander" />}
        <a class="row-link" href={runHref(run.workflow_id)} title={run.workflow_id}>
          <span class="r-name">{run.name}</span>
          {narrow.value ? <Second run={run} /> : <span class="r-id">{run.workflow_id}</span>}
        </a>
      </div>
      <div role="cell" class="c-status">
        <Status status={run.status} waitingOn={run.waiting_on} ok={run.ok} />
      </div>
      {!narrow.value && (
        <div role="cell" class="c-what muted ellipsis">
          <What run={run} />
        </div>
      )}
      <div role="cell" class="c-by muted ellipsis">
        {run.started_by ? (clients.get(run.started_by) ?? line(run.started_by, 12)) : ""}
      </div>
      <div role="cell" class="c-took muted">
        <Duration run={run} />
      </div>
      <div role="cell" class="c-when muted">
        <Ago at={run.created_at} />
      </div>
    </div>
  );
}

function NoteRow({ row }: { row: RowData & { note: string } }) {
  return (
    <div role="cell" class="note-row muted" style={{ paddingLeft: `${row.depth * 20 + 60}px` }}>
      {row.parent ? (
        <a class="row-link" href={href("runs", [], { parent: row.parent })}>
          {row.note}
        </a>
      ) : (
        row.note
      )}
    </div>
  );
}

function Pick({ id, selected }: { id: string; selected: Signal<ReadonlySet<string>> }) {
  const change = (on: boolean): void => {
    const next = new Set(selected.value);
    if (on) next.add(id);
    else next.delete(id);
    selected.value = next;
  };
  return (
    <label class="pick-box">
      <input type="checkbox" aria-label={`Select ${id}`} checked={selected.value.has(id)} onChange={(event) => change(event.currentTarget.checked)} />
    </label>
  );
}

function Expander({ run, children }: { run: RunSummary; children: Children }) {
  const open = children.open.value.has(run.workflow_id);
  return (
    <button
      type="button"
      class="icon-button expander"
      aria-expanded={open}
      aria-label={`Runs that ${run.workflow_id} started`}
      onClick={() => children.toggle(run.workflow_id)}
    >
      <Icon name="chevron" turned={open} />
    </button>
  );
}

/** The second line of a row on a narrow screen: the most important fact, or the id. */
function Second({ run }: { run: RunSummary }) {
  if (run.error) return <span class="r-id what-error">{line(run.error, LONGEST)}</span>;
  return <span class="r-id">{run.workflow_id}</span>;
}

function What({ run }: { run: RunSummary }) {
  if (run.waiting_on) return <Waits run={run} topic={run.waiting_on} />;
  if (run.asleep) return <>{line(run.asleep, LONGEST)}</>;
  if (run.error) return <span class="what-error">{line(run.error, LONGEST)}</span>;
  const fork = run.forks.at(-1);
  if (fork) return <>forked since: {fork.workflow_id}</>;
  if (run.forked_from) return <>forked from {run.forked_from}</>;
  return null;
}

function Waits({ run, topic }: { run: RunSummary; topic: string }) {
  return (
    <a class="quiet" href={inboxHref(run.workflow_id)}>
      {topic.startsWith(PERSON) ? "asks a person" : `waits for a message on ${line(topic, LONGEST)}`}
    </a>
  );
}

function Duration({ run }: { run: RunSummary }) {
  if (run.waiting_on) return null;
  if (isUnfinished(run.status)) return run.status === "PENDING" ? <Took from={run.created_at} to={null} /> : null;
  const ms = new Date(run.updated_at).getTime() - new Date(run.created_at).getTime();
  return ms < STARTING_MS ? null : <Took from={run.created_at} to={run.updated_at} />;
}

export function Header({ rows, selected }: { rows: readonly RowData[]; selected: Signal<ReadonlySet<string>> }) {
  const all = (): void => {
    selected.value = new Set(rows.filter((one) => one.run).map((one) => one.key));
  };
  return (
    <div role="row" class="r-row r-header" aria-rowindex={1}>
      <div role="columnheader" class="c-pick">
        <label class="pick-box">
          <input type="checkbox" aria-label="Select all rows" checked={false} disabled={rows.length === 0} onChange={all} />
        </label>
      </div>
      <div role="columnheader" class="c-name">
        Run
      </div>
      <div role="columnheader" class="c-status">
        Status
      </div>
      <div role="columnheader" class="c-what">
        <span class="hidden">What is known of it</span>
      </div>
      <div role="columnheader" class="c-by">
        Started by
      </div>
      <div role="columnheader" class="c-took">
        Took
      </div>
      <div role="columnheader" class="c-when">
        Started
      </div>
    </div>
  );
}

interface SelectedProps {
  selected: Signal<ReadonlySet<string>>;
  act: (what: "cancel" | "resume" | "delete") => void;
}

/** Replaces the header while runs are selected: the actions for them. */
export function Selected({ selected, act }: SelectedProps) {
  return (
    <div role="row" class="selected-bar" aria-rowindex={1}>
      <div role="columnheader" class="c-pick">
        <label class="pick-box">
          <input type="checkbox" aria-label="Select no row" checked onChange={() => (selected.value = new Set())} />
        </label>
      </div>
      <div role="columnheader" class="selected-actions">
        <span class="num selected-count">{selected.value.size.toLocaleString("en")} selected</span>
        <button type="button" class="button small" onClick={() => act("cancel")}>
          Cancel
        </button>
        <button type="button" class="button small" onClick={() => act("resume")}>
          Resume
        </button>
        <button type="button" class="button small" onClick={() => act("delete")}>
          Delete
        </button>
      </div>
    </div>
  );
}
