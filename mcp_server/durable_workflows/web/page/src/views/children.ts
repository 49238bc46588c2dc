/** The child runs of other runs, shown below them when the user opens them. */

import { signal, type Signal } from "@preact/signals";
import { useMemo } from "preact/hooks";

import type { RunSummary } from "../api";
import { api } from "../data";
import { attempt } from "../runs";
import type { RowData } from "./runrow";

const MOST = 200; // of one run

/** The known children of an open run: null until they have come. */
export type Family = { runs: readonly RunSummary[]; parents: ReadonlySet<string>; more: boolean } | null;

export interface Children {
  open: Signal<ReadonlyMap<string, Family>>;
  toggle(workflowId: string): void;
  /** Read the open ones again. */
  refresh(): void;
}

export function useChildren(): Children {
  return useMemo(() => {
    const open = signal<ReadonlyMap<string, Family>>(new Map());
    const read = async (id: string): Promise<boolean> => {
      const found = await api.get("runs", { parent: id, oldest_first: true, limit: MOST });
      const family = { runs: found.workflows, parents: new Set(found.parents), more: found.next_cursor !== null };
      if (open.value.has(id)) open.value = new Map(open.value).set(id, family);
      return true;
    };
    return {
      open,
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

/** The rows of the list: below each open run its child runs. */
export function flattened(runs: readonly RunSummary[], parents: ReadonlySet<string>, open: ReadonlyMap<string, Family>, depth = 0): RowData[] {
  return runs.flatMap((run) => {
    const family = open.get(run.workflow_id);
    const own: RowData = { key: run.workflow_id, run, depth, isParent: parents.has(run.workflow_id) };
    if (family === undefined) return own;
    const below = family ? flattened(family.runs, family.parents, open, depth + 1) : [];
    return [own, ...below, ...note(run.workflow_id, family, depth + 1)];
  });
}

/** A row that says which children are not shown. */
function note(parent: string, family: Family, depth: number): RowData[] {
  const text = family === null ? "Loading …" : family.runs.length === 0 ? "It has started no other run." : family.more ? "Show all that it started" : null;
  return text === null ? [] : [{ key: `${parent} note`, note: text, parent: family?.more ? parent : undefined, depth }];
}
