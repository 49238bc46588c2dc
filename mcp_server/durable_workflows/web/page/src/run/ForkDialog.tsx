/** The dialog of a fork: on which code, and with which arguments, outputs and id in place of those of the original. */

import { useState } from "preact/hooks";

import type { JsonValue } from "../api";
import { api, useFetched } from "../data";
import { namedArguments } from "../inputs";
import { Dialog } from "../parts/Dialog";
import { Form, useForm } from "../parts/Form";
import { isObject, type Schema } from "../parts/schema";
import { submitKey } from "../parts/submit";
import { asked, type AskedFork } from "./fork";

/** What it has in place of what the original has, apart from the arguments: arguments of `fork`. */
const HOW = {
  type: "object",
  properties: {
    outputs: { type: "object", description: 'Other outputs of earlier steps, by their numbers: {"2": …}.' },
    new_workflow_id: { type: "string", maxLength: 80, description: "Your own id. The same fork with the same id is made once." },
    fork_children: { type: "boolean", description: "Also fork failed children whose results it takes later." },
  },
};

/** The place where `askFork` shows its question: once in the page. */
export function ForkDialog() {
  const question = asked.value;
  return question && <Asked key={`${question.body.workflow_id} ${question.body.from_step}`} question={question} />;
}

function Asked({ question }: { question: AskedFork }) {
  const { body, answer } = question;
  const { workflow_id: id, from_step: step } = body;
  const [same, setSame] = useState(body.same_version ?? false);
  const [cancel, setCancel] = useState(body.cancel_original ?? false);
  const given = { ...body, same_version: same, cancel_original: cancel };
  const [changes, setChanges] = useState(false);
  const title = `Fork from step ${step}?`;
  return (
    <Dialog title={title} onClose={() => answer(null)}>
      <h2 class="wrap">{title}</h2>
      <p class="muted wrap">
        A new run takes over what is recorded before step {step} of {id}, and goes on from there.
      </p>
      <label class="tick">
        <input type="checkbox" checked={same} onChange={(event) => setSame(event.currentTarget.checked)} />
        With the version of the code that the run had
      </label>
      <label class="tick">
        <input type="checkbox" checked={cancel} onChange={(event) => setCancel(event.currentTarget.checked)} />
        Also cancel the original, if it has not ended
      </label>
      {changes ? (
        <Changes body={given} answer={answer} />
      ) : (
        <>
          <button type="button" class="button small" onClick={() => setChanges(true)}>
            With other values …
          </button>
          <div class="dialog-buttons">
            <button type="button" class="button" onClick={() => answer(null)}>
              Cancel
            </button>
            <button type="button" class="button primary" data-focus onClick={() => answer(given)}>
              Fork
            </button>
          </div>
        </>
      )}
    </Dialog>
  );
}

type Answering = Pick<AskedFork, "body" | "answer">;

function Changes({ body, answer }: Answering) {
  const run = useFetched(`run/${body.workflow_id}`, () => api.get("run", { id: body.workflow_id }), {});
  const catalog = useFetched("catalog", () => api.get("catalog"), {});
  const entry = catalog.data?.workflows.find((one) => one.name === run.data?.run.name);
  if (!run.data || !catalog.data) return <p class="muted">Reading the arguments …</p>;
  return <Filled body={body} answer={answer} schema={entry?.args_schema ?? null} given={namedArguments(run.data.run.input)} />;
}

interface FilledProps extends Answering {
  schema: Schema | null;
  given: { [name: string]: JsonValue } | null;
}

function Filled({ body, answer, schema, given }: FilledProps) {
  const args = useForm("args", schema, given ?? {});
  const how = useForm("how", HOW);
  const [before] = useState(() => JSON.stringify(args.draft.value));
  const submit = (): void => {
    const isChanged = JSON.stringify(args.draft.value) !== before;
    const [values, others] = [isChanged ? args.submit() : { value: null }, how.submit()];
    if (!values || !others || !isObject(others.value)) return;
    answer({ ...body, ...others.value, args: isObject(values.value) ? values.value : null });
  };
  return (
    <form
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={submitKey}
    >
      <Form form={args} label="Arguments" />
      <Form form={how} label="In place of the original's" plain />
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={() => answer(null)}>
          Cancel
        </button>
        <button type="submit" class="button primary">
          Fork
        </button>
      </div>
    </form>
  );
}
