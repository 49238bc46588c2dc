/** The catalog, and a form to start a workflow: its arguments by its schema and, on request, the options of the start. */

import { useSignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";

import type { CatalogEntry, JsonValue, Preview } from "../api";
import { type ApiError, useFetched, api, useGet } from "../data";
import { namedArguments } from "../inputs";
import { useKeys } from "../keys";
import { Empty, Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Icon } from "../parts/Icon";
import { Title } from "../parts/Title";
import { isObject } from "../parts/schema";
import { parse } from "../parts/Value";
import { href, route } from "../routes";
import { StartForm } from "./startform";

const BUNDLED = "_bundled/"; // the beginning of the source of a bundled workflow

export function Start() {
  const { parts } = route.value;
  const name = parts[0];
  const { data, error, reload } = useGet("catalog", {}, { list: true });
  useWindowFocus(reload);
  return (
    <div class={name ? "view split one" : "view split"}>
      {error && <Failure error={error} />}
      {data ? (
        <>
          <Workflows workflows={data.workflows} current={name} />
          <Chosen key={name} workflows={data.workflows} name={name} look={reload} />
        </>
      ) : (
        !error && <Loading what="the workflows" />
      )}
    </div>
  );
}

/** Files are written in other programs: look again when the user comes back from there. */
function useWindowFocus(look: () => void): void {
  useEffect(() => {
    window.addEventListener("focus", look);
    return () => window.removeEventListener("focus", look);
  }, []);
}

// --- The list

function Workflows({ workflows, current }: { workflows: readonly CatalogEntry[]; current: string | undefined }) {
  const [text, setText] = useState("");
  const fitting = workflows.filter((one) => `${one.name} ${one.summary}`.toLowerCase().includes(text.toLowerCase()));
  const own = fitting.filter((one) => !one.source.startsWith(BUNDLED));
  const bundled = fitting.filter((one) => one.source.startsWith(BUNDLED));
  useListKeys(fitting, current);
  return (
    <section class="split-list" aria-label="Workflows">
      <div class="view-head">
        <h1>Start</h1>
        <div class="search grow">
          <Icon name="search" />
          <input
            id="find-workflow"
            type="search"
            class="input"
            aria-label="Find a workflow"
            placeholder="Find a workflow"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </div>
      </div>
      <div class="split-scroll">
        <Group title="Of this project" entries={own} current={current} />
        <Group title="Bundled" entries={bundled} current={current} />
        {fitting.length === 0 && <Empty title="No workflow fits." />}
      </div>
    </section>
  );
}

function useListKeys(entries: readonly CatalogEntry[], current: string | undefined): void {
  const by = (step: number) => (): void => {
    const at = entries.findIndex((one) => one.name === focusedName());
    const from = at >= 0 ? at : entries.findIndex((one) => one.name === current);
    const next = entries[Math.max(0, Math.min(entries.length - 1, from + step))];
    if (next) document.querySelector<HTMLElement>(`[data-name="${CSS.escape(next.name)}"]`)?.focus();
  };
  useKeys([
    { key: "j", what: "Next workflow", act: by(1) },
    { key: "k", what: "Workflow before", act: by(-1) },
    { key: "/", what: "Find a workflow", act: () => document.getElementById("find-workflow")?.focus() },
  ]);
}

function focusedName(): string | undefined {
  const focused = document.activeElement;
  return focused instanceof HTMLElement ? focused.dataset["name"] : undefined;
}

function Group({ title, entries, current }: { title: string; entries: readonly CatalogEntry[]; current: string | undefined }) {
  if (entries.length === 0) return null;
  return (
    <>
      <h2 class="list-title">{title}</h2>
      <ul>
        {entries.map((one) => (
          <li key={`${one.name} ${one.source}`}>
            <a class="item" href={href("start", [one.name])} data-name={one.name} aria-current={one.name === current ? "true" : undefined}>
              <span class="item-title">
                <span class="ellipsis">{one.name}</span>
                {one.error && <span class="chip bad">does not load</span>}
              </span>
              <span class="item-text ellipsis muted">{one.error ? one.source : firstLine(one.summary)}</span>
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}

// --- The chosen workflow

interface ChosenProps {
  workflows: readonly CatalogEntry[];
  name: string | undefined;
  look: () => void;
}

function Chosen({ workflows, name, look }: ChosenProps) {
  const entry = workflows.find((one) => one.name === name);
  return (
    <section class="split-main" aria-label={name ?? "No workflow chosen"}>
      {name === undefined ? (
        <Empty title="Choose a workflow to start." />
      ) : entry ? (
        <Entry entry={entry} look={look} />
      ) : (
        <Empty title={`There is no workflow ${name} in the newest version of the code.`}>
          <a href={href("start")}>Show all workflows</a>
        </Empty>
      )}
    </section>
  );
}

function Entry({ entry, look }: { entry: CatalogEntry; look: () => void }) {
  const source = entry.source.startsWith(BUNDLED) ? "bundled" : entry.source;
  return (
    <>
      <div class="view-head">
        <a class="icon-button back" href={href("start")} aria-label="All workflows">
          <Icon name="back" />
        </a>
        <Title class="grow wrap">{entry.name}</Title>
        <code class="muted wrap">{source}</code>
      </div>
      <div class="split-scroll pad">
        <div class="narrow-body">
          {entry.summary && <p class="summary wrap">{entry.summary}</p>}
          {entry.error !== null ? <DoesNotLoad entry={entry} error={entry.error} look={look} /> : <Startable entry={entry} />}
        </div>
      </div>
    </>
  );
}

function DoesNotLoad({ entry, error, look }: { entry: CatalogEntry; error: string; look: () => void }) {
  return (
    <div class="failure" role="alert">
      <p>
        <code>{entry.source}</code> does not load:
      </p>
      <pre class="error-text">{error}</pre>
      <p class="muted">Repair the file and save it, then look again.</p>
      <button type="button" class="button small" onClick={look}>
        Look again
      </button>
    </div>
  );
}

function Startable({ entry }: { entry: CatalogEntry }) {
  const given = useGiven();
  if (entry.not_startable !== null) return <p class="notice wrap">{entry.not_startable}</p>;
  if (given === undefined) return <Loading what="the arguments" />;
  return <StartForm entry={entry} given={given.args} note={given.error} />;
}

interface Given {
  args: JsonValue | undefined;
  error: ApiError | undefined;
}

/** The arguments in the address: as `args`, or those of the run `from`. undefined: they are still being fetched. */
function useGiven(): Given | undefined {
  const { params } = route.value;
  const from = params.get("from");
  const { data, error } = useFetched(from && `input/${from}`, () => api.get("value", { id: from, of: "input" }), {});
  const first = useSignal<Given | undefined>(undefined);
  const now = from ? givenByRun(data, error) : { args: givenByAddress(params), error: undefined };
  useEffect(() => {
    if (now && !first.value) first.value = now;
  });
  return first.value ?? now;
}

function givenByAddress(params: URLSearchParams): JsonValue | undefined {
  const args = parse(params.get("args") ?? "");
  return isObject(args) ? args : undefined;
}

function givenByRun(input: Preview | null | undefined, error: ApiError | undefined): Given | undefined {
  if (error) return { args: undefined, error };
  return input === undefined ? undefined : { args: namedArguments(input) ?? undefined, error: undefined };
}
