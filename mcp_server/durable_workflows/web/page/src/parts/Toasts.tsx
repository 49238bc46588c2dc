/** Short notes about completed actions, read out by screen readers. They disappear by themselves; a problem stays until it is closed. */

import { signal } from "@preact/signals";

import type { ApiError } from "../data";
import { Icon } from "./Icon";

type Kind = "done" | "warning" | "error";

interface Toast {
  id: number;
  kind: Kind;
  text: string;
  more: string | undefined;
}

const SHOWN_MS = 6000;
const MOST = 3;

const toasts = signal<readonly Toast[]>([]);
let last = 0;

export function toast(text: string, more?: string, kind: Kind = "done"): void {
  const id = ++last;
  toasts.value = [...toasts.value, { id, kind, text, more: more || undefined }].slice(-MOST);
  if (kind === "done") window.setTimeout(() => close(id), SHOWN_MS);
}

export function toastError(error: ApiError): void {
  toast(error.message, error.hint ?? undefined, "error");
}

function close(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((one) => (
        <div key={one.id} class={`toast ${one.kind}`}>
          <div class="grow">
            <p class="wrap">{one.text}</p>
            {one.more && <p class="muted wrap">{one.more}</p>}
          </div>
          <button type="button" class="icon-button" aria-label="Close this note" onClick={() => close(one.id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
