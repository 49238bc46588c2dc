/** Lines that a run printed or logged. */

import type { LogLine } from "../api";
import { Time } from "../parts/Time";

export interface LogLinesProps {
  lines: readonly LogLine[];
  /** Leads to the step of a line; null: the step is known. */
  onStep: ((step: number) => void) | null;
}

export function LogLines({ lines, onStep }: LogLinesProps) {
  return (
    <ol class="log" aria-label="Log">
      {lines.map((line) => (
        <li key={line.id} class={`log-line ${tone(line.stream)}`}>
          <Time at={line.at} />
          {onStep && <Step step={line.step} onStep={onStep} />}
          <span class="log-stream">{line.stream}</span>
          <span class="log-text">{line.text}</span>
        </li>
      ))}
    </ol>
  );
}

function Step({ step, onStep }: { step: number | null; onStep: (step: number) => void }) {
  if (step === null) return <span class="log-step muted">workflow</span>;
  return (
    <button type="button" class="log-step link" onClick={() => onStep(step)}>
      step {step}
    </button>
  );
}

function tone(stream: string): string {
  if (/^(err|error|critical)$/i.test(stream)) return "bad";
  return /^warn/i.test(stream) ? "warning" : "";
}
