/** The source of the data: the server's own API in a browser. A client that shows the page as an MCP App gives another `Host`. */

import type { News } from "./api";

/** The things that are on screen, whose changes the page wants to know. */
export interface Watch {
  runs?: string[];
  list?: boolean;
  waits?: boolean;
}

/** A server's answer that reports an error. `status` is 0 if there was no answer. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly hint: string | null,
    readonly status: number,
  ) {
    super(message);
  }
}

export interface Host {
  get(path: string, params: URLSearchParams): Promise<unknown>;
  post(path: string, body: object): Promise<unknown>;
  /**
   * Report changes until the returned function is called. `state` is told whether the server is reachable. After it was told so,
   * the listener misses nothing that lasts for `blindMs`; it may have missed changes before.
   */
  changes(watch: Watch, tell: (news: News) => void, state: (open: boolean) => void): () => void;
  /** So far apart are the looks that find changes, at most. What begins and ends between two of them is not reported. */
  blindMs: number;
  /** The address of something to download; null where nothing can be. */
  address(path: string, params: URLSearchParams): string | null;
  /** Where a person answers, as in "recorded as given ...". */
  place: string;
}

const AGAIN_MS = 1000; // while the server is away

const AWAY = "The server does not answer.";

export const browser: Host = {
  place: "on this page",
  blindMs: 6000,
  get: (path, params) => asked(at(path, params), { method: "GET" }),
  post: (path, body) =>
    asked(`/api/${path}`, {
      method: "POST",
      referrerPolicy: "same-origin", // with none at all, browsers do not send the requested origin
      headers: { "Content-Type": "application/json", "X-Durable-Workflows": "page" },
      body: JSON.stringify(body),
    }),
  address: at,
  changes: heard,
};

function at(path: string, params: URLSearchParams): string {
  const query = params.toString();
  return `/api/${path}${query ? `?${query}` : ""}`;
}

async function asked(address: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(address, init);
  } catch {
    throw new ApiError(AWAY, "Is it still running? The page goes on by itself when it is back.", 0);
  }
  const body: unknown = await response.json().catch(() => null);
  if (response.ok) return body;
  throw refusal(body, response.status);
}

function refusal(body: unknown, status: number): ApiError {
  const said = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const message = typeof said["error"] === "string" ? said["error"] : `The server answered with status ${status}.`;
  return new ApiError(message, typeof said["hint"] === "string" ? said["hint"] : null, status);
}

/** One EventSource, reopened while the server is away: by itself it gives up after an error. */
function heard(watch: Watch, tell: (news: News) => void, state: (open: boolean) => void): () => void {
  let source: EventSource | null = null;
  let timer: number | undefined;
  const open = (): void => {
    source = new EventSource(at("changes", watched(watch)));
    source.onopen = () => state(true);
    source.addEventListener("changed", (event) => tell(JSON.parse(event.data as string) as News));
    source.onerror = () => {
      source?.close();
      state(false);
      timer = window.setTimeout(open, AGAIN_MS);
    };
  };
  open();
  return () => {
    window.clearTimeout(timer);
    source?.close();
  };
}

function watched(watch: Watch): URLSearchParams {
  const params = new URLSearchParams();
  for (const id of watch.runs ?? []) params.append("runs", id);
  if (watch.list) params.set("list", "1");
  if (watch.waits) params.set("waits", "1");
  return params;
}
