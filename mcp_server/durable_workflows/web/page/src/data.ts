/** The page's only data layer: typed calls of the API, and changes from one stream for the whole page. */

import { signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import type { Gets, News, Posts } from "./api";
import { app, view } from "./app";
import { ApiError, browser, type Host, type Watch } from "./host";

export { ApiError, type Gets, type News, type Watch };

/** Parameters of a GET; those that are undefined, null, false or "" are left out. */
export type Params = Readonly<Record<string, string | number | boolean | null | undefined>>;

const host: Host = view === undefined ? browser : app;

/** Where a person answers. */
export const place = host.place;

export const api = {
  /** Throws ApiError. */
  async get<P extends keyof Gets>(path: P, params: Params = {}): Promise<Gets[P]> {
    return (await host.get(path, query(params))) as Gets[P];
  },
  /** As `get`, for data without a type here. */
  async ask<T>(path: string, params: Params = {}): Promise<T> {
    return (await host.get(path, query(params))) as T;
  },
  /** Throws ApiError. */
  async post<P extends keyof Posts>(path: P, body: Posts[P][0]): Promise<Posts[P][1]> {
    return (await host.post(path, body)) as Posts[P][1];
  },
  /** The address of a download for the browser; null where downloads are not possible. */
  address: (path: string, params: Params = {}): string | null => host.address(path, query(params)),
};

function query(params: Params): URLSearchParams {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== false && value !== "") {
      found.set(name, value === true ? "1" : String(value));
    }
  }
  return found;
}

// --- Changes

/** Whether the server is reachable; null until that is known. */
export const connected = signal<boolean | null>(null);

interface Listener {
  watch: Watch;
  tell: (news: News) => void;
}

/**
 * One stream for everything on screen. It is reopened when other things come on screen. After each opening all listeners look
 * again, since changes in between were missed. A hidden page listens to nothing: a browser has few connections
 * to one server, and hidden pages would use them up.
 */
class Live {
  private readonly listeners = new Set<Listener>();
  private close: (() => void) | null = null;
  private asked = "";
  private planned = false;

  constructor() {
    document.addEventListener("visibilitychange", () => this.plan());
  }

  /** Call `tell` when something in this has changed, or may have, until the returned function is called. */
  listen(watch: Watch, tell: (news: News) => void): () => void {
    const listener = { watch, tell };
    this.listeners.add(listener);
    this.plan();
    return () => {
      this.listeners.delete(listener);
      this.plan();
    };
  }

  /** Once, after all changes of this moment: views come and go together. */
  private plan(): void {
    if (this.planned) return;
    this.planned = true;
    queueMicrotask(() => {
      this.planned = false;
      this.reopen();
    });
  }

  private reopen(): void {
    const watch = this.union();
    const asked = document.hidden ? "" : JSON.stringify(watch);
    if (asked === this.asked) return;
    this.asked = asked;
    this.close?.();
    this.close = asked ? host.changes(watch, (news) => this.tell(news), (open) => this.state(open, watch)) : null;
  }

  private union(): Required<Watch> {
    const all = [...this.listeners].map((one) => one.watch);
    return {
      runs: [...new Set(all.flatMap((one) => one.runs ?? []))].sort(),
      list: all.some((one) => one.list),
      waits: all.some((one) => one.waits),
    };
  }

  private state(open: boolean, watch: Required<Watch>): void {
    connected.value = open;
    if (open) this.tell({ runs: watch.runs, list: watch.list, waits: watch.waits });
  }

  private tell(news: News): void {
    const runs = new Set(news.runs);
    for (const { watch, tell } of [...this.listeners]) {
      const concerns = (watch.list && news.list) || (watch.waits && news.waits) || watch.runs?.some((id) => runs.has(id));
      if (concerns) tell(news);
    }
  }
}

export const live = new Live();

/** Call `tell` when something in `watch` has changed, while the component is on screen. */
export function useChanges(watch: Watch, tell: (news: News) => void): void {
  const latest = useRef(tell);
  latest.current = tell;
  const key = JSON.stringify(watch);
  useEffect(() => live.listen(JSON.parse(key) as Watch, (news) => latest.current(news)), [key]);
}

/** Data and their state: `data` stays while newer data are fetched, so that nothing on the page jumps. */
export interface Resource<T> {
  data: T | undefined;
  error: ApiError | undefined;
  /** Whether `data` belong to other parameters than the present ones. */
  stale: boolean;
  reload(): void;
}

/** The answer of a GET, fetched again when `watch` has changed; nothing is fetched while `params` is null. */
export function useGet<P extends keyof Gets>(path: P, params: Params | null, watch: Watch): Resource<Gets[P]> {
  const key = params ? `${path}?${query(params)}` : null;
  return useFetched(key, () => api.get(path, params ?? {}), watch);
}

interface Fetched<T> {
  key: string | null;
  data?: T;
  error?: ApiError;
}

/**
 * As `useGet`, for any `fetch`; `key` names it. There is one fetch at a time: changes during a fetch cause another one after it.
 * A wait may be over before the next look of the host, which then reports nothing, and a fetch may have met it. So waits are
 * fetched again when they are new, until two answers so far apart are the same.
 */
export function useFetched<T>(key: string | null, fetch: () => Promise<T>, watch: Watch): Resource<T> {
  const state = useSignal<Fetched<T>>({ key: null });
  const latest = useRef({ key, fetch });
  latest.current = { key, fetch };
  const flow = useRef<Flow>({ busy: false, again: false, fleeting: watch.waits ?? false, timer: undefined });
  const load = (): void => {
    void fetchOnce(latest.current, flow.current, state, () => latest.current, load);
  };
  useEffect(load, [key]);
  useEffect(() => () => window.clearTimeout(flow.current.timer), []);
  useChanges(watch, load);
  const { data, error } = state.value;
  return { data, error, stale: state.value.key !== key, reload: load };
}

interface Flow {
  busy: boolean;
  again: boolean;
  /** Whether what is fetched may be over before a look. */
  fleeting: boolean;
  timer: number | undefined;
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

interface Asked<T> {
  key: string | null;
  fetch: () => Promise<T>;
}

async function fetchOnce<T>(
  { key, fetch }: Asked<T>,
  flow: Flow,
  state: { value: Fetched<T> },
  latest: () => Asked<T>,
  load: () => void,
): Promise<void> {
  if (key === null) return;
  if (flow.busy) {
    flow.again = true;
    return;
  }
  flow.busy = true;
  try {
    const data = await fetch();
    if (latest().key !== key) return;
    if (flow.fleeting && !isSame(state.value.data, data)) {
      window.clearTimeout(flow.timer);
      flow.timer = window.setTimeout(load, host.blindMs);
    }
    state.value = { key, data };
  } catch (error) {
    const problem = asApiError(error);
    if (latest().key === key) state.value = failed(state.value, key, problem);
  } finally {
    flow.busy = false;
    if (flow.again) {
      flow.again = false;
      load();
    }
  }
}

/** A short absence of the server removes nothing from the screen: the banner reports it. */
function failed<T>(before: Fetched<T>, key: string, error: ApiError): Fetched<T> {
  if (error.status === 0 && before.key === key && before.data !== undefined) return before;
  return before.key === key && error.status !== 404 ? { ...before, error } : { key, error };
}

/** An error of a call in a form that can be shown; any other error is a bug, and stays one. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  throw error;
}
