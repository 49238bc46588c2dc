/** A recorded error: its text, and the lines of the project through which it came. */

import type { Preview } from "../api";
import { Copy } from "../parts/Copy";
import { type Frame, failureOf } from "./traceback";

export function RecordedError({ error }: { error: Preview }) {
  const { name, message, traceback } = failureOf(error.text);
  return (
    <div class="recorded-error" role="group" aria-label="Error">
      <Copy text={error.text} what="Error" />
      <p class="error-line wrap">
        <strong>{name}</strong>
        {message && `: ${message}`}
      </p>
      {traceback.length > 0 && (
        <ol class="traceback" aria-label="Traceback">
          {traceback.map((part, place) => (
            <li key={place}>{typeof part === "string" ? <pre class="text">{part}</pre> : <Place frame={part} />}</li>
          ))}
        </ol>
      )}
    </div>
  );
}

function Place({ frame }: { frame: Frame }) {
  return (
    <div class="frame">
      <span class="wrap">
        {frame.file}:{frame.line} {frame.where && <span class="muted">in {frame.where}</span>}
      </span>
      {frame.code && <pre class="code">{frame.code}</pre>}
    </div>
  );
}
