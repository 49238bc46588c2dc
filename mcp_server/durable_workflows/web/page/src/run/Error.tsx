/** A recorded error: what it says, and where it was raised, the project's own lines first to see. */

import { useState } from "preact/hooks";

import type { Preview } from "../api";
import { Copy } from "../parts/Copy";
import { useGet } from "../data";
import { type Frame, failureOf } from "./traceback";

export function RecordedError({ error }: { error: Preview }) {
  const project = useGet("project", {}, {}).data?.project ?? "";
  const { name, message, traceback } = failureOf(error.text, project);
  return (
    <div class="recorded-error" role="group" aria-label="Error">
      <Copy text={error.text} what="Error" />
      <p class="error-line wrap">
        <strong>{name}</strong>
        {message && `: ${message}`}
      </p>
      {traceback.length > 0 && <Traceback parts={traceback} />}
    </div>
  );
}

function Traceback({ parts }: { parts: readonly (Frame | string)[] }) {
  const [all, setAll] = useState(false);
  const own = parts.filter((part) => typeof part === "object" && part.own);
  const foreign = parts.filter((part) => typeof part === "object" && !part.own).length;
  const hasOwn = own.length > 0;
  const shown = all || !hasOwn ? parts : own;
  return (
    <>
      <ol class="traceback" aria-label="Traceback">
        {shown.map((part, place) => (
          <li key={place}>{typeof part === "string" ? <pre class="text">{part}</pre> : <Place frame={part} />}</li>
        ))}
      </ol>
      {hasOwn && foreign > 0 && (
        <button type="button" class="link" onClick={() => setAll(!all)}>
          {all ? "Only the project's lines" : `${foreign} more in libraries`}
        </button>
      )}
    </>
  );
}

function Place({ frame }: { frame: Frame }) {
  return (
    <div class={frame.own ? "frame own" : "frame"}>
      <span class="wrap">
        {frame.file}:{frame.line} {frame.where && <span class="muted">in {frame.where}</span>}
      </span>
      {frame.code && <pre class="code">{frame.code}</pre>}
    </div>
  );
}
