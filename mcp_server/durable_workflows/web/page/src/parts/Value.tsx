/** A recorded value: JSON as a tree that opens step by step, anything else as text. All of it is text nodes; nothing is read as HTML.
 * It is our own: `@alenaksu/json-viewer` 2.1 throws on `{"constructor": null}`, which a run may record, and takes a key with a dot for a path. */

import { useState } from "preact/hooks";

import type { JsonValue, Preview } from "../api";
import { asApiError, type ApiError } from "../data";
import { bytes } from "../words";
import { Copy } from "./Copy";
import { Failure } from "./Failure";

const CHUNK = 100; // entries of one array or object that are shown at once
const OPEN_ENTRIES = 12; // a part with no more entries is open at first
const OPEN_DEPTH = 2;
const LONG_TEXT = 600;
const SUMMARY = 60;

export interface ValueProps {
  /** Its name for screen readers and buttons: "Output". */
  label: string;
  preview: Preview | null | undefined;
  /** Fetches the whole of a value whose end is missing here. */
  load?: (() => Promise<Preview | null>) | undefined;
}

export function Value({ label, preview, load }: ValueProps) {
  const [whole, setWhole] = useState<Preview>();
  const [error, setError] = useState<ApiError>();
  if (!preview) return <p class="muted">None recorded.</p>;
  const shown = whole ?? preview;
  const isCut = shown.text.length < shown.length && parse(shown.text) === undefined;
  const fetchWhole = async (): Promise<void> => {
    try {
      setWhole((await load?.()) ?? undefined);
    } catch (problem) {
      setError(asApiError(problem));
    }
  };
  return (
    <div class="value" role="group" aria-label={label}>
      <Copy text={shown.text} what={label} />
      <Shown text={shown.text} />
      {isCut && (
        <p class="muted cut">
          The beginning of {bytes(shown.length)}.{" "}
          {load && !whole && (
            <button type="button" class="link" onClick={() => void fetchWhole()}>
              Show the whole
            </button>
          )}
        </p>
      )}
      {error && <Failure error={error} />}
    </div>
  );
}

/** A complete value. */
export function Json({ value }: { value: JsonValue }) {
  return <Node value={value} depth={0} />;
}

function Shown({ text }: { text: string }) {
  const value = parse(text);
  if (value === undefined) return <pre class="text">{text}</pre>;
  return typeof value === "string" ? <LongText text={value} /> : <Json value={value} />;
}

function LongText({ text }: { text: string }) {
  const [all, setAll] = useState(text.length <= LONG_TEXT * 4);
  return (
    <>
      <pre class="text">{all ? text : `${text.slice(0, LONG_TEXT)}…`}</pre>
      {!all && (
        <button type="button" class="link" onClick={() => setAll(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </>
  );
}

/** The JSON value of a text; undefined if it is not JSON, or its end is missing. */
export function parse(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

type Entries = readonly (readonly [string, JsonValue])[];

function entries(value: JsonValue): Entries | null {
  return typeof value === "object" && value !== null ? Object.entries(value) : null;
}

function Node({ name, value, depth }: { name?: string; value: JsonValue; depth: number }) {
  const parts = entries(value);
  if (parts === null || parts.length === 0) return <Leaf name={name} value={value} />;
  return <Branch name={name} value={value} parts={parts} depth={depth} />;
}

function Key({ name }: { name: string | undefined }) {
  return name === undefined ? null : <span class="json-key">{name}: </span>;
}

function Leaf({ name, value }: { name: string | undefined; value: JsonValue }) {
  const kind = value === null ? "null" : typeof value;
  return (
    <div class="json-leaf">
      <Key name={name} />
      <span class={`json-${kind}`}>{JSON.stringify(value)}</span>
    </div>
  );
}

interface BranchProps {
  name: string | undefined;
  value: JsonValue;
  parts: Entries;
  depth: number;
}

function Branch({ name, value, parts, depth }: BranchProps) {
  const [open, setOpen] = useState(depth === 0 || (depth <= OPEN_DEPTH && parts.length <= OPEN_ENTRIES));
  return (
    <div class="json-branch">
      <button type="button" class="json-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class={open ? "caret open" : "caret"} aria-hidden="true" />
        <Key name={name} />
        <span class="muted">{open ? size(value, parts.length) : summary(value, parts)}</span>
      </button>
      {open && <Children parts={parts} depth={depth + 1} />}
    </div>
  );
}

function Children({ parts, depth }: { parts: Entries; depth: number }) {
  const [shown, setShown] = useState(CHUNK);
  return (
    <div class="json-children">
      {parts.slice(0, shown).map(([key, value]) => (
        <Node key={key} name={key} value={value} depth={depth} />
      ))}
      {parts.length > shown && (
        <button type="button" class="link" onClick={() => setShown(shown + CHUNK * 5)}>
          {(parts.length - shown).toLocaleString("en")} more
        </button>
      )}
    </div>
  );
}

function size(value: JsonValue, number: number): string {
  return Array.isArray(value) ? `[${number}]` : `{${number}}`;
}

function summary(value: JsonValue, parts: Entries): string {
  const [left, right] = Array.isArray(value) ? "[]" : "{}";
  const shown = parts.slice(0, 4).map(([key, part]) => (Array.isArray(value) ? brief(part) : `${key}: ${brief(part)}`));
  const text = shown.join(", ") + (parts.length > shown.length ? ", …" : "");
  return `${left}${text.length > SUMMARY ? `${text.slice(0, SUMMARY - 1)}…` : text}${right}`;
}

function brief(value: JsonValue): string {
  if (Array.isArray(value)) return value.length ? "[…]" : "[]";
  if (typeof value === "object" && value !== null) return "{…}";
  return JSON.stringify(typeof value === "string" ? value.slice(0, 24) : value);
}
