/** The steps of two runs, each beside its counterpart. */

import { useLayoutEffect, useMemo, useState } from "preact/hooks";

import type { Compared, ComparedStep, Step } from "../api";
import { useKeys } from "../keys";
import { rowKeys, type Target, VirtualList } from "../parts/VirtualList";
import { span } from "../words";

const HEIGHT = 30;

export interface StepsProps {
  compared: Compared;
  /** The index of the chosen step. */
  place: number | null;
  onChoose: (place: number) => void;
}

interface Item {
  step: ComparedStep;
  place: number;
}

export function Steps({ compared, place, onChoose }: StepsProps) {
  const [onlyDifferent, setOnlyDifferent] = useState(false);
  const all = useMemo(() => compared.steps.map((step, at) => ({ step, place: at })), [compared.steps]);
  const different = useMemo(() => all.filter(({ step }) => step.differs.length > 0), [all]);
  const items = onlyDifferent ? different : all;
  const at = items.findIndex((one) => one.place === place);
  const [target, setTarget] = useState<Target>();
  useLayoutEffect(() => {
    if (at >= 0) setTarget({ index: at, quietly: true });
  }, [at]);
  useKeys(rowKeys(items.length, target, setTarget));
  if (all.length === 0) return null;
  return (
    <section class="compare-steps" aria-label="Steps">
      <div class="steps-tools">
        <h2>Steps</h2>
        {different.length > 0 && different.length < all.length && (
          <label class="tick">
            <input type="checkbox" checked={onlyDifferent} onChange={(event) => setOnlyDifferent(event.currentTarget.checked)} />
            Only the {different.length.toLocaleString("en")} that {different.length === 1 ? "differs" : "differ"}
          </label>
        )}
      </div>
      <div class="compare-list" style={{ height: `${Math.min(items.length + 1, 14) * HEIGHT + 2}px` }}>
        <VirtualList
          items={items}
          keyOf={({ place: key }) => String(key)}
          rowHeight={HEIGHT}
          label="Steps of both runs"
          header={<Header />}
          rowClass={({ step }, index) => `compare-row ${step.differs.length > 0 ? "differs" : ""} ${index === at ? "chosen" : ""}`}
          row={(item, index) => <Cells item={item} isChosen={index === at} onChoose={onChoose} />}
          target={target}
        />
      </div>
    </section>
  );
}

function Header() {
  return (
    <div class="compare-row" role="row">
      <div role="columnheader">Step</div>
      <div role="columnheader">A</div>
      <div role="columnheader">B</div>
      <div role="columnheader">Differs</div>
    </div>
  );
}

function Cells({ item, isChosen, onChoose }: { item: Item; isChosen: boolean; onChoose: (place: number) => void }) {
  const { step, place } = item;
  return (
    <>
      <div role="cell" class="compare-name">
        <button type="button" class="tl-title row-link" aria-pressed={isChosen} title={step.name} onClick={() => onChoose(place)}>
          {step.name}
          {step.occurrence > 1 && <span class="muted num"> ({step.occurrence})</span>}
        </button>
      </div>
      <div role="cell" class="num">
        {shortly(step.a)}
      </div>
      <div role="cell" class="num">
        {shortly(step.b)}
        <Longer a={step.a} b={step.b} />
      </div>
      <div role="cell" class="muted">
        {step.taken_over ? "taken over" : step.differs.join(", ")}
      </div>
    </>
  );
}

function shortly(step: Step | null) {
  if (step === null) return <span class="muted">—</span>;
  const took = tookOf(step);
  return (
    <span class={step.error ? "bad" : ""}>
      {step.step}
      {took !== null && <span class="muted"> · {span(took)}</span>}
    </span>
  );
}

function tookOf(step: Step): number | null {
  if (step.started_at === null || step.completed_at === null) return null;
  return Date.parse(step.completed_at) - Date.parse(step.started_at);
}

const NOTABLE_MS = 100; // a smaller difference means nothing
const NOTABLE = 1.5;

/** How many times as long B took, if that is notable. */
function Longer({ a, b }: { a: Step | null; b: Step | null }) {
  const [before, after] = [a && tookOf(a), b && tookOf(b)];
  if (before === null || after === null || Math.abs(before - after) < NOTABLE_MS) return null;
  const times = after / Math.max(before, 1);
  if (times < NOTABLE && times > 1 / NOTABLE) return null;
  return <span class={times > 1 ? "slower" : "faster"}> {times > 1 ? `${round(times)}× as long` : `${round(1 / times)}× as fast`}</span>;
}

function round(times: number): string {
  return times < 10 ? times.toFixed(1) : Math.round(times).toLocaleString("en");
}
