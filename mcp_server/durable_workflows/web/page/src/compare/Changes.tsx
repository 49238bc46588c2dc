/** The places where two values differ, each with both contents. */

import type { Change, ComparedStep, ComparedValue, Preview, Step } from "../api";
import { readableInput } from "../inputs";
import { Value } from "../parts/Value";
import { runHref } from "../routes";
import { RecordedError } from "../run/RecordedError";

/** The input, output or error of both runs. */
export function ComparedPayload({ label, value }: { label: string; value: ComparedValue }) {
  if (!value.a && !value.b) return null;
  return (
    <section class="card" aria-label={label}>
      <h2>
        {label} <span class="muted">{value.same ? "is the same" : ""}</span>
      </h2>
      {value.same ? <Value label={label} preview={readable(label, value.a)} /> : <Differing label={label} {...ofReader(label, value)} />}
    </section>
  );
}

/** The arguments by name, without dbos's wrapping. */
function ofReader(label: string, { a, b, changes }: ComparedValue): Omit<DifferingProps, "label"> {
  const shown = changes.map((one) => ({ ...one, path: label === "Input" ? one.path.replace(/^namedArgs\./, "") : one.path }));
  return { a: readable(label, a), b: readable(label, b), changes: shown };
}

function readable(label: string, preview: Preview | null): Preview | null {
  return label === "Input" ? readableInput(preview) : preview;
}

/** The differences in a step. */
export function Changes({ step, a, b }: { step: ComparedStep; a: string; b: string }) {
  const numbers = [
    step.a && { label: "A", href: runHref(a, step.a.step), number: step.a.step },
    step.b && { label: "B", href: runHref(b, step.b.step), number: step.b.step },
  ].filter((one) => one !== null);
  return (
    <section class="card compare-step" aria-label={`Step ${step.name}`}>
      <h2 class="wrap">
        {step.name}
        {step.occurrence > 1 && <span class="muted"> ({step.occurrence})</span>}
      </h2>
      <p class="muted">
        {numbers.map((one, place) => (
          <span key={one.label}>
            {place > 0 && " · "}
            <a href={one.href}>
              step {one.number} of {one.label}
            </a>
          </span>
        ))}
      </p>
      <Body step={step} />
    </section>
  );
}

function Body({ step }: { step: ComparedStep }) {
  if (step.taken_over) return <p class="muted">The fork took this step over: it is one and the same.</p>;
  if (step.differs.includes("missing")) return <p>Only {step.a ? "A" : "B"} has this step.</p>;
  if (step.differs.length === 0) return <p class="muted">Output and error are the same.</p>;
  const values = [step.a?.error, step.a?.output, step.b?.error, step.b?.output];
  if (values.every((one) => !one)) return <p class="muted">What differs here is not in this overview: open the steps to see it.</p>;
  if (!step.a?.error && !step.b?.error) {
    return <Differing label="Output" a={step.a?.output ?? null} b={step.b?.output ?? null} changes={step.changes} />;
  }
  return (
    <div class="sides">
      <Outcome mark="A" step={step.a} />
      <Outcome mark="B" step={step.b} />
    </div>
  );
}

function Outcome({ mark, step }: { mark: string; step: Step | null }) {
  return <Whole label={step?.error ? "Error" : "Output"} mark={mark} preview={step?.error ?? step?.output ?? null} />;
}

interface DifferingProps {
  label: string;
  a: Preview | null;
  b: Preview | null;
  changes: readonly Change[];
}

function Differing({ label, a, b, changes }: DifferingProps) {
  if (changes.length > 0 && changes[0]?.path !== "") return <ChangeTable label={label} changes={changes} />;
  return (
    <div class="sides">
      <Whole label={label} mark="A" preview={a} />
      <Whole label={label} mark="B" preview={b} />
    </div>
  );
}

function Whole({ label, mark, preview }: { label: string; mark: string; preview: Preview | null }) {
  return (
    <div class="side-value">
      <span class={`side-label ${mark.toLowerCase()}`}>{mark}</span>
      {label === "Error" && preview ? <RecordedError error={preview} /> : <Value label={`${label} of ${mark}`} preview={preview} />}
    </div>
  );
}

function ChangeTable({ label, changes }: { label: string; changes: readonly Change[] }) {
  return (
    <div class="scroll-x" tabIndex={0} role="group" aria-label={`Changes: ${label}`}>
      <table class="changes">
        <thead>
          <tr>
            <th scope="col">Where</th>
            <th scope="col">A</th>
            <th scope="col">B</th>
          </tr>
        </thead>
        <tbody>
          {changes.map((one) => (
            <tr key={one.path}>
              <th scope="row" class="mono wrap">
                {one.path}
              </th>
              <td class="removed">{textOf(one.a)}</td>
              <td class="added">{textOf(one.b)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function textOf(preview: Preview | null) {
  if (preview === null) return <span class="muted">nothing</span>;
  return <code class="wrap">{preview.text + (preview.text.length < preview.length ? "…" : "")}</code>;
}
