/** The publications of a run: its events, each with one value, and its streams. */

import type { Run, Stream } from "../api";
import { api, useFetched } from "../data";
import { Empty, Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Value } from "../parts/Value";
import { runHref } from "../routes";
import { counted } from "../words";

export function Events({ run }: { run: Run }) {
  const id = run.workflow_id;
  const { data, error } = useFetched(`streams/${id}`, () => api.ask<Stream[]>("streams", { id }), { runs: [id] });
  if (error && !data) return <Failure error={error} />;
  if (!data) return <Loading what="the streams" />;
  if (data.length + run.events.length === 0) return <Empty title="No events">This run has published no event, and written to no stream.</Empty>;
  return (
    <div class="cards">
      {run.events.map((one) => (
        <section key={`event ${one.key}`} class="card" aria-label={`Event ${one.key}`}>
          <h2 class="wrap">{one.key}</h2>
          <p class="muted">Event</p>
          <Value label={`Event ${one.key}`} preview={one.value} />
        </section>
      ))}
      {data.map((one) => (
        <StreamCard key={`stream ${one.key}`} stream={one} id={id} />
      ))}
    </div>
  );
}

function StreamCard({ stream, id }: { stream: Stream; id: string }) {
  const left = stream.length - stream.values.length;
  return (
    <section class="card" aria-label={`Stream ${stream.key}`}>
      <h2 class="wrap">{stream.key}</h2>
      <p class="muted">
        Stream of {counted(stream.length, "value")}
        {left > 0 && `, of which these are the last ${stream.values.length}`}
        {stream.closed && ", closed"}
      </p>
      <ol class="stream">
        {stream.values.map((one) => (
          <li key={one.place}>
            <a href={runHref(id, one.step)} class="muted num">
              step {one.step}
            </a>
            <Value label={`Value ${one.place}`} preview={one.value} />
          </li>
        ))}
      </ol>
    </section>
  );
}
