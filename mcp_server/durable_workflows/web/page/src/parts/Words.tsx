/** The engine's text about a run, with each call in it as a button or a link that does it here. */

import type { JsonValue, Part } from "../api";
import { change, fork, inboxHref } from "../runs";
import { href, runHref } from "../routes";
import { Time } from "./Time";

type Args = { [name: string]: JsonValue };

/** A part of a text that can be done here: its target, or its effect. */
export type Deed = { label: string; href: string } | { label: string; act: () => void };

export function Words({ parts }: { parts: readonly Part[] }) {
  return (
    <span class="words wrap">
      {parts.map((part, place) => (
        <Word key={place} part={part} />
      ))}
    </span>
  );
}

function Word({ part }: { part: Part }) {
  if (part.action === "wait_for_workflows") return <>wait</>; // the page waits by itself
  const deed = part.action ? deedOf(part.action, part.args ?? {}) : null;
  if (!deed) return <Text text={part.text} />;
  return <DeedButton deed={deed} title={part.text} />;
}

/** The engine's moments are in UTC; here they are in the reader's zone. */
function Text({ text }: { text: string }) {
  return (
    <>
      {text.split(/(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC)/).map((piece, place) =>
        place % 2 ? <Time key={place} at={piece.replace(" UTC", "Z").replace(" ", "T")} /> : piece,
      )}
    </>
  );
}

export function DeedButton({ deed, title, primary = false }: { deed: Deed; title?: string; primary?: boolean }) {
  const look = `button small ${primary ? "primary" : ""}`;
  if ("href" in deed) {
    return (
      <a class={look} href={deed.href} title={title}>
        {deed.label}
      </a>
    );
  }
  return (
    <button type="button" class={look} title={title} onClick={deed.act}>
      {deed.label}
    </button>
  );
}

/** How the page does what a tool does; null if there is nothing to do, as for `wait_for_workflows`: the page waits by itself. */
export function deedOf(action: string, args: Args): Deed | null {
  return DEEDS[action]?.(args) ?? null;
}

const DEEDS: Readonly<Record<string, (args: Args) => Deed | null>> = {
  inspect: inspected,
  resume: (args) => ({ label: "Resume", act: () => void change("resume", ids(args)) }),
  cancel: (args) => ({ label: "Cancel run", act: () => void change("cancel", ids(args)) }),
  delete_workflows: (args) => ({ label: "Delete run", act: () => void change("delete", ids(args)) }),
  fork: forked,
  start_workflow: started,
  send_message: (args) => ({ label: "Answer", href: inboxHref(text(args["workflow_id"])) }),
  resolve_step: (args) => ({ label: "Say what happened", href: inboxHref(text(args["workflow_id"]), number(args["step"])) }),
  answer_in_person: (args) => ({ label: "Answer", href: inboxHref(text(args["workflow_id"])) }),
  server_status: () => ({ label: "Open System", href: href("system") }),
  list_workflows: (args) => ({ label: "Show these runs", href: href("runs", [], strings(args)) }),
};

function inspected(args: Args): Deed {
  const id = text(args["workflow_id"]);
  const step = args["step"];
  if (typeof step === "number" && step > 0) return { label: `Open step ${step}`, href: runHref(id, step) };
  return { label: step === 0 ? "Show the output" : `Open ${id}`, href: href("run", [id], extra(args)) };
}

/** The requested part of a run, apart from its id: `source`, `messages`, `log` and so on. */
function extra(args: Args): Record<string, string> {
  const { workflow_id: _id, ...others } = args;
  return strings(others);
}

function forked(args: Args): Deed | null {
  const step = args["from_step"];
  if (typeof step !== "number") return null;
  return { label: `Fork from step ${step}`, act: () => void fork(text(args["workflow_id"]), step) };
}

function started(args: Args): Deed | null {
  const name = args["name"];
  if (typeof name !== "string") return null;
  const given = args["args"];
  return { label: `Start ${name}`, href: href("start", [name], given ? { args: JSON.stringify(given) } : {}) };
}

function ids(args: Args): string[] {
  const given = args["workflow_ids"];
  return Array.isArray(given) ? given.map(text) : [text(args["workflow_id"])];
}

function number(value: JsonValue | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}

function text(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

function strings(args: Args): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(args)) {
    if (value !== null && typeof value !== "object") found[name] = String(value);
  }
  return found;
}
