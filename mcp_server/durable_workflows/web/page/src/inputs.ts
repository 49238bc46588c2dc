/** The input of a run, as dbos records it: `{"namedArgs": {…}, "positionalArgs": […]}`. */

import type { JsonValue, Preview } from "./api";
import { isObject } from "./parts/schema";
import { parse } from "./parts/Value";

/** The arguments by name; null if they are not known, as when the end of the value is missing. */
export function namedArguments(input: Preview | null): { [name: string]: JsonValue } | null {
  const recorded = input ? parse(input.text) : undefined;
  const named = isObject(recorded) ? recorded["namedArgs"] : undefined;
  return isObject(named) ? named : null;
}

/** The arguments for a reader: by name if they have names, otherwise in order; null without any. */
export function readableInput(input: Preview | null): Preview | null {
  const recorded = input ? parse(input.text) : undefined;
  if (!isObject(recorded)) return input;
  const { namedArgs, positionalArgs } = recorded;
  const given = isObject(namedArgs) && Object.keys(namedArgs).length ? namedArgs : positionalArgs;
  if (given === undefined) return input;
  if (Array.isArray(given) && given.length === 0) return null;
  const text = JSON.stringify(given);
  return { text, length: text.length };
}
