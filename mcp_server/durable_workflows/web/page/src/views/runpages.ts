/** A list of runs, page by page, kept current: visible rows are read again after a change, the rest stays. */

import { signal } from "@preact/signals";

import type { RunsShown, RunSummary } from "../api";
import { api, type ApiError, asApiError, type Params } from "../data";

const PAGE = 200;

/** The runs between two cursors. */
interface Segment {
  cursor: string | null;
  runs: readonly RunSummary[];
}

export interface RunPagesState {
  runs: readonly RunSummary[];
  counts: Readonly<Record<string, number>>;
  waiting: number;
  /** The runs that have started others. */
  parents: ReadonlySet<string>;
  /** Whether there are no further runs. */
  complete: boolean;
  /** Whether the first page has come. */
  ready: boolean;
  error: ApiError | null;
}

const NOTHING: RunPagesState = { runs: [], counts: {}, waiting: 0, parents: new Set(), complete: false, ready: false, error: null };

export class RunPages {
  readonly state = signal<RunPagesState>(NOTHING);
  private segments: readonly Segment[] = [];
  private next: string | null = null;
  private busy = false;
  // The work after the current fetch: rows to read again, and whether to read one more page.
  private wanted: [number, number] | null = null;
  private wantsMore = false;

  /** `before` is shown until the first page comes. */
  constructor(
    private readonly params: Params,
    before: RunPagesState = NOTHING,
  ) {
    this.state.value = { ...before, ready: false };
  }

  /** Read the first page and the pages of these rows again. */
  refresh(first: number, last: number): void {
    if (this.busy) this.wanted = [first, last];
    else void this.exclusively(() => this.readAgain(first, last));
  }

  /** Read one page more, if there is one. */
  more(): void {
    if (this.busy) this.wantsMore = true;
    else if (this.next !== null) void this.exclusively(() => this.append());
  }

  private async exclusively(act: () => Promise<void>): Promise<void> {
    this.busy = true;
    try {
      await act();
    } catch (error) {
      this.state.value = { ...this.state.value, error: asApiError(error) };
    } finally {
      this.busy = false;
    }
    this.goOn();
  }

  private goOn(): void {
    const { wanted, wantsMore } = this;
    this.wanted = null;
    this.wantsMore = false;
    if (wanted) this.refresh(...wanted);
    if (wantsMore) this.more();
  }

  private async append(): Promise<void> {
    const cursor = this.next;
    const page = await this.fetch(cursor);
    const known = new Set(this.state.value.runs.map((one) => one.workflow_id));
    this.segments = [...this.segments, { cursor, runs: page.workflows.filter((one) => !known.has(one.workflow_id)) }];
    this.next = page.next_cursor;
    this.publish(page);
  }

  private async readAgain(first: number, last: number): Promise<void> {
    const page = await this.fetch(null);
    this.putFirst(page);
    this.publish(page);
    for (const at of this.segmentsOf(first, last)) {
      const segment = this.segments[at];
      if (at === 0 || !segment) continue;
      const again = await this.fetch(segment.cursor);
      this.put(at, again);
      this.publish(again);
    }
  }

  /** The newest page goes before the older runs of the first segment. If it has no run in common with them, the list begins anew. */
  private putFirst(page: RunsShown): void {
    const [first, ...others] = this.segments;
    const joined = first && page.next_cursor !== null ? joinedRuns(page.workflows, first.runs, others[0]) : null;
    if (joined) this.segments = [{ cursor: null, runs: joined }, ...others];
    else {
      this.segments = [{ cursor: null, runs: page.workflows }];
      this.next = page.next_cursor;
    }
  }

  private put(at: number, page: RunsShown): void {
    const ids = new Set(page.workflows.map((one) => one.workflow_id));
    const isLast = at === this.segments.length - 1;
    if (isLast) this.next = page.next_cursor;
    this.segments = this.segments.map((one, place) => {
      if (place === at) return { ...one, runs: page.workflows };
      return { ...one, runs: one.runs.filter((run) => !ids.has(run.workflow_id)) };
    });
  }

  private segmentsOf(first: number, last: number): number[] {
    let from = 0;
    return this.segments.flatMap(({ runs }, at) => {
      const start = from;
      from += runs.length;
      return start < last && from > first ? [at] : [];
    });
  }

  private fetch(cursor: string | null): Promise<RunsShown> {
    return api.get("runs", { ...this.params, limit: PAGE, cursor });
  }

  private publish({ counts, waiting, parents: found }: RunsShown): void {
    const runs = this.segments.flatMap((one) => one.runs);
    const parents = new Set([...this.state.peek().parents, ...found]);
    this.state.value = { runs, counts, waiting, parents, complete: this.next === null, ready: true, error: null };
  }
}

/** The runs of a newer page, followed by the known older runs; null if the two do not meet. */
function joinedRuns(newer: readonly RunSummary[], known: readonly RunSummary[], following: Segment | undefined): RunSummary[] | null {
  const last = newer.at(-1)?.workflow_id;
  const at = known.findIndex((one) => one.workflow_id === last);
  if (at >= 0) return [...newer, ...known.slice(at + 1)];
  const edge = newer.findIndex((one) => one.workflow_id === following?.runs[0]?.workflow_id);
  return edge >= 0 ? newer.slice(0, edge) : null;
}
