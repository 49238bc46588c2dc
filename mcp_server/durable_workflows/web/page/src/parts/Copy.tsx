/** Copying: a button for one text, and a menu for one thing in several forms. */

import { useEffect, useId, useRef, useState } from "preact/hooks";

import { Icon } from "./Icon";
import { toast } from "./Toasts";

const SAID_MS = 1500;

/** Whether it is copied; if not, that is said. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    toast("The browser does not allow copying here.", "Select the text and copy it yourself.", "warning");
    return false;
  }
}

/** A small button that copies a text; `what` names it. */
export function Copy({ text, what }: { text: string; what: string }) {
  const [done, setDone] = useState(false);
  const act = (): void => {
    void copy(text).then(setDone);
    window.setTimeout(() => setDone(false), SAID_MS);
  };
  return (
    <button type="button" class="icon-button copy" aria-label={done ? "Copied" : `Copy: ${what}`} title="Copy" onClick={act}>
      <Icon name={done ? "check" : "copy"} />
    </button>
  );
}

export interface CopyItem {
  label: string;
  /** The text, made on request. */
  text: () => string;
}

/** A button that opens a menu of things to copy. */
export function CopyMenu({ items, label = "Copy" }: { items: readonly CopyItem[]; label?: string }) {
  return <Menu label={label} icon="copy" items={items.map(({ label: name, text }) => ({ label: name, act: () => void copied(name, text()) }))} />;
}

async function copied(name: string, text: string): Promise<void> {
  if (await copy(text)) toast(`Copied: ${name}.`);
}

export interface MenuItem {
  label: string;
  act: () => void;
  danger?: boolean;
}

export interface MenuProps {
  label: string;
  items: readonly MenuItem[];
  icon?: "copy" | "more" | "down";
  /** Only the icon is shown; the label is for screen readers. */
  bare?: boolean;
}

/** A button with a menu: arrows move in it, Esc and a click outside close it. */
export function Menu({ label, items, icon = "down", bare = false }: MenuProps) {
  const [open, setOpen] = useState(false);
  const id = useId();
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => (open && root.current ? attend(root.current, () => setOpen(false)) : undefined), [open]);
  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  return (
    <div class="menu" ref={root}>
      <button
        ref={button}
        type="button"
        class={bare ? "icon-button" : "button"}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        aria-label={bare ? label : undefined}
        onClick={() => setOpen(!open)}
      >
        <Icon name={icon} />
        {!bare && label}
      </button>
      {open && (
        <div id={id} role="menu" class="menu-items" aria-label={label} onKeyDown={(event) => move(event, close)}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              class={item.danger ? "menu-item danger" : "menu-item"}
              onClick={() => {
                close();
                item.act();
              }}
            >
              {item.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

/** Focus the first item, and close when the user presses anything else. */
function attend(root: HTMLElement, close: () => void): () => void {
  root.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  const elsewhere = (event: Event): void => {
    if (event.target instanceof Node && !root.contains(event.target)) close();
  };
  document.addEventListener("pointerdown", elsewhere);
  document.addEventListener("focusin", elsewhere);
  return () => {
    document.removeEventListener("pointerdown", elsewhere);
    document.removeEventListener("focusin", elsewhere);
  };
}

function move(event: KeyboardEvent, close: () => void): void {
  const menu = event.currentTarget as HTMLElement;
  const all = [...menu.querySelectorAll<HTMLElement>("[role=menuitem]")];
  const at = all.indexOf(document.activeElement as HTMLElement);
  const target = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
  if (target !== undefined) all[target % all.length]?.focus();
  else if (event.key === "Escape") close();
  else return;
  event.preventDefault();
  event.stopPropagation();
}
