/** Keys: single ones, and two in a row such as `g r`. None is taken from a field, or from what is behind a dialog. */

import { useLayoutEffect, useRef } from "preact/hooks";

/** What a key does. `key` as `KeyboardEvent.key`, two in a row with a space between them; with `mod+`, also from a field. */
export interface Key {
  key: string;
  /** What the help says. */
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

/** All keys that do something now, for the help: those of the view before those of the page. */
export function allKeys(): Key[] {
  return [...layers].reverse().flatMap((layer) => [...layer.keys]);
}

/** Have these keys as long as the component is on screen. A later component's come first. */
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
