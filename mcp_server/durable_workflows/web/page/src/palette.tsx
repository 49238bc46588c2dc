/** The palette: go anywhere, start anything, find a run, by a few letters. */

import { useSignal } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import type { RunSummary } from "./api";
import { api, asApiError, useGet } from "./data";
import { ENTRIES } from "./navigation";
import { Dialog } from "./parts/Dialog";
import { Status } from "./parts/Status";
import { go, href, runHref } from "./routes";
import { nextTheme } from "./theme";

const FOUND = 8; // runs
const PAUSE_MS = 150; // in typing, before the search for runs

interface Command {
  id: string;
  label: string;
  kind: string;
  run?: RunSummary;
  act: () => void;
}

export function Palette({ onClose, onHelp }: { onClose: () => void; onHelp: () => void }) {
  const [text, setText] = useState("");
  const at = useSignal(0);
  const list = useId();
  const commands = useCommands(text, onHelp);
  const current = Math.min(at.value, commands.length - 1);
  const choose = (command: Command | undefined): void => {
    if (!command) return;
    onClose();
    command.act();
  };
  const pressed = (event: KeyboardEvent): void => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && commands.length) at.value = (current + step + commands.length) % commands.length;
    else if (event.key === "Enter") choose(commands[current]);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog title="Palette" size="wide" onClose={onClose}>
      <input
        type="text"
        class="palette-input"
        role="combobox"
        aria-label="Go to, start, or find a run"
        aria-expanded="true"
        aria-controls={list}
        aria-activedescendant={commands.length ? `${list}-${current}` : undefined}
        autocomplete="off"
        spellcheck={false}
        data-focus
        placeholder="Go to, start, or find a run …"
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          at.value = 0;
        }}
        onKeyDown={pressed}
      />
      <Commands id={list} commands={commands} current={current} choose={choose} />
    </Dialog>
  );
}

interface CommandsProps {
  id: string;
  commands: readonly Command[];
  current: number;
  choose: (command: Command) => void;
}

function Commands({ id, commands, current, choose }: CommandsProps) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [current]);
  return (
    <div id={id} ref={box} class="palette-list" role="listbox" aria-label="What can be done">
      {commands.map((command, place) => (
        <div
          key={command.id}
          id={`${id}-${place}`}
          role="option"
          aria-selected={place === current}
          class="palette-item"
          onClick={() => choose(command)}
        >
          {command.run ? <Status status={command.run.status} waitingOn={command.run.waiting_on} ok={command.run.ok} /> : null}
          <span class="grow ellipsis">{command.label}</span>
          <span class="muted">{command.kind}</span>
        </div>
      ))}
    </div>
  );
}

function useCommands(text: string, onHelp: () => void): Command[] {
  const catalog = useGet("catalog", {}, {});
  const runs = useFoundRuns(text.trim());
  const views = ENTRIES.map(({ view, label }) => ({ id: `view ${view}`, label, kind: "Go to", act: () => go(href(view)) }));
  const starts = (catalog.data?.workflows ?? [])
    .filter((one) => !one.error && !one.not_startable)
    .map(({ name }) => ({ id: `start ${name}`, label: name, kind: "Start", act: () => go(href("start", [name])) }));
  const others: Command[] = [
    { id: "theme", label: "Change the theme", kind: "Page", act: nextTheme },
    { id: "help", label: "Show the keys", kind: "Page", act: onHelp },
  ];
  const fitting = [...views, ...starts, ...others].filter((one) => matches(`${one.kind} ${one.label}`, text));
  return [...fitting, ...searches(text.trim()), ...runs.map(asCommand)];
}

function searches(text: string): Command[] {
  if (!text) return [];
  return [{ id: "search", label: `Runs with “${text}”`, kind: "Search", act: () => go(href("runs", [], { text })) }];
}

function asCommand(run: RunSummary): Command {
  return { id: `run ${run.workflow_id}`, label: `${run.name} · ${run.workflow_id}`, kind: "Run", run, act: () => go(runHref(run.workflow_id)) };
}

/** The newest runs, or the runs with the text in them. */
function useFoundRuns(text: string): readonly RunSummary[] {
  const [runs, setRuns] = useState<readonly RunSummary[]>([]);
  useEffect(() => {
    let wanted = true;
    const look = async (): Promise<void> => {
      try {
        const found = await api.get("runs", { text, limit: FOUND });
        if (wanted) setRuns(found.workflows);
      } catch (error) {
        asApiError(error); // the banner says that the server is away
      }
    };
    const timer = window.setTimeout(() => void look(), text ? PAUSE_MS : 0);
    return () => {
      wanted = false;
      window.clearTimeout(timer);
    };
  }, [text]);
  return runs;
}

/** Whether all letters occur, in this order. */
function matches(label: string, text: string): boolean {
  let from = 0;
  const lower = label.toLowerCase();
  for (const letter of text.toLowerCase().replace(/\s/g, "")) {
    from = lower.indexOf(letter, from) + 1;
    if (from === 0) return false;
  }
  return true;
}
