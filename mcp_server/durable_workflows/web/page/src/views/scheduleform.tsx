/** The form that has a workflow started at given times, with the arguments that are filled in above it. */

import { useSignal } from "@preact/signals";

import type { JsonValue, ScheduleRequest } from "../api";
import { api, type ApiError, asApiError } from "../data";
import { Failure } from "../parts/Failure";
import { Form, useForm } from "../parts/Form";
import { toast } from "../parts/Toasts";
import { go, href } from "../routes";

const WHEN = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 80, description: "A name for the schedule." },
    cron: {
      type: "string",
      maxLength: 80,
      description: "A cron expression of five fields, or of six, the first for seconds.",
      examples: ["0 3 * * *"],
    },
    timezone: { type: "string", maxLength: 80, description: "An IANA time zone." },
    missed: { enum: ["skip", "last", "all"], default: "skip", description: "What happens to times that passed while no worker ran." },
    replace: { type: "boolean", default: false, description: "Change the schedule of that name." },
  },
  required: ["name", "cron", "timezone"],
};

type Arguments = Pick<ScheduleRequest, "args" | "queue" | "priority">;

interface ScheduleFormProps {
  workflow: string;
  /** The arguments, and how its runs are started; null: they are not complete. */
  submit: () => Arguments | null;
}

export function ScheduleForm({ workflow, submit }: ScheduleFormProps) {
  const when = useForm(`when ${workflow}`, WHEN, { timezone: Intl.DateTimeFormat().resolvedOptions().timeZone });
  const error = useSignal<ApiError | undefined>(undefined);
  const busy = useSignal(false);
  const make = async (): Promise<void> => {
    const [given, found] = [submit(), when.submit()];
    if (!given || !found) return;
    busy.value = true;
    try {
      await made({ ...asWhen(found.value), ...given, workflow });
    } catch (problem) {
      error.value = asApiError(problem);
    } finally {
      busy.value = false;
    }
  };
  return (
    <details class="more">
      <summary>At given times</summary>
      <Form form={when} label="At given times" plain />
      {error.value && <Failure error={error.value} />}
      <button type="button" class="button" disabled={busy.value} onClick={() => void make()}>
        {busy.value ? "Making …" : "Make a schedule"}
      </button>
    </details>
  );
}

type When = Pick<ScheduleRequest, "name" | "cron" | "timezone" | "missed" | "replace">;

/** What the form gives has the shape of its schema. */
function asWhen(value: JsonValue): When {
  return value as unknown as When;
}

async function made(request: ScheduleRequest): Promise<void> {
  const found = await api.post("create_schedule", request);
  const next = found.schedules[0]?.next_times[0];
  toast(found.existing ? `${request.name} was there already.` : `${request.name} is made.`, next && `It starts at ${next} next.`);
  go(href("system"));
}
