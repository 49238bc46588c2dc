/** The steps of a run as rows with bars on one axis. Only the rows on screen exist, so that thousands of steps stay fluid. */

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { useKeys } from "../keys";
import { type Chosen, endOf, type Loaded, type Opened, type Piece, piecesOf, placeOf, type Row, rowsOf, type Tick, ticksOf } from "../timeline";
import { localTime, span, utc } from "../words";
import { Empty } from "./Empty";
import { Icon } from "./Icon";
import { snug, tight } from "./media";
import { now } from "./Time";
import { focusedRow, rowKeys, type Target, VirtualList } from "./VirtualList";

export interface TimelineProps {
  of: Loaded;
  opened: Opened;
  onFold: (child: string) => void;
  chosen: Chosen | null;
  /** Null: none. */
  onChoose: (chosen: Chosen | null) => void;
  /** Only rows with this text in their name or number. */
  filter: string;
}

const HEIGHT = 30;
const TALL = 48; // with the bar below the name

export function Timeline(props: TimelineProps) {
  const { of, opened, chosen, filter } = props;
  const all = useMemo(() => rowsOf(of, opened), [of, opened]);
  const rows = useMemo(() => filtered(all, filter), [all, filter]);
  const end = useEnd(of);
  const pieces = useMemo(() => piecesOf(all, Date.parse(of.run.created_at), end), [all, end]);
  const ticks = useMemo(() => ticksOf(pieces, tight.value ? 0.2 : 0.12), [pieces, tight.value]);
  const place = chosen === null ? -1 : rows.findIndex((one) => one.run === chosen.run && one.step === chosen.step);
  const [target, setTarget] = useState<Target>();
  const seen = useFollow(of, rows.length, place, setTarget);
  useTimelineKeys(rows, target, setTarget, props);
  const axis: Axis = { pieces, ticks, end, live: of.run.completed_at === null };
  return (
    <div class="tl" style={gridOf(axis)}>
      <VirtualList
        items={rows}
        keyOf={(row) => row.key}
        rowHeight={snug.value ? TALL : HEIGHT}
        label="Steps"
        header={<Header axis={axis} />}
        rowClass={(row, index) => `tl-row ${row.state} ${index === place ? "chosen" : ""}`}
        row={(row, index) => <RowCells row={row} axis={axis} isChosen={index === place} {...props} />}
        target={target}
        onVisible={seen}
        footer={rows.length === 0 && <Empty title={all.length === 0 ? "No step yet" : "No step has this in its name"} />}
      />
    </div>
  );
}

interface Axis {
  pieces: readonly Piece[];
  ticks: readonly Tick[];
  end: number;
  live: boolean;
}

function filtered(rows: readonly Row[], filter: string): readonly Row[] {
  const wanted = filter.trim().toLowerCase();
  if (wanted === "") return rows;
  if (wanted === "failed") return rows.filter((one) => one.state === "failed");
  return rows.filter((one) => String(one.step) === wanted || `${one.scope ?? ""} ${one.name} ${one.note ?? ""}`.toLowerCase().includes(wanted));
}

/** The end of the axis: the end of the run, or now. */
function useEnd({ run }: Loaded): number {
  if (run.completed_at !== null) return Date.parse(run.completed_at);
  return Math.max(now.value, Date.parse(run.updated_at));
}

/** Brings the chosen row into view. If the last row of an active run is visible, later rows come into view too. */
function useFollow(
  { run }: Loaded,
  count: number,
  place: number,
  setTarget: (target: Target) => void,
): (first: number, last: number) => void {
  const seen = useRef({ count: 0, atEnd: true });
  useLayoutEffect(() => {
    if (place >= 0) setTarget({ index: place, quietly: true });
    else if (run.completed_at === null && seen.current.atEnd) setTarget({ index: count - 1, quietly: true });
  }, [place, count]);
  return (_first, last) => {
    seen.current = { count, atEnd: last >= seen.current.count }; // of the previous rows
  };
}

function useTimelineKeys(
  rows: readonly Row[],
  target: Target | undefined,
  setTarget: (target: Target) => void,
  { onFold, onChoose }: TimelineProps,
): void {
  const fold = (): void => {
    const row = rows[focusedRow()];
    if (row?.foldable && row.child !== null) onFold(row.child);
  };
  useKeys([
    ...rowKeys(rows.length, target, setTarget),
    { key: "o", what: "Show or hide the steps of the run that a step started", act: fold },
    { key: "Escape", what: "Close the step", act: () => onChoose(null) },
  ]);
}

function choose(row: Row, onChoose: (chosen: Chosen) => void): void {
  if (row.step !== null) onChoose({ run: row.run, step: row.step });
}

// The axis

function Header({ axis }: { axis: Axis }) {
  const last = axis.pieces.at(-1);
  const waitsNow = axis.live && last?.compressed === true;
  const pauses = axis.pieces.filter((one) => one.compressed && one.width > ROOM && !(waitsNow && one === last));
  return (
    <div class="tl-row tl-header" role="row">
      <div role="columnheader">Step</div>
      <div role="columnheader" class="tl-axis" aria-label="When">
        {axis.ticks.filter((one) => hasRoom(one, pauses, axis.live, waitsNow)).map((tick) => (
          <span key={tick.x} class="num" style={{ left: percent(tick.x) }}>
            {tick.milliseconds === 0 ? "0" : span(tick.milliseconds)}
          </span>
        ))}
        {pauses.map((one) => (
          <span key={one.from} class="num tl-pause" title={PAUSE} style={{ left: percent(middle(one)) }}>
            {span(one.to - one.from)}
          </span>
        ))}
        {waitsNow && (
          <span class="num tl-pause last" title={PAUSE}>
            {span(last.to - last.from)} <b>now</b>
          </span>
        )}
        {axis.live && !waitsNow && <span class="tl-now-label">now</span>}
      </div>
      <div role="columnheader" class="tl-took">
        Took
      </div>
    </div>
  );
}

function middle(piece: Piece): number {
  return piece.x + piece.width / 2;
}

/** Whether the text at a tick stays clear of all others. */
function hasRoom(tick: Tick, pauses: readonly Piece[], live: boolean, waitsNow: boolean): boolean {
  const word = tight.value ? 0.17 : 0.11; // about the width of a length of time
  const end = 1 - word * (waitsNow ? 3.5 : live ? 1.5 : 1);
  return tick.x < end && pauses.every((one) => tick.x < middle(one) - word * 1.5 || tick.x > middle(one) + word / 2);
}

const ROOM = 0.05; // the room for a text
const PAUSE = "Nothing was done in this time but waiting";

function percent(part: number): string {
  return `${(part * 100).toFixed(3)}%`;
}

// Rows

interface CellsProps extends TimelineProps {
  row: Row;
  axis: Axis;
  isChosen: boolean;
}

function RowCells({ row, axis, isChosen, onChoose, onFold }: CellsProps) {
  return (
    <>
      <div role="cell" class="tl-name" style={{ paddingLeft: `${Math.min(row.depth, 8) * 16}px` }}>
        <Fold row={row} onFold={onFold} />
        <span class={`tl-dot ${row.state} ${row.kind}`} title={row.state} />
        <Title row={row} isChosen={isChosen} onChoose={onChoose} />
      </div>
      <div role="cell" class="tl-bars" title={times(row, axis.end)}>
        <Bar row={row} axis={axis} />
      </div>
      <div role="cell" class="tl-took num">
        {took(row, axis.end)}
      </div>
    </>
  );
}

function Fold({ row, onFold }: { row: Row; onFold: (child: string) => void }) {
  const child = row.child;
  if (!row.foldable || child === null) return <span class="tl-fold" />;
  return (
    <button type="button" class="tl-fold" aria-expanded={row.open} aria-label={`Steps of ${child}`} onClick={() => onFold(child)}>
      <Icon name="chevron" turned={row.open} />
    </button>
  );
}

function Title({ row, isChosen, onChoose }: { row: Row; isChosen: boolean; onChoose: (chosen: Chosen) => void }) {
  const note = row.note !== null && <span class="muted"> {row.note}</span>;
  if (row.step === null) {
    return (
      <span class="tl-title row-link muted" tabIndex={-1}>
        {row.name}
        {note}
      </span>
    );
  }
  return (
    <button type="button" class="tl-title row-link" aria-pressed={isChosen} title={row.name} onClick={() => choose(row, onChoose)}>
      <span class="tl-number num">{row.step}</span> {row.scope !== null && <span class="muted">{row.scope}/ </span>}
      {row.kind === "timeout" ? "Timeout of the wait" : row.name}
      {note}
    </button>
  );
}

function took(row: Row, end: number): string {
  if (row.kind === "timeout" || row.kind === "loading") return "";
  return span(endOf(row, end) - row.from);
}

function times(row: Row, end: number): string {
  const until = endOf(row, end);
  const from = new Date(row.from);
  const ended = row.to !== null && row.to <= end ? ` · to ${localTime(new Date(until))}` : " · goes on";
  return `From ${localTime(from)}${ended} · ${utc(from)}`;
}

const THIN = { y: "50%", height: 4 };
const THICK = { y: "50%", height: 12, rx: 2 };
const LEAST = 0.0002; // for steps that took no time: nothing is drawn without a width
const BAR = { queue: THIN, wait: THIN, timeout: THIN, loading: THIN, step: THICK, child: THICK } as const;

function Bar({ row, axis }: { row: Row; axis: Axis }) {
  if (row.kind === "timeout" || row.kind === "loading") return null;
  const from = placeOf(axis.pieces, row.from);
  const to = placeOf(axis.pieces, endOf(row, axis.end));
  return (
    <svg class="tl-svg" aria-hidden="true">
      <rect class={`tl-bar ${row.kind} ${row.state}`} x={percent(from)} width={percent(Math.max(to - from, LEAST))} {...BAR[row.kind]} />
    </svg>
  );
}

/** The background of all rows, drawn once: now, the ticks, and the pauses. */
function gridOf({ pieces, ticks, live }: Axis): Record<string, string> {
  const layers = [
    ...(live ? [{ color: "--accent", width: "1.5px", x: 1 }] : []),
    ...ticks.map(({ x }) => ({ color: "--line", width: "1px", x })),
    ...pieces
      .filter((one) => one.compressed)
      .map(({ x, width }) => ({ color: "--hover", width: percent(width), x: x / (1 - width) })),
  ];
  return {
    "--grid": layers.map(({ color }) => `linear-gradient(var(${color}), var(${color}))`).join(),
    "--grid-size": layers.map(({ width }) => `${width} 100%`).join(),
    "--grid-place": layers.map(({ x }) => `${percent(x)} 0`).join(),
  };
}
