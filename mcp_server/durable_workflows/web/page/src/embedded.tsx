/** What is different inside a client: where the page opens, and what its frame does not do. */

import { type Shown, call, view } from "./app";
import { api, ApiError } from "./data";
import { Empty } from "./parts/Empty";
import { type Params, isParams } from "./peer";
import { go, href, runHref } from "./routes";

const FAILED = new Set(["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]);
const FILTERS = ["status", "name", "version", "started_by", "text"];

/** The address of what the tool's call was about. Throws PeerError where the client does not answer. */
export async function opening(): Promise<string> {
  const shown = await call();
  if (view === "run") {
    const id = runOf(shown);
    return id === null ? href("runs") : runHref(id);
  }
  const { input } = shown;
  if (input["waiting"] === true || (await somethingWaits())) return href("inbox");
  const filters = FILTERS.flatMap((name) => (typeof input[name] === "string" ? [[name, input[name]]] : []));
  return href("runs", [], Object.fromEntries(filters) as Record<string, string>);
}

async function somethingWaits(): Promise<boolean> {
  try {
    return (await api.get("waits")).length > 0;
  } catch (error) {
    if (error instanceof ApiError) return false; // the view reports it too
    throw error;
  }
}

/** The run: that of the arguments or of the answer, and of several the one that most needs a person. */
function runOf({ input, result }: Shown): string | null {
  const waiting = idsIn(result["waiting"]);
  const failed = idsIn(result["done"], (one) => FAILED.has(String(one["status"])));
  const others = [...idsIn(result["running"]), ...idsIn(result["done"])];
  const asked = Array.isArray(input["workflow_ids"]) ? input["workflow_ids"] : [];
  const found = [input["workflow_id"], result["workflow_id"], ...waiting, ...failed, ...others, ...asked];
  return found.find((one) => typeof one === "string") ?? null;
}

function idsIn(items: unknown, wanted: (one: Params) => boolean = () => true): unknown[] {
  const found: unknown[] = Array.isArray(items) ? items : [];
  return found.filter(isParams).filter(wanted).map((one) => one["workflow_id"]);
}

/** Links in the frame would lead to the client's own address, and its rules may forbid forms. */
export function fitIntoFrame(): void {
  document.addEventListener("click", (event) => {
    const at = event.target instanceof Element ? event.target : null;
    const address = at?.closest("a")?.getAttribute("href");
    const button = at?.closest("button");
    if (address) {
      event.preventDefault();
      if (address.startsWith("#")) go(address);
    } else if (button?.type === "submit" && button.form) {
      event.preventDefault();
      button.form.dispatchEvent(new SubmitEvent("submit", { bubbles: true, cancelable: true, submitter: button }));
    }
  });
}

export function Unanswered() {
  return (
    <Empty title="The client that shows this page does not answer it.">
      <p>
        The page can be opened in a browser: <code>durable-workflows dashboard --web</code>
      </p>
    </Empty>
  );
}
