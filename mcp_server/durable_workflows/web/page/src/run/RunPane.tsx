/** The pane beside the timeline while no step is chosen: the input and output of the run. */

import type { Preview, Run } from "../api";
import { api } from "../data";
import { readableInput } from "../inputs";
import { Value } from "../parts/Value";
import { isUnfinished } from "../runs";
import { RecordedError } from "./RecordedError";

type Payload = "input" | "output";

export function RunPane({ run }: { run: Run }) {
  return (
    <aside class="pane" aria-label="The run">
      {run.error && (
        <section>
          <h2>Error</h2>
          <RecordedError error={run.error} />
        </section>
      )}
      <PayloadOf run={run} of="output" />
      <PayloadOf run={run} of="input" />
      {run.events.length > 0 && isUnfinished(run.status) && (
        <section>
          <h2>Events</h2>
          {run.events.map((one) => (
            <div key={one.key}>
              <h3 class="wrap">{one.key}</h3>
              <Value label={`Event ${one.key}`} preview={one.value} />
            </div>
          ))}
        </section>
      )}
    </aside>
  );
}

function PayloadOf({ run, of }: { run: Run; of: Payload }) {
  const preview = run[of];
  if (!preview) return null;
  const load = async (): Promise<Preview> => (await api.get("value", { id: run.workflow_id, of })) ?? preview;
  return (
    <section>
      <h2>{of === "input" ? "Input" : "Output"}</h2>
      <Value label={of === "input" ? "Input" : "Output"} preview={of === "input" ? readableInput(preview) : preview} load={load} />
    </section>
  );
}
