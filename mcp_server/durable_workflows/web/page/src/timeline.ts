/** The layout of a timeline, as pure functions: its rows, and the place of a moment on its axis. Times are milliseconds since 1970. */

import type { Child, Run, RunningStep, Step, Waiting } from "./api.ts";

export type Kind = "queue" | "step" | "wait" | "timeout" | "child" | "loading";
export type State = "done" | "failed" | "running" | "retrying" | "waiting";

/** A run with its loaded steps. */
export interface Loaded {
  run: Run;
  steps: readonly Step[];
}

/** The children whose rows are shown, by workflow_id; null while one is loaded. */
export type Opened = ReadonlyMap<string, Loaded | null>;

/** A step of the run, or of a child run. */
export interface Chosen {
  run: string;
  step: number;
}

export interface Row {
  key: string;
  /** The workflow_id of its run. */
  run: string;
  step: number | null;
  name: string;
  /** The path of the scopes that the step is in. */
  scope: string | null;
  note: string | null;
  kind: Kind;
  state: State;
  depth: number;
  from: number;
  /** When it ended, or will end; null: unknown so far. */
  to: number | null;
  /** The run that was called here. */
  child: string | null;
  /** The child can be unfolded here. */
  foldable: boolean;
  open: boolean;
}

type Base = Omit<Row, "key" | "name" | "kind" | "from" | "step">;

const SLEEP = "DBOS.sleep";
const GET_RESULT = "DBOS.getResult";
const RECEIVES = new Set(["DBOS.recv", "DBOS.getEvent"]);
const WAITS = new Set([SLEEP, GET_RESULT, "DBOS.waitFirst", ...RECEIVES]);
const UNFINISHED = new Set(["PENDING", "ENQUEUED", "DELAYED"]);
const SHORTEST_QUEUE = 20; // the shortest that is worth a row
const AT_ONCE = 100; // the most between the records made when a wait begins

/** Whether a run of this status is unfinished. */
export function isUnfinished(status: string): boolean {
  return UNFINISHED.has(status);
}

/** A moment of the API. */
export function moment(text: string | null): number | null {
  return text === null ? null : Date.parse(text);
}

// Rows

/** The rows of a run, in the order of its steps; the rows of an open child are below the step that called it. */
export function rowsOf(of: Loaded, opened: Opened, depth = 0): Row[] {
  return ownRows(of, opened, depth).flatMap((row) =>
    row.open && row.child !== null ? [row, ...rowsBelow(row, row.child, opened)] : [row],
  );
}

function rowsBelow(row: Row, child: string, opened: Opened): Row[] {
  const found = opened.get(child) ?? null;
  if (found !== null) return rowsOf(found, opened, row.depth + 1);
  const key = `${row.key}/loading`;
  const rest = { scope: null, note: null, step: null, child: null, foldable: false, open: false };
  return [{ ...row, ...rest, key, kind: "loading", name: "Loading…", depth: row.depth + 1 }];
}

function ownRows(of: Loaded, opened: Opened, depth: number): Row[] {
  const { run, steps } = of;
  const base: Base = {
    run: run.workflow_id,
    scope: null,
    note: null,
    state: "done",
    depth,
    to: null,
    child: null,
    foldable: false,
    open: false,
  };
  const known = new Set(steps.map((one) => one.step));
  const rows = [
    ...recordedRows(of, opened, base),
    ...run.running.filter((one) => !known.has(one.step)).map((one) => runningRow(one, base)),
    ...run.waiting.filter((one) => one.workflow_id === run.workflow_id).map((one) => waitRow(one, steps, base)),
    ...eventRows(run, base),
  ].sort((one, other) => (one.step ?? Infinity) - (other.step ?? Infinity) || 0);
  return [...queueRows(run, rows, base), ...rows];
}

function recordedRows({ run, steps }: Loaded, opened: Opened, base: Base): Row[] {
  const children = new Map(run.children.map((one) => [one.workflow_id, one]));
  const results = new Map(
    steps.filter((one) => one.name === GET_RESULT).map((one) => [one.child_workflow_id, one]),
  );
  const seen = new Set<string>();
  let last = moment(run.created_at) ?? 0;
  return steps.map((step, index) => {
    const row = recordedRow(step, run, begunAt(step, steps[index + 1], last), base);
    last = Math.min(row.to ?? last, moment(run.completed_at) ?? Infinity);
    if (isTimeout(step, steps[index - 1], run)) return { ...row, kind: "timeout", to: row.from };
    const id = step.child_workflow_id;
    if (id === null || seen.has(id)) return row;
    seen.add(id);
    return { ...row, ...ofChild(row, children.get(id), results.get(id)), open: opened.has(id) };
  });
}

/** When a step began, if it was recorded after `last` and before `next`. */
function begunAt(step: Step, next: Step | undefined, last: number): number {
  const recorded = moment(step.started_at) ?? last;
  // Of a wait for a child only the end is recorded.
  if (step.name === GET_RESULT && (moment(step.completed_at) ?? recorded) === recorded) return Math.min(last, recorded);
  // Of a parked wait only what came after it is recorded; its timeout is as old as the wait.
  const timeout = next !== undefined && isTimeoutOf(step, next) ? moment(next.started_at) : null;
  return Math.min(timeout ?? recorded, recorded);
}

function recordedRow(step: Step, run: Run, from: number, base: Base): Row {
  const planned = moment(step.completed_at) ?? from; // a sleep is recorded when it begins
  return {
    ...base,
    key: `${run.workflow_id}/${step.step}`,
    step: step.step,
    name: step.name,
    scope: step.scope,
    note: step.label,
    kind: WAITS.has(step.name) ? "wait" : "step",
    state: step.error === null ? "done" : "failed",
    from,
    to: Math.max(from, Math.min(planned, moment(run.completed_at) ?? Infinity)),
    child: step.child_workflow_id,
  };
}

/** A wait with a timeout records a sleep until then, as the step after its own. */
function isTimeout(step: Step, before: Step | undefined, run: Run): boolean {
  if (step.name !== SLEEP) return false;
  if (before !== undefined && isTimeoutOf(before, step)) return true;
  return run.waiting.some((one) => beginsWith(one, step));
}

function isTimeoutOf(wait: Step, next: Step): boolean {
  return next.name === SLEEP && next.step === wait.step + 1 && RECEIVES.has(wait.name);
}

/** From the call of a child to its end. If the call only started it, the end is when its result was taken. */
function ofChild(row: Row, child: Child | undefined, result: Step | undefined): Partial<Row> {
  const state = child === undefined ? row.state : stateOf(child);
  const goesOn = state === "running" || state === "waiting";
  const taken = moment(result?.completed_at ?? null);
  return { kind: "child", foldable: true, state, to: goesOn ? null : Math.max(row.to ?? 0, taken ?? 0) };
}

function stateOf(child: Child): State {
  if (child.waiting_on !== null) return "waiting";
  if (isUnfinished(child.status)) return "running";
  return child.status === "SUCCESS" && child.ok !== false ? "done" : "failed";
}

function runningRow(step: RunningStep, base: Base): Row {
  const attempt = step.max_attempts > 1 ? `attempt ${step.attempt} of ${step.max_attempts}` : null;
  return {
    ...base,
    key: `${base.run}/${step.step}`,
    step: step.step,
    name: step.name,
    note: attempt,
    kind: "step",
    state: step.retry_at === null ? "running" : "retrying",
    from: Date.parse(step.since),
  };
}

/** The future step number of an open wait: one before its timeout, which is recorded at once. */
export function stepOfWait(wait: Waiting, steps: readonly Step[]): number | null {
  const timeout = steps.find((one) => one.name === SLEEP && beginsWith(wait, one));
  return timeout === undefined ? null : timeout.step - 1;
}

function beginsWith(wait: Waiting, step: Step): boolean {
  return Math.abs((moment(wait.since) ?? 0) - (moment(step.started_at) ?? 0)) < AT_ONCE;
}

function waitRow(wait: Waiting, steps: readonly Step[], base: Base): Row {
  return {
    ...base,
    key: `${base.run}/waits/${wait.topic}`,
    step: stepOfWait(wait, steps),
    name: "DBOS.recv",
    note: wait.topic,
    kind: "wait",
    state: "waiting",
    from: moment(wait.since) ?? 0,
  };
}

function eventRows(run: Run, base: Base): Row[] {
  const rest = run.rest;
  if (rest === null || !isUnfinished(run.status)) return [];
  return rest.events.map((one) => ({
    ...base,
    key: `${base.run}/event/${one.workflow_id}/${one.key}`,
    step: null,
    name: "DBOS.getEvent",
    note: `${one.key} of ${one.workflow_id}`,
    kind: "wait",
    state: "waiting",
    from: Date.parse(rest.since),
  }));
}

/** The time before the run began, in a queue or delayed. A fork takes over steps that are older than itself. */
function queueRows(run: Run, rows: readonly Row[], base: Base): Row[] {
  const from = Date.parse(run.created_at);
  const begun = rows.map((one) => one.from).filter((one) => one >= from);
  const queued = run.status === "ENQUEUED" || run.status === "DELAYED";
  const to = begun.length > 0 ? Math.min(...begun) : queued ? null : from;
  if (to !== null && to - from < SHORTEST_QUEUE) return [];
  const name = run.delayed_until === null ? "In the queue" : "Delayed";
  const state = to === null ? "waiting" : "done";
  return [{ ...base, key: `${base.run}/queue`, step: null, name, note: run.queue, kind: "queue", state, from, to }];
}

// The axis

/** A part of the axis: between two moments, at `x` with a `width`, both as parts of 1. */
export interface Piece {
  from: number;
  to: number;
  x: number;
  width: number;
  /** The run only waited in that time. */
  compressed: boolean;
}

interface Span {
  from: number;
  to: number;
}

const LONG_WAIT = 0.25; // of the working time: a longer wait is compressed
const SHORTEST_COMPRESSED = 1000;
const COMPRESSED = 0.12; // of the working time
const ALL_COMPRESSED = 0.6;

/** The pieces of an axis on which long waits are short. Active steps end at `now`. */
export function piecesOf(rows: readonly Row[], start: number, now: number): Piece[] {
  const busy = merged(rows.filter(isWork).map((one) => ({ from: one.from, to: endOf(one, now) })));
  const moments = rows.flatMap((one) => [one.from, endOf(one, now)]);
  const from = lowest([start, ...moments]);
  const to = Math.max(highest([start, ...moments]), from + 1);
  const work = busy.reduce((sum, one) => sum + one.to - one.from, 0);
  const least = Math.max(SHORTEST_COMPRESSED, work * LONG_WAIT);
  const gaps = work === 0 ? [] : between(busy, from, to).filter((one) => one.to - one.from > least);
  const each = Math.max(work * Math.min(COMPRESSED, ALL_COMPRESSED / gaps.length), 1);
  const spans = [
    ...gaps.map((one) => ({ ...one, compressed: true, length: each })),
    ...between(gaps, from, to).map((one) => ({ ...one, compressed: false, length: one.to - one.from })),
  ].sort((one, other) => one.from - other.from);
  return placed(spans);
}

function placed(spans: readonly (Span & { compressed: boolean; length: number })[]): Piece[] {
  const total = spans.reduce((sum, one) => sum + one.length, 0);
  let x = 0;
  return spans.map(({ from, to, compressed, length }) => {
    const piece = { from, to, compressed, x, width: length / total };
    x += piece.width;
    return piece;
  });
}

/** An open child is shown by its own rows. */
function isWork(row: Row): boolean {
  if (row.kind === "child") return !row.open && row.state !== "waiting";
  return row.kind === "step" && row.state !== "retrying";
}

/** The present end of a bar. */
export function endOf(row: Row, now: number): number {
  return Math.max(row.from, Math.min(row.to ?? now, now));
}

function merged(spans: readonly Span[]): Span[] {
  const found: Span[] = [];
  for (const span of [...spans].sort((one, other) => one.from - other.from)) {
    const last = found.at(-1);
    if (last !== undefined && span.from <= last.to) last.to = Math.max(last.to, span.to);
    else found.push({ ...span });
  }
  return found;
}

function between(spans: readonly Span[], from: number, to: number): Span[] {
  const edges = [from, ...spans.flatMap((one) => [one.from, one.to]), to];
  const gaps: Span[] = [];
  for (let index = 0; index < edges.length; index += 2) {
    const gap = { from: edges[index] ?? from, to: edges[index + 1] ?? to };
    if (gap.to > gap.from) gaps.push(gap);
  }
  return gaps;
}

function lowest(numbers: readonly number[]): number {
  return numbers.reduce((one, other) => Math.min(one, other));
}

function highest(numbers: readonly number[]): number {
  return numbers.reduce((one, other) => Math.max(one, other));
}

/** The place of a moment, as a part of 1. */
export function placeOf(pieces: readonly Piece[], time: number): number {
  const piece = pieces[pieceAt(pieces, time)];
  if (piece === undefined) return 0;
  const part = (time - piece.from) / (piece.to - piece.from);
  return piece.x + piece.width * Math.min(1, Math.max(0, part));
}

function pieceAt(pieces: readonly Piece[], time: number): number {
  let low = 0;
  let high = pieces.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((pieces[middle]?.to ?? Infinity) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface Tick {
  x: number;
  /** Since the beginning. */
  milliseconds: number;
}

const NICE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1800e3];
const HOURS = [1, 2, 4, 8, 12, 24, 48, 96, 168, 336, 672].map((hours) => hours * 3600e3);

/** Round moments since the beginning, at least `nearest` apart from each other and from the edges of the axis. */
export function ticksOf(pieces: readonly Piece[], nearest = 0.12): Tick[] {
  const start = pieces[0]?.from ?? 0;
  const ticks: Tick[] = [{ x: 0, milliseconds: 0 }];
  for (const piece of pieces.filter((one) => !one.compressed)) {
    const speed = (piece.to - piece.from) / piece.width;
    const every = [...NICE, ...HOURS].find((one) => one >= speed * nearest) ?? Infinity;
    const count = Math.floor(piece.width / nearest) + 1;
    const first = Math.ceil((piece.from - start) / every) * every;
    for (let number = 0; number <= count; number += 1) {
      const milliseconds = first + number * every;
      const x = placeOf(pieces, start + milliseconds);
      if (start + milliseconds > piece.to || x > 1 - nearest * 0.8) break;
      if (x - (ticks.at(-1)?.x ?? 0) >= nearest) ticks.push({ x, milliseconds });
    }
  }
  return ticks;
}
