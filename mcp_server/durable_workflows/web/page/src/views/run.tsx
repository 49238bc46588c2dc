/** One run: why it is where it is, its steps on a timeline, and its contents. */

import { useState } from "preact/hooks";

import "../run/run.css";
import type { Part } from "../api";
import { Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { tone } from "../parts/Status";
import { Timeline } from "../parts/Timeline";
import { Words } from "../parts/Words";
import { route, setParams } from "../routes";
import { Code } from "../run/Code";
import { Events } from "../run/Events";
import { Head } from "../run/Head";
import { Log } from "../run/Log";
import { Messages } from "../run/Messages";
import { RunPane } from "../run/RunPane";
import { StepPane } from "../run/StepPane";
import { type Followed, useRun } from "../run/steps";
import { useChildren } from "../run/children";
import type { Chosen } from "../timeline";

export function Run() {
  const id = route.value.parts[0] ?? "";
  const { data, error } = useRun(id);
  if (error && (!data || error.status === 404)) return <Failure error={error} />;
  if (!data || data.run.workflow_id !== id) return <Loading what="the run" />;
  return <Shown key={id} shown={data} />;
}

const DETAILS = ["timeline", "log", "messages", "events", "source"] as const;
type Detail = (typeof DETAILS)[number];
const LABELS: Readonly<Record<Detail, string>> = {
  timeline: "Timeline",
  log: "Log",
  messages: "Messages",
  events: "Events",
  source: "Source",
};

function Shown({ shown }: { shown: Followed }) {
  const wanted = route.value.params.get("detail");
  const detail = DETAILS.find((one) => one === wanted) ?? "timeline";
  return (
    <article class="run">
      <Head shown={shown} />
      <Why shown={shown} />
      <Tabs detail={detail} />
      <section id="run-detail" class="run-detail" role="tabpanel" aria-labelledby={`tab-${detail}`}>
        <Detailed detail={detail} shown={shown} />
      </section>
    </article>
  );
}

function Why({ shown }: { shown: Followed }) {
  return (
    <section class={`why ${tone({ status: shown.run.status, waitingOn: shown.run.waiting[0]?.topic })}`} aria-label="Why it is where it is">
      <p>
        <Words parts={shown.why} />
      </p>
      {shown.next.some(isForHere) && (
        <p class="next">
          <span class="muted">Next: </span>
          <Words parts={shown.next} />
        </p>
      )}
    </section>
  );
}

/** Whether it is something to do. Waiting is not: the page waits by itself. */
function isForHere(part: Part): boolean {
  return Boolean(part.action) && part.action !== "wait_for_workflows";
}

function Tabs({ detail }: { detail: Detail }) {
  const choose = (one: Detail): void => setParams({ detail: one === "timeline" ? null : one });
  const move = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    const next = DETAILS[(DETAILS.indexOf(detail) + by + DETAILS.length) % DETAILS.length] ?? detail;
    event.preventDefault();
    choose(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label="What of the run" onKeyDown={move}>
      {DETAILS.map((one) => (
        <button
          key={one}
          type="button"
          role="tab"
          id={`tab-${one}`}
          aria-selected={one === detail}
          aria-controls={one === detail ? "run-detail" : undefined}
          tabIndex={one === detail ? 0 : -1}
          onClick={() => choose(one)}
        >
          {LABELS[one]}
        </button>
      ))}
    </div>
  );
}

function Detailed({ detail, shown }: { detail: Detail; shown: Followed }) {
  switch (detail) {
    case "log":
      return <Log workflowId={shown.run.workflow_id} />;
    case "messages":
      return <Messages run={shown.run} />;
    case "events":
      return <Events run={shown.run} />;
    case "source":
      return <Code run={shown.run} />;
    case "timeline":
      return <Steps shown={shown} />;
  }
}

/** The step in the address; without one, null. */
function chosenStep(workflowId: string): Chosen | null {
  const { params } = route.value;
  const step = Number(params.get("step") ?? "0");
  return Number.isInteger(step) && step > 0 ? { run: params.get("of") ?? workflowId, step } : null;
}

function Steps({ shown }: { shown: Followed }) {
  const id = shown.run.workflow_id;
  const [filter, setFilter] = useState("");
  const { opened, followers, fold } = useChildren();
  const chosen = chosenStep(id);
  const choose = (to: Chosen | null): void =>
    setParams({ step: to && String(to.step), of: to && to.run !== id ? to.run : null });
  return (
    <div class={chosen ? "steps with-step" : "steps"}>
      {followers}
      <div class="steps-list">
        <div class="steps-tools">
          <input
            type="search"
            class="input find"
            placeholder="Find a step"
            aria-label="Find a step"
            title="A name, a number, or: failed"
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
          <span class="muted num">{shown.steps.length.toLocaleString("en")} recorded</span>
        </div>
        <Timeline of={shown} opened={opened} onFold={fold} chosen={chosen} onChoose={choose} filter={filter} />
      </div>
      {chosen ? (
        <StepPane key={`${chosen.run}/${chosen.step}`} of={shown} chosen={chosen} onClose={() => choose(null)} />
      ) : (
        <RunPane run={shown.run} />
      )}
    </div>
  );
}
