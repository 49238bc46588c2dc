/** The form that starts a workflow. */

import { useSignal } from "@preact/signals";

import type { CatalogEntry, JsonValue, StartRequest } from "../api";
import { api, type ApiError, asApiError } from "../data";
import { Failure } from "../parts/Failure";
import { Form, useForm } from "../parts/Form";
import { fieldsOf, isObject, shapeOf } from "../parts/schema";
import { submitKey } from "../parts/submit";
import { toast } from "../parts/Toasts";
import { go, runHref } from "../routes";
import { ScheduleForm } from "./scheduleform";

/** The options of a start, apart from the run's arguments: the arguments of `start_workflow`. */
const HOW = {
  type: "object",
  properties: {
    workflow_id: { type: "string", maxLength: 80, description: "Your own id. A second start with the same id finds the first run." },
    queue: { type: "string", maxLength: 80, description: "A queue that a workflow file registers." },
    priority: { type: "integer", minimum: 1, description: "1 comes first, in a queue with priorities." },
    delay_seconds: { type: "number", minimum: 0, description: "Begin so much later." },
    timeout_seconds: { type: "number", exclusiveMinimum: 0, description: "Cancel the run so long after it begins." },
  },
};

interface StartFormProps {
  entry: CatalogEntry;
  given: JsonValue | undefined;
  /** Why the arguments of another run are not available. */
  note: ApiError | undefined;
}

export function StartForm({ entry, given, note }: StartFormProps) {
  const args = useForm(entry.name, entry.args_schema, given);
  const how = useForm(`how ${entry.name}`, HOW);
  const error = useSignal<ApiError | undefined>(note);
  const busy = useSignal(false);
  const start = async (): Promise<void> => {
    const [values, settings] = [args.submit(), how.submit()];
    if (!values || !settings) return;
    busy.value = true;
    try {
      await started({ ...asRecord(settings.value), name: entry.name, args: asRecord(values.value) });
    } catch (problem) {
      error.value = asApiError(problem);
    } finally {
      busy.value = false;
    }
  };
  const scheduled = (): Pick<StartRequest, "args" | "queue" | "priority"> | null => {
    const [values, settings] = [args.submit(), how.submit()];
    if (!values || !settings) return null;
    const { queue, priority } = asRecord(settings.value) as Pick<StartRequest, "queue" | "priority">;
    return { args: asRecord(values.value), queue, priority };
  };
  const takesNothing = isEmpty(entry);
  return (
    <form
      class="start-form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void start();
      }}
      onKeyDown={submitKey}
    >
      {takesNothing ? <p class="muted">It takes no arguments.</p> : <Form form={args} label="Arguments" />}
      <details class="more">
        <summary>How it is started</summary>
        <Form form={how} label="How it is started" plain />
      </details>
      <ScheduleForm workflow={entry.name} submit={scheduled} />
      {error.value && <Failure error={error.value} />}
      <div class="row">
        <button type="submit" class="button primary" disabled={busy.value}>
          {busy.value ? "Starting …" : "Start"}
        </button>
        <span class="muted small-text">Ctrl or ⌘ and Enter starts it, too.</span>
      </div>
    </form>
  );
}

function isEmpty({ args_schema: schema }: CatalogEntry): boolean {
  const { kind } = shapeOf(schema, schema);
  return kind === "object" && fieldsOf(schema).length === 0 && schema["additionalProperties"] !== true;
}

async function started(request: StartRequest): Promise<void> {
  const found = await api.post("start", request);
  if (found.existing) toast("A run with this id was there already.", "This is that run: nothing was started.", "warning");
  go(runHref(found.workflow_id));
}

function asRecord(value: JsonValue): { [name: string]: JsonValue } {
  return isObject(value) ? value : {};
}
