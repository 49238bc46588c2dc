/**
 * A JSON schema reduced to what a form can show, and a draft of a value that is being filled in.
 *
 * Only the parts of the schema language that a form needs are read: the server checks every value by the whole schema, and reports
 * mistakes. The schema comes from a run's author: it may refer to itself, and anything in it may have an unexpected type.
 */

import type { JsonValue } from "../api";

export type Schema = { [keyword: string]: JsonValue };

/** The text in a field, and why it is not a value. */
export class Unfit {
  constructor(
    readonly text: string,
    readonly problem: string,
  ) {}
}

/** A value that is being filled in; undefined stands for a value left out. */
export type Draft = undefined | null | boolean | number | string | Unfit | Draft[] | { [name: string]: Draft };

export interface Choice {
  value: JsonValue;
  label: string;
}

/** How a value is asked for. `any` is JSON, or else the text itself; `json` is JSON only, the last resort. */
export type Kind = "text" | "number" | "integer" | "yesno" | "choice" | "object" | "list" | "any" | "json";

export interface Shape {
  kind: Kind;
  /** The schema with its references followed. */
  schema: Schema;
  nullable: boolean;
  choices: readonly Choice[];
}

export const DEEPEST = 6; // deeper parts are asked for as JSON

const MOST_REFERENCES = 20; // followed one after the other
const NEEDED = "This is needed.";

// --- Reading a schema

/** How a part of the schema `root` is asked for. */
export function shapeOf(part: JsonValue | undefined, root: Schema, depth = 0): Shape {
  const found = resolved(asSchema(part), root);
  const { schema, nullable } = found;
  const choices = choicesOf(schema, root);
  return { schema, nullable, choices, kind: choices.length ? "choice" : kindOf(schema, depth) };
}

function kindOf(schema: Schema, depth: number): Kind {
  switch (schema["type"]) {
    case "string":
      return "text";
    case "number":
      return "number";
    case "integer":
      return "integer";
    case "boolean":
      return "yesno";
    case "array":
      return isObject(schema["items"]) && !schema["prefixItems"] && depth < DEEPEST ? "list" : "json";
    case "object":
      return isObject(schema["properties"]) && depth < DEEPEST ? "object" : "json";
    default:
      return isObject(schema["properties"]) && depth < DEEPEST ? "object" : takesText(schema) ? "any" : "json";
  }
}

/** Whether a text may fit a schema that is neither of one type nor a choice. */
function takesText(schema: Schema): boolean {
  const variants = list(schema["anyOf"]) ?? list(schema["oneOf"]);
  if (variants) return variants.some((one) => asSchema(one)["type"] === "string");
  const types = list(schema["type"]);
  return types ? types.includes("string") : schema["type"] === undefined;
}

interface Resolved {
  schema: Schema;
  nullable: boolean;
}

/** The schema with references, a single variant, and `null` beside one type taken apart; its own title and default win. */
function resolved(schema: Schema, root: Schema): Resolved {
  let found = schema;
  let nullable = false;
  for (let steps = 0; steps < MOST_REFERENCES; steps++) {
    const next = inner(found, root);
    if (!next) break;
    nullable ||= next.nullable;
    found = next.schema;
  }
  return { schema: found, nullable };
}

function inner(schema: Schema, root: Schema): Resolved | null {
  const { $ref, anyOf, oneOf, allOf, type, ...own } = schema;
  if (typeof $ref === "string") return { schema: { ...asSchema(pointed($ref, root)), ...without(schema, "$ref") }, nullable: false };
  const all = list(allOf);
  if (all?.length === 1) return { schema: { ...asSchema(all[0]), ...without(schema, "allOf") }, nullable: false };
  const variants = list(anyOf) ?? list(oneOf);
  const real = variants?.filter((one) => asSchema(one)["type"] !== "null");
  if (variants && real?.length === 1) {
    return { schema: { ...asSchema(real[0]), ...without(without(schema, "anyOf"), "oneOf") }, nullable: variants.length > 1 };
  }
  const types = list(type);
  const others = types?.filter((one) => one !== "null");
  if (types && others?.length === 1) return { schema: { ...own, type: others[0] ?? null }, nullable: types.length > 1 };
  return null;
}

function pointed(reference: string, root: Schema): JsonValue | undefined {
  if (!reference.startsWith("#")) return undefined;
  let found: JsonValue | undefined = root;
  for (const part of reference.slice(1).split("/").filter(Boolean)) {
    const name = part.replace(/~1/g, "/").replace(/~0/g, "~");
    found = isObject(found) ? own(found, name) : undefined;
  }
  return found;
}

function choicesOf(schema: Schema, root: Schema): Choice[] {
  if ("const" in schema) return [choice(schema["const"] ?? null, schema)];
  const allowed = list(schema["enum"]);
  if (allowed) return allowed.map((value) => choice(value, {}));
  const variants = list(schema["oneOf"]) ?? list(schema["anyOf"]);
  if (!variants?.length) return [];
  const parts = variants.map((one) => resolved(asSchema(one), root).schema);
  return parts.every((one) => "const" in one || list(one["enum"])) ? parts.flatMap((one) => choicesOf(one, root)) : [];
}

function choice(value: JsonValue, schema: Schema): Choice {
  const title = schema["title"];
  return { value, label: typeof title === "string" ? title : typeof value === "string" ? value : JSON.stringify(value) };
}

export interface SchemaField {
  name: string;
  part: JsonValue;
  needed: boolean;
}

/** The parts of an object: required parts in the order of `required`, then the others. Postgres keeps no order of an object's names. */
export function fieldsOf(schema: Schema): SchemaField[] {
  const needed = (list(schema["required"]) ?? []).filter((one) => typeof one === "string");
  const properties = isObject(schema["properties"]) ? schema["properties"] : {};
  const others = Object.keys(properties).filter((one) => !needed.includes(one));
  return [...new Set([...needed, ...others])].flatMap((name) => {
    const part = own(properties, name);
    return part === undefined || part === false ? [] : [{ name, part, needed: needed.includes(name) }];
  });
}

export function textOf(schema: Schema, keyword: string): string | undefined {
  const found = schema[keyword];
  return typeof found === "string" && found !== "" ? found : undefined;
}

export function numberOf(schema: Schema, keyword: string): number | undefined {
  const found = schema[keyword];
  return typeof found === "number" ? found : undefined;
}

function asSchema(part: JsonValue | undefined): Schema {
  return isObject(part) ? part : {};
}

export function isObject(value: unknown): value is { [name: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object's own part, without inherited properties: a field may have the name `constructor`. */
export function own<T>(object: { [name: string]: T }, name: string): T | undefined {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

function list(value: JsonValue | undefined): JsonValue[] | undefined {
  return Array.isArray(value) ? value : undefined;
}

function without(schema: Schema, name: string): Schema {
  const { [name]: _left, ...others } = schema;
  return others;
}

// --- Drafts

/** The initial draft of a form: the given value, or the defaults of the schema, including parts of a required object. */
export function initial(part: JsonValue | undefined, root: Schema, given?: JsonValue, needed = true, depth = 0): Draft {
  const { kind, schema } = shapeOf(part, root, depth);
  const start = given === undefined ? (schema["default"] ?? undefined) : given;
  if (kind !== "object") return start;
  if (start === undefined && !needed) return undefined;
  if (start !== undefined && !isObject(start)) return start;
  const fields = fieldsOf(schema).map(({ name, part: field, needed: must }) => {
    return [name, initial(field, root, start && own(start, name), must, depth + 1)] as const;
  });
  return { ...start, ...Object.fromEntries(fields) };
}

/** The value of a draft, without parts left out. */
export function finished(draft: Draft): JsonValue | undefined {
  if (draft instanceof Unfit) return draft.text;
  if (Array.isArray(draft)) return draft.map((one) => finished(one) ?? null);
  if (typeof draft !== "object" || draft === null) return draft;
  const kept = Object.entries(draft).flatMap(([name, one]) => {
    const value = finished(one);
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(kept);
}

/** A place in a value: `/name/0/part`. */
export function inside(path: string, name: string | number): string {
  return `${path}/${String(name).replace(/~/g, "~0").replace(/\//g, "~1")}`;
}

/** The problems of a draft, by place, without those that only the server can find. */
export function problemsOf(part: JsonValue | undefined, root: Schema, draft: Draft): Map<string, string> {
  const found = new Map<string, string>();
  examine({ part, root, draft, path: "", needed: true, depth: 0 }, found);
  return found;
}

interface Examined {
  part: JsonValue | undefined;
  root: Schema;
  draft: Draft;
  path: string;
  needed: boolean;
  depth: number;
}

function examine(one: Examined, found: Map<string, string>): void {
  const { draft, path, root, depth } = one;
  if (draft instanceof Unfit) return void found.set(path, draft.problem);
  const shape = shapeOf(one.part, root, depth);
  if (draft === undefined || draft === null) {
    if (draft === undefined ? one.needed : !shape.nullable && shape.kind !== "any" && shape.kind !== "json" && shape.kind !== "choice") {
      found.set(path, NEEDED);
    }
    return;
  }
  const problem = problemOf(shape, draft);
  if (problem) found.set(path, problem);
  else examineParts(shape, one, found);
}

function examineParts({ kind, schema }: Shape, { draft, path, root, depth }: Examined, found: Map<string, string>): void {
  if (kind === "list" && Array.isArray(draft)) {
    draft.forEach((item, place) => {
      examine({ part: schema["items"], root, draft: item, path: inside(path, place), needed: true, depth: depth + 1 }, found);
    });
  }
  if (kind === "object" && typeof draft === "object" && draft !== null && !Array.isArray(draft) && !(draft instanceof Unfit)) {
    for (const { name, part, needed } of fieldsOf(schema)) {
      examine({ part, root, draft: own(draft, name), path: inside(path, name), needed, depth: depth + 1 }, found);
    }
  }
}

function problemOf({ kind, schema }: Shape, draft: Draft): string | undefined {
  if (kind === "text") return typeof draft === "string" ? textProblem(schema, draft) : "This must be a text.";
  if (kind === "number" || kind === "integer") return typeof draft === "number" ? numberProblem(schema, draft) : "This must be a number.";
  if (kind === "list" && Array.isArray(draft)) return countProblem(schema, draft.length);
  return undefined;
}

function textProblem(schema: Schema, text: string): string | undefined {
  const least = numberOf(schema, "minLength") ?? 0;
  const most = numberOf(schema, "maxLength") ?? Infinity;
  const length = [...text].length;
  if (length < least) return least === 1 ? NEEDED : `At least ${least} characters are needed.`;
  if (length > most) return `At most ${most} characters are allowed.`;
  return undefined;
}

function numberProblem(schema: Schema, number: number): string | undefined {
  const { minimum, maximum, exclusiveMinimum: above, exclusiveMaximum: below } = schema;
  if (typeof minimum === "number" && number < minimum) return `This must be at least ${minimum}.`;
  if (typeof maximum === "number" && number > maximum) return `This must be at most ${maximum}.`;
  if (typeof above === "number" && number <= above) return `This must be more than ${above}.`;
  if (typeof below === "number" && number >= below) return `This must be less than ${below}.`;
  return undefined;
}

function countProblem(schema: Schema, count: number): string | undefined {
  const least = numberOf(schema, "minItems") ?? 0;
  const most = numberOf(schema, "maxItems") ?? Infinity;
  if (count < least) return `At least ${least} ${least === 1 ? "item is" : "items are"} needed.`;
  if (count > most) return `At most ${most} ${most === 1 ? "item is" : "items are"} allowed.`;
  return undefined;
}

// --- The texts of fields

/** A text as a number; an empty text counts as left out. */
export function readNumber(text: string, whole: boolean): Draft {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  const number = Number(trimmed);
  if (!Number.isFinite(number)) return new Unfit(text, "This is no number.");
  return whole && !Number.isInteger(number) ? new Unfit(text, "This must be a whole number.") : number;
}

/** A text as JSON; with `orText`, a text that is not JSON is the value itself. */
export function readJson(text: string, orText: boolean): Draft {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    return orText ? text : new Unfit(text, `This is no JSON: ${error instanceof Error ? error.message : ""}`);
  }
}

/** The text of a draft in a field. */
export function written(draft: Draft, asJson: boolean): string {
  if (draft === undefined) return "";
  if (draft instanceof Unfit) return draft.text;
  if (!asJson) return typeof draft === "string" ? draft : draft === null ? "" : JSON.stringify(finished(draft));
  return JSON.stringify(finished(draft), null, 2);
}
