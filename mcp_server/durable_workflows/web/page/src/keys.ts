/** Single keys, and two in a row such as `g r`. Keys typed in a field, or behind a dialog, are ignored. */

import { useLayoutEffect, useRef } from "preact/hooks";

/** The effect of a key. `key` as `KeyboardEvent.key`, two in a row with a space between them; with `mod+`, also in a field. */
export interface Key {
  key: string;
  /** The text in the help. */
  what: string;
  act: () => void;
}

const SEQUENCE_MS = 1200;

interface Layer {
  keys: readonly Key[];
}

const layers: Layer[] = [];
let first = "";
let firstAt = 0;

/** All keys that have an effect now, for the help: keys of the view before keys of the page. */
export function allKeys(): Key[] {
  return [...layers].reverse().flatMap((layer) => [...layer.keys]);
}

/** Register these keys while the component is on screen. Keys of a later component come first. */
export function useKeys(keys: readonly Key[]): void {
  const layer = useRef<Layer>({ keys });
  layer.current.keys = keys;
  useLayoutEffect(() => {
    const mine = layer.current;
    layers.push(mine);
    return () => void layers.splice(layers.indexOf(mine), 1);
  }, []);
}

export function listenToKeys(): void {
  window.addEventListener("keydown", pressed);
}

function pressed(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.altKey || event.isComposing) return;
  const withMod = event.ctrlKey || event.metaKey;
  const name = withMod ? `mod+${event.key.toLowerCase()}` : event.key;
  if (!withMod && isField(event.target)) return;
  if (document.querySelector("dialog[open]") && !withMod) return;
  const before = performance.now() - firstAt < SEQUENCE_MS ? first : "";
  const found = (before && match(`${before} ${name}`)) || match(name);
  first = found ? "" : name;
  firstAt = performance.now();
  if (!found) return;
  event.preventDefault();
  found.act();
}

function match(name: string): Key | undefined {
  return allKeys().find((one) => one.key === name);
}

function isField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) && !isTick(target);
}

function isTick(target: HTMLElement): boolean {
  return target instanceof HTMLInputElement && /^(checkbox|radio)$/.test(target.type);
}
