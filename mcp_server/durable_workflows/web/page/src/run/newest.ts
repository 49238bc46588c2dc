/** What the dialogs about the newest code ask the server, and which of them is open. */

import { signal } from "@preact/signals";

import type { Moved, MovedList, MoveFilter } from "../api";
import { api, ApiError } from "../data";
import { counted } from "../words";
import { within } from "../patience";

/** `check`: what a run would do on the newest code. `move`: a run is moved to it. `others`: runs of other versions are, which a filter finds. */
export type AskedNewest = { what: "check"; id: string; isUnfinished: boolean } | { what: "move"; id: string } | { what: "others" };

export const asked = signal<AskedNewest | null>(null);

const LONGEST_MS = 5 * 60_000;
const MOST_AT_ONCE = 100; // runs in one call, as in engine/moving.py

/** An answer for which runs are replayed: it takes seconds. Throws ApiError, also if it takes too long. */
export function replayed<T>(answer: Promise<T>): Promise<T> {
  return within(LONGEST_MS, answer, () => new ApiError("There is no answer after five minutes.", "The replays may still go on. Look again later, or choose fewer runs.", 0));
}

/** What a move would mean for these runs. Nothing is changed. */
export function look(which: { workflow_ids: string[] } | { filter: MoveFilter }): Promise<MovedList> {
  return api.post("move", { ...which, dry_run: true });
}

/** Move the runs that were found to be safe, and no others, to the version that was looked at. */
export async function moveSafe(looked: MovedList): Promise<MovedList> {
  const { version } = looked;
  const ids = looked.workflows.filter((one) => one.verdict === "safe").map((one) => one.workflow_id);
  const found = new Map<string, Moved>(looked.workflows.map((one) => [one.workflow_id, one]));
  for (let from = 0; from < ids.length; from += MOST_AT_ONCE) {
    const part = await api.post("move", { workflow_ids: ids.slice(from, from + MOST_AT_ONCE), version, dry_run: false });
    for (const one of part.workflows) {
      if (found.get(one.workflow_id)?.verdict !== "moved") found.set(one.workflow_id, one); // a child may have been moved with an earlier part
    }
  }
  const workflows = [...found.values()];
  const moved = workflows.filter((one) => one.verdict === "moved").length;
  return { version, dry_run: false, workflows, note: `${counted(moved, "run")} moved${stayed(workflows.length - moved)}.` };
}

function stayed(number: number): string {
  if (number === 0) return "";
  return `, ${number.toLocaleString("en")} ${number === 1 ? "stays" : "stay"}`;
}
