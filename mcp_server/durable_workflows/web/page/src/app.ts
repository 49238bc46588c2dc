/** The page inside a client, as an MCP App: its data come by calls of a tool, which the client passes on, and its look follows the client's. */

import type { MarksShown, News, Posts } from "./api";
import { ApiError, type Host, type Watch } from "./host";
import { type Params, Peer, PeerError, isParams } from "./peer";
import { followClient } from "./theme";

const PROTOCOL = "2026-01-26";
const TOOL = "page";
const NONCES = "durable-workflows/nonces";
const HEIGHT = 620; // pixels that the page would like to have
const PATIENCE_MS = 4000; // after which a client that does not answer is said to be silent
const INPUT_MS = 3000; // after which a client that has not said which call this shows will not
const POLL_MS = 1500;
const SLOWEST_MS = 10_000;

/** What the page shows first, where it is inside a client. */
export const view: string | undefined = document.documentElement.dataset["app"];

/** The call of a tool that this page shows: its arguments, and what it answered. */
export interface Shown {
  input: Params;
  result: Params;
}

const shown: Shown = { input: {}, result: {} };
let settle = (): void => undefined;
const settled = new Promise<void>((resolve) => (settle = resolve));
const peer = new Peer(window.parent, { request: answered, notified });

function answered(method: string): object | undefined {
  return method === "ping" || method === "ui/resource-teardown" ? {} : undefined;
}

function notified(method: string, params: Params): void {
  switch (method) {
    case "ui/notifications/tool-input":
      if (isParams(params["arguments"])) shown.input = params["arguments"];
      if (typeof shown.input["workflow_id"] === "string" || view === "inbox") settle();
      break;
    case "ui/notifications/tool-result":
      if (isParams(params["structuredContent"])) shown.result = params["structuredContent"];
      settle();
      break;
    case "ui/notifications/tool-cancelled":
      settle();
      break;
    case "ui/notifications/host-context-changed":
      followClient(params);
      break;
  }
}

// The handshake

const connected: Promise<void> = view === undefined ? Promise.resolve() : connect();

async function connect(): Promise<void> {
  peer.listen();
  const found = await peer.request("ui/initialize", {
    protocolVersion: PROTOCOL,
    appInfo: { name: "durable-workflows", version: "1" },
    appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
  });
  const context = isParams(found) && isParams(found["hostContext"]) ? found["hostContext"] : {};
  followClient(context);
  peer.notify("ui/notifications/initialized");
  const height = heightIn(context["containerDimensions"]);
  if (height !== null) peer.notify("ui/notifications/size-changed", { height });
}

/** How high the page would like to be; null where that is not for it to say. */
function heightIn(dimensions: unknown): number | null {
  if (!isParams(dimensions)) return HEIGHT;
  const { height, maxHeight } = dimensions;
  if (typeof height === "number") return null;
  return typeof maxHeight === "number" ? Math.min(HEIGHT, maxHeight) : HEIGHT;
}

/** Call `tell` if the client has not answered after a while. It may still do so. */
export function ifSilent(tell: () => void): void {
  const timer = window.setTimeout(tell, PATIENCE_MS);
  const stop = (): void => window.clearTimeout(timer);
  connected.then(stop, stop);
}

/** The call that this shows, as far as the client tells it. Throws PeerError where the client does not answer. */
export async function call(): Promise<Shown> {
  await connected;
  await Promise.race([settled, new Promise((resolve) => window.setTimeout(resolve, INPUT_MS))]);
  return shown;
}

// The data

export const app: Host = {
  place: "in this client, which counts less than in a terminal",
  blindMs: 1.2 * SLOWEST_MS,
  get: async (path, params) => (await asked(path, Object.fromEntries(params))).answer,
  post: async (path, body) => (await asked(path, body, path === "answer" ? await nonceOf(body as Posts["answer"][0]) : undefined)).answer,
  address: () => null, // nothing can be downloaded from inside a client
  changes: polled,
};

/** The nonce for a person's answer. It comes with the questions and is good for a minute, so the page asks for the questions again. */
async function nonceOf({ workflow_id: id, step }: Posts["answer"][0]): Promise<string | undefined> {
  const found = (await asked("waits", {})).meta[NONCES];
  const all: unknown[] = Array.isArray(found) ? found : [];
  const nonce = all.filter(isParams).find((one) => one["workflow_id"] === id && one["step"] === step)?.["nonce"];
  return typeof nonce === "string" ? nonce : undefined;
}

interface Answer {
  answer: unknown;
  meta: Params;
}

async function asked(path: string, given: object, nonce?: string): Promise<Answer> {
  const found = await sent({ name: TOOL, arguments: { path, given, ...(nonce === undefined ? {} : { nonce }) } });
  const content = isParams(found["structuredContent"]) ? found["structuredContent"] : {};
  if (found["isError"] === true || !("answer" in content)) throw refusal(content, found["content"]);
  return { answer: content["answer"], meta: isParams(found["_meta"]) ? found["_meta"] : {} };
}

async function sent(params: Params): Promise<Params> {
  try {
    await connected;
    const found = await peer.request("tools/call", params);
    return isParams(found) ? found : {};
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    throw new ApiError(error.message, "The page goes on by itself when its client lets it.", 0);
  }
}

function refusal(said: Params, content: unknown): ApiError {
  const { error, hint, status } = said;
  const message = typeof error === "string" ? error : (textOf(content) ?? "The client has left out the answer.");
  return new ApiError(message, typeof hint === "string" ? hint : null, typeof status === "number" ? status : 500);
}

function textOf(content: unknown): string | null {
  const first: unknown = Array.isArray(content) ? content[0] : null;
  return isParams(first) && typeof first["text"] === "string" ? first["text"] : null;
}

// What changes

/** A client passes on calls, but no news. So the page asks for changes, less often while nothing happens or the client refuses. */
function polled(watch: Watch, tell: (news: News) => void, state: (open: boolean) => void): () => void {
  let timer: number | undefined;
  let over = false;
  let before: MarksShown | null = null;
  let pause = POLL_MS;
  const look = async (): Promise<void> => {
    const found = await marks(watch);
    if (over) return;
    if (!found || !before) state(found !== null);
    const news = found && before ? difference(before, found) : null;
    if (news) tell(news);
    pause = news ? POLL_MS : Math.min(pause * (found ? 1.2 : 2), SLOWEST_MS);
    before = found;
    timer = window.setTimeout(() => void look(), pause);
  };
  void look();
  return () => {
    over = true;
    window.clearTimeout(timer);
  };
}

async function marks({ runs, list, waits }: Watch): Promise<MarksShown | null> {
  try {
    return (await asked("marks", { runs: runs ?? [], list: list ?? false, waits: waits ?? false })).answer as MarksShown;
  } catch (error) {
    if (error instanceof ApiError) return null;
    throw error;
  }
}

function difference(before: MarksShown, found: MarksShown): News | null {
  const ids = new Set([...Object.keys(before.runs), ...Object.keys(found.runs)]);
  const news = {
    runs: [...ids].filter((id) => before.runs[id] !== found.runs[id]),
    list: before.newest !== found.newest,
    waits: before.waits !== found.waits,
  };
  return news.runs.length > 0 || news.list || news.waits ? news : null;
}
