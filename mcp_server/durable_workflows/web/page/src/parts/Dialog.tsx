/** Dialogs above the page. The browser keeps the focus inside, and gives it back. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

export interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  /** A class for its size. */
  size?: "small" | "large" | "wide";
}

/**
 * A modal dialog, open while it is rendered. Esc and a click outside close it. What has `data-focus` gets the focus: a browser refuses `autofocus` in a frame of
 * another origin.
 */
export function Dialog({ title, onClose, children, size = "small" }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  // Before the next key, which is meant for the dialog.
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    dialog?.querySelector<HTMLElement>("[data-focus]")?.focus();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={element}
      class={`dialog ${size}`}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onMouseDown={(event) => {
        if (event.target === event.currentTarget) onClose();
      }}
    >
      <div class="dialog-body">{children}</div>
    </dialog>
  );
}

export interface Question {
  title: string;
  body: string;
  /** The label of the confirming button. */
  action: string;
  /** The label of the other button. */
  keep?: string;
  danger?: boolean;
  /** A checkbox, and its initial state. */
  option?: string;
  optionOn?: boolean;
}

interface Asked extends Question {
  answer: (given: { option: boolean } | null) => void;
}

const asked = signal<Asked | null>(null);

/** Ask before an action. null: do not do it. */
export function confirm(question: Question): Promise<{ option: boolean } | null> {
  asked.value?.answer(null);
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer: (given) => {
        asked.value = null;
        resolve(given);
      },
    };
  });
}

/** The place where `confirm` shows its question: once in the page. */
export function Confirm() {
  const question = asked.value;
  return question && <ConfirmDialog key={question.title} question={question} />;
}

function ConfirmDialog({ question }: { question: Asked }) {
  const [option, setOption] = useState(question.optionOn ?? false);
  const { title, body, action, keep = "Cancel", danger = false, answer } = question;
  return (
    <Dialog title={title} onClose={() => answer(null)}>
      <h2 class="wrap">{title}</h2>
      <p class="muted wrap">{body}</p>
      {question.option && (
        <label class="tick">
          <input type="checkbox" checked={option} onChange={(event) => setOption(event.currentTarget.checked)} />
          {question.option}
        </label>
      )}
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={() => answer(null)}>
          {keep}
        </button>
        <button type="button" class={`button ${danger ? "danger" : "primary"}`} data-focus onClick={() => answer({ option })}>
          {action}
        </button>
      </div>
    </Dialog>
  );
}
