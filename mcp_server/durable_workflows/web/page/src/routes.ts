/** The address: `#/view/part/part?name=value`. It holds all choices within a view, so that a link brings the view back. */

import { signal } from "@preact/signals";

import { view as embedded } from "./app";

export const VIEWS = ["inbox", "runs", "run", "compare", "start", "system"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  view: View;
  parts: readonly string[];
  params: URLSearchParams;
}

export const HOME: View = "runs";

/** Inside a client the page has no address: where one is is known here only. */
export const hasAddress = embedded === undefined;

export const route = signal<Route>(parsed(hasAddress ? location.hash : ""));

/** The address of a view, for a link. */
export function href(view: View, parts: readonly string[] = [], params: Record<string, string> | URLSearchParams = {}): string {
  const path = [view, ...parts.map(encodeURIComponent)].join("/");
  const query = new URLSearchParams(params).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

/** The address of a run, or of one of its steps. */
export function runHref(workflowId: string, step?: number): string {
  return href("run", [workflowId], step === undefined ? {} : { step: String(step) });
}

/** Go to an address that `href` made. */
export function go(address: string): void {
  if (hasAddress) location.hash = address;
  else route.value = parsed(address);
}

/** Another choice within the same view, without a new entry in the history. After a click, the address may be ahead of `route`. */
export function setParams(changes: Readonly<Record<string, string | null>>): void {
  const { view, parts, params } = hasAddress ? parsed(location.hash) : route.value;
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(name);
    else next.set(name, value);
  }
  if (hasAddress) history.replaceState(null, "", href(view, parts, next));
  route.value = { view, parts, params: next };
}

export function parsed(hash: string): Route {
  const [path = "", query = ""] = split(hash.replace(/^#\/?/, ""));
  const [view = "", ...parts] = path.split("/").map(decoded);
  const known = VIEWS.find((one) => one === view);
  return { view: known ?? HOME, parts: known ? parts : [], params: new URLSearchParams(query) };
}

function split(text: string): [string, string] {
  const at = text.indexOf("?");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // not one of our addresses
  }
}

if (hasAddress) {
  window.addEventListener("hashchange", () => {
    route.value = parsed(location.hash);
  });
}
