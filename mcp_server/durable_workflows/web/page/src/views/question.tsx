/** One question: who asks, what, and until when; the request beside it, and the form of the answer. */

import { useSignal } from "@preact/signals";

import type { InboxItem, JsonValue, Preview } from "../api";
import { api, type ApiError, asApiError, place, useGet } from "../data";
import { readableInput } from "../inputs";
import { confirm } from "../parts/Dialog";
import { Failure } from "../parts/Failure";
import { Form, type FormState, useForm } from "../parts/Form";
import { Icon } from "../parts/Icon";
import { finished, isObject, own, type Schema, shapeOf } from "../parts/schema";
import { submitKey } from "../parts/submit";
import { Ago, Time } from "../parts/Time";
import { Title } from "../parts/Title";
import { toast } from "../parts/Toasts";
import { Value } from "../parts/Value";
import { go, href, runHref } from "../routes";
import { attempt } from "../runs";
import { ASKS, AsksIcon } from "./asks";

const NO = /^(reject|rejected|no|decline|declined|deny|denied|refuse|abort|stop)$/i; // an answer that declines

/** `next` is the page after the answer. */
export function Question({ item, next }: { item: InboxItem; next: string }) {
  const { wait, name, input } = item;
  const load = () => api.get("value", { id: wait.workflow_id, of: "input" }).then(readableInput);
  return (
    <>
      <div class="view-head">
        <a class="icon-button back" href="#/inbox" aria-label="Inbox">
          <Icon name="back" />
        </a>
        <Title class="grow ellipsis">
          <a href={runHref(wait.workflow_id)}>{name}</a>
        </Title>
        <a class="button small" href={runHref(wait.workflow_id)}>
          Open the run
        </a>
      </div>
      <div class="split-scroll pad question">
        <div class="question-main">
          <Facts item={item} />
          {wait.prompt && <p class="prompt wrap">{wait.prompt}</p>}
          <AnswerForm item={item} next={next} />
        </div>
        <aside class="question-side" aria-label="The request">
          <h2>The request</h2>
          <Request preview={readableInput(input)} load={load} />
          <Origin item={item} />
        </aside>
      </div>
    </>
  );
}

function Request({ preview, load }: { preview: Preview | null; load: () => Promise<Preview | null> }) {
  if (!preview) return <p class="muted">The run was started without arguments.</p>;
  return <Value label="What the run was started with" preview={preview} load={load} />;
}

function Facts({ item: { wait, asked } }: { item: InboxItem }) {
  return (
    <p class="question-facts muted">
      <span class={asked === "message" ? "chip" : "chip asked person"}>
        <AsksIcon asked={asked} /> {ASKS[asked]}
      </span>
      <span>
        since <Ago at={wait.since} />
      </span>
      <span>
        {wait.deadline ? (
          <>
            until <Time at={wait.deadline} /> (<Ago at={wait.deadline} />)
          </>
        ) : (
          "without a deadline"
        )}
      </span>
    </p>
  );
}

function Origin({ item: { wait, root_workflow_id: root } }: { item: InboxItem }) {
  return (
    <dl class="facts-list">
      <div>
        <dt>Run</dt>
        <dd>
          <a class="wrap mono" href={runHref(wait.workflow_id)}>
            {wait.workflow_id}
          </a>
        </dd>
      </div>
      {root !== wait.workflow_id && (
        <div>
          <dt>Started by</dt>
          <dd>
            <a class="wrap mono" href={runHref(root)}>
              {root}
            </a>
          </dd>
        </div>
      )}
      <div>
        <dt>Topic</dt>
        <dd class="wrap mono">{wait.topic}</dd>
      </div>
      <div>
        <dt>Step</dt>
        <dd>
          <a href={runHref(wait.workflow_id, wait.step)}>{wait.step}</a>
        </dd>
      </div>
    </dl>
  );
}

// --- The answer

function AnswerForm({ item, next }: { item: InboxItem; next: string }) {
  const { wait, asked } = item;
  const form = useForm(`${wait.workflow_id} ${wait.step}`, wait.message_schema);
  const project = useGet("project", {}, {});
  const error = useSignal<ApiError | undefined>(undefined);
  const busy = useSignal(false);
  const send = async (value: JsonValue): Promise<void> => {
    busy.value = true;
    error.value = undefined;
    try {
      await answered(item, value, next);
    } catch (problem) {
      error.value = asApiError(problem);
    } finally {
      busy.value = false;
    }
  };
  const submit = (): void => {
    const found = form.submit();
    if (found) void send(found.value);
  };
  return (
    <form
      class="answer"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={submitKey}
    >
      <Form form={form} label={asked === "message" ? "The message" : "Your answer"} />
      {error.value && <Failure error={error.value} />}
      <div class="row">
        <button type="submit" class="button primary" disabled={busy.value}>
          {busy.value ? "Sending …" : asked === "message" ? "Send message" : "Send answer"}
        </button>
        {asked !== "doubt" && (
          <button type="button" class="button" disabled={busy.value} onClick={() => void decline(item, form, send)}>
            Decline …
          </button>
        )}
      </div>
      <p class="muted small-text">
        {asked === "message" ? "An agent or a program may send it, too." : `It is recorded as an answer of ${project.data?.user ?? "you"}, given ${place}.`}
      </p>
    </form>
  );
}

async function answered({ wait, name, asked }: InboxItem, value: JsonValue, next: string): Promise<void> {
  const found = await api.post("answer", { workflow_id: wait.workflow_id, step: wait.step, value });
  toast(asked === "message" ? `Sent: ${name} goes on.` : `Answered: ${name} goes on.`, found.note ?? undefined);
  go(next);
}

/** If the schema has an answer that means no, declining gives that answer; otherwise it cancels the run. */
async function decline(item: InboxItem, form: FormState, send: (value: JsonValue) => Promise<void>): Promise<void> {
  const refusal = declined(form.schema, finished(form.draft.value));
  if (refusal) {
    const answer = await confirm({ title: "Decline?", body: `The answer is ${refusal.label}.`, action: "Decline", keep: "Back", danger: true });
    if (answer) await send(refusal.value);
    return;
  }
  const { workflow_id: id } = item.wait;
  const answer = await confirm({
    title: "Cancel the run?",
    body: `No answer that this question allows means no. You can decline by cancelling the run ${id}; it can be resumed later, and asks again.`,
    action: "Cancel run",
    keep: "Back",
    danger: true,
  });
  if (!answer) return;
  await attempt(async () => {
    await api.post("cancel", { workflow_ids: [id], children: false });
    toast(`Declined: ${item.name} is cancelled.`);
    go(href("inbox"));
    return true;
  });
}

interface Refusal {
  value: JsonValue;
  label: string;
}

/** An answer that means no: of a choice, of a yes or no, or of the only such field of an object, with the other input. */
function declined(schema: Schema, written: JsonValue | undefined): Refusal | null {
  const whole = refusalOf(schema, schema);
  if (whole) return whole;
  const { kind, schema: found } = shapeOf(schema, schema);
  if (kind !== "object" || !isObject(found["properties"])) return null;
  for (const name of required(found)) {
    const refusal = refusalOf(own(found["properties"], name), schema);
    const others = required(found).filter((one) => one !== name);
    const given = isObject(written) ? written : {};
    if (refusal && others.every((one) => given[one] !== undefined)) {
      return { value: { ...given, [name]: refusal.value }, label: `${name}: ${refusal.label}` };
    }
  }
  return null;
}

function required(schema: Schema): string[] {
  const found = schema["required"];
  return Array.isArray(found) ? found.filter((one) => typeof one === "string") : [];
}

function refusalOf(part: JsonValue | undefined, root: Schema): Refusal | null {
  const { kind, choices } = shapeOf(part, root);
  if (kind === "yesno") return { value: false, label: "No" };
  const found = choices.find((one) => one.value === false || (typeof one.value === "string" && NO.test(one.value)));
  return found ? { value: found.value, label: found.label } : null;
}
