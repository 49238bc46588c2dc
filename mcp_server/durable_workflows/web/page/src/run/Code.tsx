/** The file of the run's workflow in the run's version, with the lines marked where it failed. */

import { useEffect, useRef } from "preact/hooks";

import type { Run, Source } from "../api";
import { api, useFetched } from "../data";
import { Copy } from "../parts/Copy";
import { Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { failureOf } from "./traceback";

export function Code({ run }: { run: Run }) {
  const id = run.workflow_id;
  const { data, error } = useFetched(`source/${id}/${run.version}`, () => api.ask<Source>("source", { id }), {});
  if (error && !data) return <Failure error={error} />;
  if (!data) return <Loading what="the source" />;
  const failed = run.error ? failedLines(run.error.text, data.path) : new Set<number>();
  return (
    <section class="source" aria-label={`Source ${data.path}`}>
      <div class="steps-tools">
        <code class="wrap">{data.path}</code>
        <span class="muted">version {run.version}</span>
        <Copy text={data.text} what="the source" />
      </div>
      <Lines text={data.text} failed={failed} />
    </section>
  );
}

/** The lines of a file that appear in the traceback of an error. */
function failedLines(error: string, path: string): Set<number> {
  const frames = failureOf(error).traceback.filter((one) => typeof one === "object");
  return new Set(frames.filter((one) => one.file === path).map((one) => one.line));
}

function Lines({ text, failed }: { text: string; failed: ReadonlySet<number> }) {
  const first = useRef<HTMLLIElement>(null);
  useEffect(() => first.current?.scrollIntoView({ block: "center" }), []);
  const last = Math.max(...failed);
  return (
    <ol class="code-lines" tabIndex={0} aria-label="Lines">
      {text.split("\n").map((line, place) => (
        <li key={place} ref={place + 1 === last ? first : undefined} class={failed.has(place + 1) ? "failed" : ""}>
          <code>{line || " "}</code>
        </li>
      ))}
    </ol>
  );
}
