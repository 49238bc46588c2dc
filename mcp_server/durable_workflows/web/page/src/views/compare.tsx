/** Two runs side by side: their differences, the first one on top. */

import { useLayoutEffect, useState } from "preact/hooks";

import "../run/run.css";
import type { Compared, ComparedRun } from "../api";
import { Changes, ComparedPayload } from "../compare/Changes";
import { Choice } from "../compare/Choice";
import { Steps } from "../compare/Steps";
import { api, useFetched } from "../data";
import { Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Icon } from "../parts/Icon";
import { Status } from "../parts/Status";
import { Time, Took } from "../parts/Time";
import { go, href, route, runHref } from "../routes";

export function Compare() {
  const [a = "", b] = route.value.parts;
  return b === undefined ? <Choice workflowId={a} /> : <Pair key={`${a}/${b}`} a={a} b={b} />;
}

function Pair({ a, b }: { a: string; b: string }) {
  const { data, error } = useFetched(`compare/${a}/${b}`, () => api.ask<Compared>("compare", { a, b }), { runs: [a, b] });
  if (error && (!data || error.status === 404)) return <Failure error={error} />;
  if (!data) return <Loading what="both runs" />;
  return <Shown compared={data} />;
}

function Shown({ compared }: { compared: Compared }) {
  const [place, setPlace] = useState<number | null>(null);
  const chosen = place === null ? undefined : compared.steps[place];
  useLayoutEffect(() => setPlace(compared.first_difference), [compared.first_difference]);
  return (
    <article class="compare">
      <header class="compare-head">
        <h1>Compare</h1>
        <button type="button" class="button small" onClick={() => go(href("compare", [compared.b.workflow_id, compared.a.workflow_id]))}>
          <Icon name="swap" />
          Swap
        </button>
      </header>
      <div class="sides">
        <Side run={compared.a} label="A" />
        <Side run={compared.b} label="B" />
      </div>
      <p class="why compare-said" role="status">
        {said(compared)}
      </p>
      <div class="payloads">
        <ComparedPayload label="Input" value={compared.input} />
        <ComparedPayload label="Output" value={compared.output} />
        <ComparedPayload label="Error" value={compared.error} />
      </div>
      <Steps compared={compared} place={place} onChoose={setPlace} />
      {chosen && <Changes step={chosen} a={compared.a.workflow_id} b={compared.b.workflow_id} />}
    </article>
  );
}

function Side({ run, label }: { run: ComparedRun; label: string }) {
  return (
    <section class="side-run" aria-label={`Run ${label}`}>
      <h2 class="wrap">
        <span class={`side-label ${label.toLowerCase()}`}>{label}</span>
        <a href={runHref(run.workflow_id)} class="mono">
          {run.workflow_id}
        </a>
      </h2>
      <p class="muted wrap">
        <Status status={run.status} /> {run.name} · <Time at={run.created_at} /> · <Took from={run.created_at} to={run.completed_at} />
        {run.version && ` · version ${run.version}`}
      </p>
    </section>
  );
}

/** The differences of two runs, in a sentence or two. */
function said(compared: Compared): string {
  const parts = [takenOver(compared)];
  if (compared.differs.length === 0) parts.push("Nothing differs.");
  else parts.push(`They differ in: ${compared.differs.join(", ")}.`);
  const first = compared.first_difference === null ? undefined : compared.steps[compared.first_difference];
  if (first) {
    const numbers = [first.a && `step ${first.a.step} of A`, first.b && `step ${first.b.step} of B`].filter(Boolean);
    parts.push(`The first step that differs: ${first.name} (${numbers.join(", ")}).`);
  }
  if (compared.left_out > 0) parts.push(`${compared.left_out.toLocaleString("en")} later steps are not compared.`);
  return parts.filter(Boolean).join(" ");
}

function takenOver({ taken_over, a, b }: Compared): string {
  if (!taken_over) return "";
  const [fork, origin] = taken_over.fork === "a" ? ["A", "B"] : ["B", "A"];
  const from = taken_over.from_step ?? (taken_over.fork === "a" ? a : b).forked_at;
  return `${fork} is a fork of ${origin}${from === null ? "" : ` from step ${from}`}: it took over ${taken_over.steps} steps.`;
}
