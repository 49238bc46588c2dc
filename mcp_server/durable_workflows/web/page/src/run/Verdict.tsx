/** What the newest code means for a run: it fits, or where it differs, with the fork that begins there. */

import type { Moved, Rehearsal } from "../api";
import { fork } from "../runs";
import { runHref } from "../routes";
import { counted } from "../words";
import { asked } from "./newest";

type Found = Moved | Rehearsal;

const LABELS: Readonly<Record<Found["verdict"], readonly [label: string, look: string]>> = {
  safe: ["Safe", "success"],
  moved: ["Moved", "success"],
  differs: ["Differs", "error"],
  stays: ["Stays", "waiting"],
  unknown: ["Unknown", "waiting"],
};

/** A verdict; `cancelOriginal`: its fork is to take the place of the run. */
export function Verdict({ found, cancelOriginal }: { found: Found; cancelOriginal: boolean }) {
  const { workflow_id: id, verdict, step } = found;
  const [label, look] = LABELS[verdict];
  const differs = verdict === "differs" && step !== null;
  const forkHere = (): void => {
    close();
    void fork(id, step ?? 1, { cancel_original: cancelOriginal });
  };
  return (
    <>
      <span class={`status ${look}`}>
        <span class="dot" aria-hidden="true" />
        {label}
      </span>
      {differs ? <Difference found={found} step={step} /> : <Reason found={found} />}
      {differs && (
        <p>
          <button type="button" class="button small" onClick={forkHere}>
            Fork from step {step} …
          </button>
        </p>
      )}
    </>
  );
}

export function close(): void {
  asked.value = null;
}

function Difference({ found, step }: { found: Found; step: number }) {
  const { workflow_id: id, recorded, called } = found;
  return (
    <>
      {" at "}
      {recorded === null ? (
        `step ${step}`
      ) : (
        <a href={runHref(id, step)} onClick={close}>
          step {step}
        </a>
      )}
      : recorded {recorded ?? "nothing"}, the code calls {called ?? "nothing"}
      {"steps" in found && found.note && <p class="muted">{found.note}</p>}
    </>
  );
}

function Reason({ found }: { found: Found }) {
  if ("steps" in found && found.verdict === "safe") return <>: the newest code calls what is recorded ({counted(found.steps, "step")})</>;
  return found.note && <span class="muted">: {found.note}</span>;
}
