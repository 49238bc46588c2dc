/** The output and log of a run. */

import { useState } from "preact/hooks";

import { Empty, Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Copy } from "../parts/Copy";
import { setParams } from "../routes";
import { useLog } from "./log";
import { LogLines } from "./LogLines";

export function Log({ workflowId }: { workflowId: string }) {
  const { data, error } = useLog(workflowId);
  const [filter, setFilter] = useState("");
  if (error && !data) return <Failure error={error} />;
  if (!data) return <Loading what="the log" />;
  if (data.length === 0) return <Empty title="Nothing was printed">Runs that it started have logs of their own.</Empty>;
  const wanted = filter.trim().toLowerCase();
  const lines = data.filter((one) => one.text.toLowerCase().includes(wanted));
  return (
    <>
      <div class="steps-tools">
        <input
          type="search"
          class="input find"
          placeholder="Find in the log"
          aria-label="Find in the log"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <span class="muted num">
          {lines.length.toLocaleString("en")} of {data.length.toLocaleString("en")} lines
        </span>
        <Copy text={lines.map((one) => one.text).join("\n")} what="the log" />
      </div>
      <LogLines lines={lines} onStep={(step) => setParams({ step: String(step), of: null, detail: null })} />
    </>
  );
}
