/** The steps of a run: all of them, fetched in pages, then only the possibly new ones. */

import { useRef } from "preact/hooks";

import type { RunShown, Step } from "../api";
import { api, type Resource, useFetched } from "../data";

const PAGE = 500;
/** How many of the last steps are fetched again: if steps run side by side, an earlier one may end later. */
const TAIL = 50;

export interface Followed extends RunShown {
  steps: readonly Step[];
}

/** A run with all of its steps, live. */
export function useRun(workflowId: string): Resource<Followed> {
  const known = useRef<{ id: string; steps: readonly Step[] }>({ id: workflowId, steps: [] });
  const fetch = async (): Promise<Followed> => {
    const before = known.current.id === workflowId ? known.current.steps : [];
    const [shown, steps] = await Promise.all([
      api.get("run", { id: workflowId }),
      stepsOf(workflowId, before),
    ]);
    known.current = { id: workflowId, steps };
    return { ...shown, steps };
  };
  return useFetched(`run/${workflowId}`, fetch, { runs: [workflowId] });
}

/** All steps, of which some are already known. */
async function stepsOf(workflowId: string, known: readonly Step[]): Promise<readonly Step[]> {
  const from = known.at(-TAIL)?.step ?? 0;
  const kept = known.filter((one) => one.step < from);
  const found = await after(workflowId, Math.max(0, from - 1));
  if (kept.length + found.steps.length === found.total) return [...kept, ...found.steps];
  return kept.length === 0 ? found.steps : (await after(workflowId, 0)).steps;
}

async function after(workflowId: string, step: number): Promise<{ steps: Step[]; total: number }> {
  const steps: Step[] = [];
  for (;;) {
    const last = steps.at(-1)?.step ?? step;
    const page = await api.get("steps", { id: workflowId, after: last, limit: PAGE });
    steps.push(...page.steps);
    if (page.steps.length < PAGE) return { steps, total: page.total };
  }
}
