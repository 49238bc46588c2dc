/** The log of a run: fetched once, then only new lines. */

import { useRef } from "preact/hooks";

import type { LogLine } from "../api";
import { api, type Resource, useFetched } from "../data";

/** How many of the newest lines are fetched. */
const LINES = 2000;

/** The log's newest lines, oldest first, live. */
export function useLog(workflowId: string): Resource<readonly LogLine[]> {
  const known = useRef<{ id: string; lines: readonly LogLine[] }>({ id: workflowId, lines: [] });
  const fetch = async (): Promise<readonly LogLine[]> => {
    const before = known.current.id === workflowId ? known.current.lines : [];
    const after = before.at(-1)?.id ?? 0;
    const lines = [...before, ...(await api.get("log", { id: workflowId, after, limit: LINES }))];
    known.current = { id: workflowId, lines };
    return lines;
  };
  return useFetched(`log/${workflowId}`, fetch, { runs: [workflowId] });
}
