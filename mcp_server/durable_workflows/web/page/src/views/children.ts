/** The runs that other runs started, shown below them when somebody opens them. */

import { signal, type Signal } from "@preact/signals";
import { useMemo } from "preact/hooks";

import type { RunSummary } from "../api";
import { api } from "../data";
import { attempt } from "../runs";
import type { RowData } from "./runrow";

const MOST = 200; // of one run

/** What is known of the children of a run that is open: null until they have come. */
export type Family = { runs: readonly RunSummary[]; more: boolean } | null;

export interface Children {
  open: Signal<ReadonlyMap<string, Family>>;
  /** Whether the run has started others, as far as that is known. */
  has(workflowId: string): boolean;
  toggle(workflowId: string): void;
  /** Read those that are open again. */
  refresh(): void;
}

export function useChildren(): Children {
  return useMemo(() => {
    const open = signal<ReadonlyMap<string, Family>>(new Map());
    const read = async (id: string): Promise<boolean> => {
      const found = await api.get("runs", { parent: id, oldest_first: true, limit: MOST });
      if (open.value.has(id)) open.value = new Map(open.value).set(id, { runs: found.workflows, more: found.next_cursor !== null });
      return true;
    };
    return {
      open,
      has: () => true,
      toggle(id) {
        const next = new Map(open.value);
        if (!next.delete(id)) next.set(id, null);
        open.value = next;
        if (next.has(id)) void attempt(() => read(id));
      },
      refresh() {
        for (const id of open.value.keys()) void attempt(() => read(id));
      },
    };
  }, []);
}

/** The rows of the list: below each open run those that it started. */
export function flattened(runs: readonly RunSummary[], open: ReadonlyMap<string, Family>, depth = 0): RowData[] {
  if (open.size === 0 && depth === 0) return runs.map((run) => ({ key: run.workflow_id, run, depth }));
  return runs.flatMap((run) => {
    const family = open.get(run.workflow_id);
    const own: RowData = { key: run.workflow_id, run, depth };
    if (family === undefined) return [own];
    const rest = note(run.workflow_id, family, depth + 1);
    return [own, ...flattened(family?.runs ?? [], open, depth + 1), ...rest];
  });
}

/** A row that says what is not shown of the children. */
function note(parent: string, family: Family, depth: number): RowData[] {
  const text = family === null ? "Loading …" : family.runs.length === 0 ? "It has started no other run." : family.more ? "Show all that it started" : null;
  return text === null ? [] : [{ key: `${parent} note`, note: text, parent: family?.more ? parent : undefined, depth }];
}
