/** Facts about runs: their statuses, and the actions on them. */

import type { Changed, ChangedList, ForkBody } from "./api";
import { api, asApiError } from "./data";
import { confirm } from "./parts/Dialog";
import { toast, toastError } from "./parts/Toasts";
import { go, href, runHref } from "./routes";
import { askFork } from "./run/fork";
import { counted } from "./words";

export const STATUSES = [
  "PENDING",
  "ENQUEUED",
  "DELAYED",
  "SUCCESS",
  "ERROR",
  "CANCELLED",
  "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
] as const;

const UNFINISHED = new Set(["PENDING", "ENQUEUED", "DELAYED"]);
const STOPPED = new Set(["CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]);

export const isUnfinished = (status: string): boolean => UNFINISHED.has(status);
/** Whether `resume` has an effect on a run. */
export const isStopped = (status: string): boolean => STOPPED.has(status);

const WOULD_REPEAT = 409; // the status of such a refusal
const MOST_AT_ONCE = 200; // runs in one call, as in web/shapes.py

type Change = "cancel" | "resume" | "delete";

interface Wording {
  title: string;
  button: string;
  done: string;
  body: string;
  children: string;
}

const WORDS: Record<Change, Wording> = {
  cancel: {
    title: "Cancel",
    button: "Cancel",
    done: "cancelled",
    body: "A step that is under way runs until it returns. A cancelled run can be resumed.",
    children: "Also the runs that they started",
  },
  resume: {
    title: "Resume",
    button: "Resume",
    done: "resumed",
    body: "They go on after the last finished step.",
    children: "Also the stopped runs that they started",
  },
  delete: {
    title: "Delete",
    button: "Delete",
    done: "deleted",
    body: "All that is recorded of them is removed, for good. Runs that have not ended are left.",
    children: "Also the runs that they started",
  },
};

/** Ask, then cancel, resume or delete these runs, and report the outcome. True if something was changed. */
export async function change(what: Change, workflowIds: readonly string[]): Promise<boolean> {
  const words = WORDS[what];
  const which = workflowIds.length === 1 ? (workflowIds[0] ?? "") : counted(workflowIds.length, "run");
  const answer = await confirm({
    title: `${words.title} ${which}?`,
    body: words.body,
    action: workflowIds.length === 1 ? `${words.button} run` : `${words.button} ${which}`,
    keep: "Leave as is",
    danger: what !== "resume",
    option: words.children,
    optionOn: what !== "resume",
  });
  if (!answer) return false;
  return attempt(async () => {
    const found = await changed(what, workflowIds, answer.option);
    tell(found, words.done);
    return found.workflows.some((one) => one.changed);
  });
}

async function changed(what: Change, workflowIds: readonly string[], children: boolean): Promise<ChangedList> {
  const workflows: Changed[] = [];
  const notes = new Set<string>();
  for (let from = 0; from < workflowIds.length; from += MOST_AT_ONCE) {
    const part = await api.post(what, { workflow_ids: workflowIds.slice(from, from + MOST_AT_ONCE), children });
    workflows.push(...part.workflows);
    if (part.note) notes.add(part.note);
  }
  return { workflows, note: [...notes].join(" ") || null };
}

function tell(found: ChangedList, done: string): void {
  const changed = found.workflows.filter((one) => one.changed);
  const left = found.workflows.filter((one) => !one.changed);
  const notes = [...new Set(left.map((one) => one.note)), ...(found.note ? [found.note] : [])];
  if (changed.length) toast(`${counted(changed.length, "run")} ${done}.`, notes.slice(0, 3).join(" "));
  else toast(`Nothing was ${done}.`, notes.slice(0, 3).join(" "), "warning");
}

/** Ask, then fork the run from a step, and go to the new run. `proposed` is what the dialog begins with. */
export async function fork(workflowId: string, fromStep: number, proposed: Pick<ForkBody, "cancel_original"> = {}): Promise<void> {
  const body = await askFork({ ...proposed, workflow_id: workflowId, from_step: fromStep });
  if (!body) return;
  await attempt(async () => {
    const forked = await api.post("fork", body).catch(async (error: unknown) => ((await twice(error, "Fork")) ? api.post("fork", { ...body, anyway: true }) : null));
    if (!forked) return false;
    toast("Forked: this is the new run.", forked.note ?? undefined);
    go(runHref(forked.workflow_id));
    return true;
  });
}

/** Ask, then let the same run go again from a step. */
export async function rewind(workflowId: string, toStep: number): Promise<void> {
  const answer = await confirm({
    title: `Rewind to step ${toStep}?`,
    body: `${workflowId} goes again from step ${toStep}, and asks again what it asked from there on. What it has done is kept as another run.`,
    action: "Rewind",
    keep: "Leave as is",
    option: "With the newest version of the code",
  });
  if (!answer) return;
  const body = { workflow_id: workflowId, to_step: toStep, latest_version: answer.option };
  await attempt(async () => {
    const rewound = await api.post("rewind", body).catch(async (error: unknown) => ((await twice(error, "Rewind")) ? api.post("rewind", { ...body, anyway: true }) : null));
    if (!rewound) return false;
    toast(`Rewound to step ${toStep}.`, `What it had done is ${rewound.kept_as}. ${rewound.note ?? ""}`.trim());
    go(runHref(workflowId));
    return true;
  });
}

/** Ask whether to repeat what must not happen twice, if that was why it was refused. */
async function twice(error: unknown, what: string): Promise<boolean> {
  const refused = asApiError(error);
  if (refused.status !== WOULD_REPEAT || !refused.message.includes("must not happen twice")) throw refused;
  const question = { title: "Do it twice?", body: refused.message, action: `${what}, and do it again`, keep: "Leave as is", danger: true };
  return (await confirm(question)) !== null;
}

/** Do something that the server may refuse, and report a refusal. */
export async function attempt(act: () => Promise<boolean>): Promise<boolean> {
  try {
    return await act();
  } catch (error) {
    toastError(asApiError(error));
    return false;
  }
}

/** The page on which a run waits for an answer. */
export const inboxHref = (workflowId: string, step?: number): string =>
  href("inbox", [], step === undefined ? { run: workflowId } : { run: workflowId, step: String(step) });
