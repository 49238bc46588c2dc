/** A form made from a JSON schema. Parts that a form cannot show are asked for as JSON, and the whole can also be given as JSON. */

import type { Signal } from "@preact/signals";
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";

import type { JsonValue } from "../api";
import { Icon } from "./Icon";
import {
  type Choice,
  type Draft,
  fieldsOf,
  finished,
  initial,
  inside,
  numberOf,
  own,
  problemsOf,
  readJson,
  readNumber,
  type Schema,
  type Shape,
  shapeOf,
  textOf,
  Unfit,
  written,
} from "./schema";

const SHORT_TEXT = 80; // a text that cannot be longer has one line
const FEW = 4; // up to this many choices are all shown

/** A form that is being filled in. */
export interface FormState {
  schema: Schema;
  draft: Signal<Draft>;
  problems: Signal<ReadonlyMap<string, string>>;
  /** Whether the whole is given as JSON. */
  asJson: Signal<boolean>;
  /** How often it was incomplete. */
  refused: Signal<number>;
  /** The value, if it is complete; otherwise the problems are shown. The server may still refuse it. */
  submit(): { value: JsonValue } | null;
  set(value: JsonValue | undefined): void;
}

/** The state of a form for a schema; null stands for any value. Another `key` starts it anew. */
export function useForm(key: string, schema: Schema | null, given?: JsonValue): FormState {
  const root = useMemo(() => schema ?? {}, [key]);
  const draft = useSignal<Draft>(undefined);
  const problems = useSignal<ReadonlyMap<string, string>>(new Map());
  const asJson = useSignal(false);
  const refused = useSignal(0);
  const set = (value: JsonValue | undefined): void => {
    draft.value = initial(root, root, value);
    problems.value = new Map();
  };
  const begun = useRef<string>(undefined);
  if (begun.current !== key) {
    begun.current = key;
    asJson.value = false;
    set(given);
  }
  const submit = (): { value: JsonValue } | null => {
    const found = asJson.value ? unfit(draft.value) : problemsOf(root, root, draft.value);
    problems.value = found;
    if (found.size) refused.value += 1;
    return found.size ? null : { value: finished(draft.value) ?? null };
  };
  return { schema: root, draft, problems, asJson, refused, submit, set };
}

/** If the whole is JSON, only the server checks it. */
function unfit(draft: Draft): Map<string, string> {
  if (draft instanceof Unfit) return new Map([["", draft.problem]]);
  return new Map(draft === undefined ? [["", "This is needed."]] : []);
}

/** The fields of a form, with the switch to JSON unless it is `plain`. The form element and its buttons are the caller's. */
export function Form({ form, label, plain = false }: { form: FormState; label: string; plain?: boolean }) {
  const { schema, draft, asJson } = form;
  const box = useRef<HTMLDivElement>(null);
  const shape = shapeOf(schema, schema);
  useEffect(() => {
    if (form.refused.value) box.current?.querySelector<HTMLElement>(".wrong :is(input, textarea, select, button)")?.focus();
  }, [form.refused.value]);
  const change = (next: Draft): void => {
    draft.value = next;
    if (form.problems.value.size) form.problems.value = asJson.value ? unfit(next) : problemsOf(schema, schema, next);
  };
  const isJson = shape.kind === "any" || shape.kind === "json";
  return (
    <div class="form" ref={box}>
      {!plain && !isJson && <Switch form={form} />}
      {asJson.value ? (
        <JsonField label={label} name="" draft={draft.value} change={change} problem={form.problems.value.get("")} needed lines={6} />
      ) : (
        <Field part={schema} root={schema} draft={draft.value} change={change} problems={form.problems.value} path="" name={label} needed depth={0} />
      )}
    </div>
  );
}

function Switch({ form }: { form: FormState }) {
  const { asJson, draft, problems } = form;
  const turn = (): void => {
    problems.value = draft.value instanceof Unfit ? unfit(draft.value) : new Map();
    if (draft.value instanceof Unfit) return; // it would be lost
    if (asJson.value) draft.value = initial(form.schema, form.schema, finished(draft.value));
    else draft.value = finished(draft.value);
    asJson.value = !asJson.value;
  };
  return (
    <div class="form-switch">
      <button type="button" class="link" onClick={turn}>
        {asJson.value ? "As a form" : "As JSON"}
      </button>
    </div>
  );
}

// --- One field

interface FieldProps {
  part: JsonValue | undefined;
  root: Schema;
  draft: Draft;
  change: (draft: Draft) => void;
  problems: ReadonlyMap<string, string>;
  path: string;
  name: string;
  needed: boolean;
  depth: number;
}

function Field(props: FieldProps) {
  const { part, root, draft, depth, path, problems, name, needed } = props;
  const shape = shapeOf(part, root, depth);
  const fits = draft === undefined || draft === null || draft instanceof Unfit;
  if (shape.kind === "object" && (fits || isRecord(draft))) return <ObjectField {...props} shape={shape} />;
  if (shape.kind === "list" && (fits || Array.isArray(draft))) return <ListField {...props} shape={shape} />;
  const common = { label: name, name: path, draft, change: props.change, problem: problems.get(path), needed, shape };
  switch (shape.kind) {
    case "choice":
      return <ChoiceField {...common} />;
    case "yesno":
      return <ChoiceField {...common} shape={{ ...shape, choices: YES_NO }} />;
    case "number":
    case "integer":
      return <NumberField {...common} whole={shape.kind === "integer"} />;
    case "text":
      return <TextField {...common} />;
    case "any":
      return <AnyField {...common} />;
    default:
      return <JsonField {...common} />;
  }
}

const YES_NO: readonly Choice[] = [
  { value: true, label: "Yes" },
  { value: false, label: "No" },
];

interface InputProps {
  label: string;
  name: string;
  draft: Draft;
  change: (draft: Draft) => void;
  problem: string | undefined;
  needed: boolean;
  shape?: Shape;
  lines?: number;
}

interface Ids {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": boolean | undefined;
  "aria-required": boolean | undefined;
  "data-path": string;
}

/** A label, the author's description, the field, and its problem. */
function Labelled({ props, children, group = false }: { props: InputProps; children: (ids: Ids) => ComponentChildren; group?: boolean }) {
  const id = useId();
  const { label, needed, problem, shape, name } = props;
  const said = shape && textOf(shape.schema, "description");
  const described = [said && `${id}-said`, problem && `${id}-problem`].filter(Boolean).join(" ");
  const title = (
    <>
      {label}
      {!needed && <span class="optional"> optional</span>}
    </>
  );
  return (
    <div class={`field ${problem ? "wrong" : ""}`}>
      {group ? (
        <span class="label" id={`${id}-label`}>
          {title}
        </span>
      ) : (
        <label class="label" for={id}>
          {title}
        </label>
      )}
      {said && (
        <p class="said wrap" id={`${id}-said`}>
          {said}
        </p>
      )}
      {children({
        id,
        "aria-describedby": described || undefined,
        "aria-invalid": problem ? true : undefined,
        "aria-required": needed || undefined,
        "data-path": name,
      })}
      {problem && (
        <p class="problem wrap" id={`${id}-problem`}>
          {problem}
        </p>
      )}
    </div>
  );
}

function TextField(props: InputProps) {
  const { draft, change, shape, needed } = props;
  const most = shape && numberOf(shape.schema, "maxLength");
  const read = (text: string): void => change(text === "" ? (needed && shape?.nullable ? null : undefined) : text);
  const hint = shape && example(shape.schema);
  return (
    <Labelled props={props}>
      {(ids) =>
        most !== undefined && most <= SHORT_TEXT ? (
          <input {...ids} type="text" class="input" value={written(draft, false)} placeholder={hint} onInput={(event) => read(event.currentTarget.value)} />
        ) : (
          <textarea {...ids} rows={1} class="input grows" value={written(draft, false)} placeholder={hint} onInput={(event) => read(event.currentTarget.value)} />
        )
      }
    </Labelled>
  );
}

function example(schema: Schema): string | undefined {
  const examples = schema["examples"];
  const first = Array.isArray(examples) ? examples[0] : undefined;
  return first === undefined ? textOf(schema, "format") : `e.g. ${typeof first === "string" ? first : JSON.stringify(first)}`;
}

function NumberField(props: InputProps & { whole: boolean }) {
  const { draft, change, whole, shape } = props;
  return (
    <Labelled props={props}>
      {(ids) => (
        <input
          {...ids}
          type="text"
          inputMode={whole ? "numeric" : "decimal"}
          class="input narrow"
          value={written(draft, false)}
          placeholder={shape && bounds(shape.schema)}
          onInput={(event) => change(readNumber(event.currentTarget.value, whole))}
        />
      )}
    </Labelled>
  );
}

function bounds(schema: Schema): string | undefined {
  const least = numberOf(schema, "minimum");
  const most = numberOf(schema, "maximum");
  if (least !== undefined && most !== undefined) return `${least} to ${most}`;
  return least !== undefined ? `at least ${least}` : most !== undefined ? `at most ${most}` : undefined;
}

/** Few choices are all shown; many become a selection list. */
function ChoiceField(props: InputProps) {
  const { draft, change, shape, needed } = props;
  const choices = shape?.choices ?? [];
  const at = choices.findIndex((one) => JSON.stringify(one.value) === JSON.stringify(finished(draft)));
  const pick = (place: number): void => change(choices[place]?.value);
  const few = choices.length <= FEW && choices.every((one) => one.label.length <= 24);
  return (
    <Labelled props={props} group={few}>
      {(ids) =>
        few ? (
          <Segments ids={ids} choices={choices} at={at} pick={pick} clear={needed || shape?.schema["default"] !== undefined ? undefined : () => change(undefined)} />
        ) : (
          <select {...ids} class="input" value={String(at)} onChange={(event) => pick(Number(event.currentTarget.value))}>
            <option value="-1">{needed ? "Choose …" : "None"}</option>
            {choices.map((one, place) => (
              <option key={place} value={String(place)}>
                {one.label}
              </option>
            ))}
          </select>
        )
      }
    </Labelled>
  );
}

interface SegmentsProps {
  ids: Ids;
  choices: readonly Choice[];
  at: number;
  pick: (place: number) => void;
  clear: (() => void) | undefined;
}

function Segments({ ids, choices, at, pick, clear }: SegmentsProps) {
  const { id, ...others } = ids;
  return (
    <div class="segments" role="radiogroup" aria-labelledby={`${id}-label`} {...others}>
      {choices.map((one, place) => (
        <label key={place} class={place === at ? "segment on" : "segment"}>
          <input type="radio" name={id} checked={place === at} onChange={() => pick(place)} />
          {one.label}
        </label>
      ))}
      {clear && at >= 0 && (
        <button type="button" class="icon-button" aria-label="Choose none" onClick={clear}>
          <Icon name="close" />
        </button>
      )}
    </div>
  );
}

/** The typed text stays as it is, although its value changes with each letter. */
function useWritten(draft: Draft, asJson: boolean, read: (text: string) => Draft): [string, (text: string) => Draft] {
  const [text, setText] = useState(() => written(draft, asJson));
  const same = JSON.stringify(finished(read(text))) === JSON.stringify(finished(draft));
  return [
    same ? text : written(draft, asJson),
    (next) => {
      setText(next);
      return read(next);
    },
  ];
}

function AnyField(props: InputProps) {
  const { draft, change } = props;
  const [text, read] = useWritten(draft, typeof draft !== "string", (one) => readJson(one, true));
  return (
    <Labelled props={props}>
      {(ids) => (
        <textarea {...ids} rows={2} class="input" value={text} placeholder="Text or JSON" onInput={(event) => change(read(event.currentTarget.value))} />
      )}
    </Labelled>
  );
}

function JsonField(props: InputProps) {
  const { draft, change, lines = 3 } = props;
  const [text, read] = useWritten(draft, true, (one) => readJson(one, false));
  return (
    <Labelled props={props}>
      {(ids) => (
        <textarea
          {...ids}
          rows={lines}
          class="input code"
          spellcheck={false}
          value={text}
          placeholder="JSON"
          onInput={(event) => change(read(event.currentTarget.value))}
        />
      )}
    </Labelled>
  );
}

// --- Objects and lists

type PartProps = FieldProps & { shape: Shape };

function ObjectField(props: PartProps) {
  const { draft, change, needed, name, shape, root, depth, path, problems } = props;
  const record = isRecord(draft) ? draft : undefined;
  if (!record) return <Missing {...props} add={() => change(initial(shape.schema, root, undefined, true, depth))} />;
  const fields = fieldsOf(shape.schema).map(({ name: field, part, needed: must }) => (
    <Field
      key={field}
      part={part}
      root={root}
      draft={own(record, field)}
      change={(next) => change({ ...record, [field]: next })}
      problems={problems}
      path={inside(path, field)}
      name={field}
      needed={must}
      depth={depth + 1}
    />
  ));
  if (depth === 0) return <>{fields}</>;
  return (
    <Group name={name} shape={shape} needed={needed} remove={needed ? undefined : () => change(undefined)} problem={problems.get(path)}>
      {fields}
    </Group>
  );
}

function ListField(props: PartProps) {
  const { draft, change, needed, name, shape, root, depth, path, problems } = props;
  const items = Array.isArray(draft) ? draft : undefined;
  const blank = (): Draft => initial(shape.schema["items"], root, undefined, true, depth + 1);
  if (!items) return <Missing {...props} add={() => change([blank()])} />;
  const put = (place: number, next: Draft): void => change(items.map((one, at) => (at === place ? next : one)));
  return (
    <Group name={name} shape={shape} needed={needed} remove={needed ? undefined : () => change(undefined)} problem={problems.get(path)}>
      {items.map((item, place) => (
        <div key={place} class="list-item">
          <Field
            part={shape.schema["items"]}
            root={root}
            draft={item}
            change={(next) => put(place, next)}
            problems={problems}
            path={inside(path, place)}
            name={`${name} ${place + 1}`}
            needed
            depth={depth + 1}
          />
          <button type="button" class="icon-button" aria-label={`Remove ${name} ${place + 1}`} onClick={() => change(items.filter((_, at) => at !== place))}>
            <Icon name="close" />
          </button>
        </div>
      ))}
      <button type="button" class="button small" onClick={() => change([...items, blank()])}>
        <Icon name="plus" /> Add {name}
      </button>
    </Group>
  );
}

function Missing({ name, needed, shape, path, problems, add }: PartProps & { add: () => void }) {
  const props: InputProps = { label: name, name: path, draft: undefined, change: () => undefined, problem: problems.get(path), needed, shape };
  return (
    <Labelled props={props} group>
      {({ "aria-required": _needed, ...ids }) => (
        <button {...ids} aria-invalid={undefined} type="button" class="button small" onClick={add}>
          <Icon name="plus" /> Add {name}
        </button>
      )}
    </Labelled>
  );
}

interface GroupProps {
  name: string;
  shape: Shape;
  needed: boolean;
  remove: (() => void) | undefined;
  problem: string | undefined;
  children: ComponentChildren;
}

function Group({ name, shape, needed, remove, problem, children }: GroupProps) {
  const said = textOf(shape.schema, "description");
  return (
    <fieldset class="group">
      <legend class="label">
        {name}
        {!needed && <span class="optional"> optional</span>}
        {remove && (
          <button type="button" class="icon-button" aria-label={`Leave out ${name}`} onClick={remove}>
            <Icon name="close" />
          </button>
        )}
      </legend>
      <div class="group-body">
        {said && <p class="said wrap">{said}</p>}
        {children}
        {problem && <p class="problem wrap">{problem}</p>}
      </div>
    </fieldset>
  );
}

function isRecord(draft: Draft): draft is { [name: string]: Draft } {
  return typeof draft === "object" && draft !== null && !Array.isArray(draft) && !(draft instanceof Unfit);
}
