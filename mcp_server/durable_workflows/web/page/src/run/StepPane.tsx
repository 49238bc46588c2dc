/** One step: its record, its output, and a fork from it. */

import { useLayoutEffect, useRef } from "preact/hooks";

import type { Attempt, Preview, RunningStep, Step, StepEffect, Waiting } from "../api";
import { api, useFetched } from "../data";
import { readableInput } from "../inputs";
import { CopyMenu } from "../parts/Copy";
import { Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Icon } from "../parts/Icon";
import { narrow } from "../parts/media";
import { Time, Took } from "../parts/Time";
import { Value } from "../parts/Value";
import { hasAddress, runHref } from "../routes";
import { fork, inboxHref, rewind } from "../runs";
import { type Chosen, stepOfWait } from "../timeline";
import { callOf, commandOf } from "./copies";
import { Fact } from "./Fact";
import { RecordedError } from "./RecordedError";
import { useLog } from "./log";
import { LogLines } from "./LogLines";
import { type Followed, useRun } from "./steps";

export interface StepPaneProps {
  of: Followed;
  chosen: Chosen;
  onClose: () => void;
}

export function StepPane({ of, chosen, onClose }: StepPaneProps) {
  const close = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => {
    if (narrow.value) close.current?.focus(); // the pane covers the focused element
  }, []);
  return (
    <aside class="pane step-pane" aria-label={`Step ${chosen.step}`}>
      <button ref={close} type="button" class="icon-button close" aria-label="Close the step" onClick={onClose}>
        <Icon name="close" />
      </button>
      {chosen.run === of.run.workflow_id ? <StepOf of={of} step={chosen.step} /> : <OfChild chosen={chosen} />}
    </aside>
  );
}

/** A step of a child run. */
function OfChild({ chosen }: { chosen: Chosen }) {
  const { data, error } = useRun(chosen.run);
  if (error) return <Failure error={error} />;
  if (!data) return <Loading what="the step" />;
  return (
    <>
      <p class="muted wrap">
        of <a href={runHref(chosen.run, chosen.step)}>{chosen.run}</a>
      </p>
      <StepOf of={data} step={chosen.step} />
    </>
  );
}

function StepOf({ of, step }: { of: Followed; step: number }) {
  const id = of.run.workflow_id;
  const recorded = of.steps.find((one) => one.step === step);
  const running = of.run.running.find((one) => one.step === step);
  const wait = of.run.waiting.find((one) => stepOfWait(one, of.steps) === step);
  if (wait && !recorded) return <Waits wait={wait} step={step} />;
  if (!recorded && !running) return <NoStep of={of} step={step} />;
  return (
    <>
      <h2 class="wrap">
        <span class="muted num">{step}</span> {(recorded ?? running)?.name}
      </h2>
      <div class="pane-actions">
        {recorded && (
          <button type="button" class="button small" onClick={() => void fork(id, step)}>
            Fork from here
          </button>
        )}
        {recorded && (
          <button type="button" class="button small" onClick={() => void rewind(id, step)}>
            Rewind to here
          </button>
        )}
        <CopyMenu
          items={[
            ...(hasAddress ? [{ label: "Link", text: () => new URL(runHref(id, step), location.href).href }] : []),
            { label: "Command", text: () => commandOf(id, step) },
            { label: "Tool call", text: () => callOf(id, step) },
          ]}
        />
      </div>
      {recorded ? <Recorded id={id} step={recorded} /> : running && <Running step={running} />}
      <OfEffect effect={of.run.effects.find((one) => one.step === step)} />
      <OfAttempts attempts={of.run.attempts.filter((one) => one.step === step)} />
      <StepLog id={id} step={step} />
    </>
  );
}

/** The run's wait at a step that is not recorded yet. */
function Waits({ wait, step }: { wait: Waiting; step: number }) {
  return (
    <>
      <h2 class="wrap">
        <span class="muted num">{step}</span> Waits on {wait.topic}
      </h2>
      <div class="pane-actions">
        <a class="button small primary" href={inboxHref(wait.workflow_id, step)}>
          Answer
        </a>
      </div>
      <dl class="facts">
        {wait.since && (
          <Fact name="Since">
            <Time at={wait.since} /> · <Took from={wait.since} to={null} />
          </Fact>
        )}
        <Fact name="Until">{wait.deadline ? <Time at={wait.deadline} /> : "it is answered"}</Fact>
      </dl>
      {wait.prompt && <pre class="text">{wait.prompt}</pre>}
    </>
  );
}

/** The attempts of a step that did not succeed at once. */
function OfAttempts({ attempts }: { attempts: Attempt[] }) {
  if (!attempts.length) return null;
  return (
    <dl class="facts">
      {attempts.map((one) => (
        <Fact key={one.attempt} name={`Attempt ${one.attempt} of ${one.max_attempts}`}>
          <Time at={one.began_at} /> · {one.outcome} {one.error && <span class="wrap muted">{one.error}</span>}
        </Fact>
      ))}
    </dl>
  );
}

/** What is known of a step that happens at most once. */
function OfEffect({ effect }: { effect: StepEffect | undefined }) {
  if (!effect) return null;
  return (
    <dl class="facts">
      <Fact name="Happens">at most once{effect.person_only && "; only a person resolves a doubt about it"}</Fact>
      {effect.decisions.map((one) => (
        <Fact key={one.at} name="Was in doubt">
          {one.who} said <Time at={one.at} /> that it has {one.happened ? "" : "not "}happened
        </Fact>
      ))}
    </dl>
  );
}

function NoStep({ of, step }: { of: Followed; step: number }) {
  const last = of.steps.at(-1)?.step ?? 0;
  return <p class="muted">{`The run has no step ${step}: the last one recorded is ${last}.`}</p>;
}

function Running({ step }: { step: RunningStep }) {
  return (
    <>
      <dl class="facts">
        <Fact name="Runs since">
          <Time at={step.since} /> · <Took from={step.since} to={null} />
        </Fact>
        {step.max_attempts > 1 && (
          <Fact name="Attempt">
            {step.attempt} of {step.max_attempts}
            {step.retry_at && (
              <>
                {" "}
                failed; the next one at <Time at={step.retry_at} />
              </>
            )}
          </Fact>
        )}
      </dl>
      {step.error && (
        <section>
          <h3>Error of the last attempt</h3>
          <pre class="text wrap">{step.error}</pre>
        </section>
      )}
    </>
  );
}

function Recorded({ id, step }: { id: string; step: Step }) {
  return (
    <>
      <dl class="facts">
        {step.scope && <Fact name="Scope">{step.scope}</Fact>}
        {step.label && <Fact name="Sleeps for">{step.label}</Fact>}
        {step.started_at && (
          <Fact name="Began">
            <Time at={step.started_at} />
          </Fact>
        )}
        {step.started_at && step.completed_at && (
          <Fact name="Took">
            <Took from={step.started_at} to={step.completed_at} />
          </Fact>
        )}
      </dl>
      {step.child_workflow_id && <ChildOf id={step.child_workflow_id} />}
      <Outcome id={id} step={step} />
    </>
  );
}

/** The input of a child is its step's input: no other input is recorded. */
function ChildOf({ id }: { id: string }) {
  const { data } = useFetched(`run/${id}`, () => api.get("run", { id }), { runs: [id] });
  const input = data?.run.input;
  const whole = async (): Promise<Preview> => (await api.get("value", { id, of: "input" })) ?? { text: "", length: 0 };
  return (
    <section>
      <h3>Run</h3>
      <p class="wrap">
        <a href={runHref(id)}>{id}</a>
      </p>
      {input && (
        <>
          <h3>Input</h3>
          <Value label="Input" preview={readableInput(input)} load={whole} />
        </>
      )}
    </section>
  );
}

function Outcome({ id, step }: { id: string; step: Step }) {
  const { output } = step;
  const whole = async (): Promise<Preview> => {
    const found = await api.get("step", { id, step: step.step });
    return found.output ?? { text: "", length: 0 };
  };
  return (
    <>
      {step.error && (
        <section>
          <h3>Error</h3>
          <RecordedError error={step.error} />
        </section>
      )}
      {output && (
        <section>
          <h3>Output</h3>
          <Value label="Output" preview={output} load={whole} />
        </section>
      )}
    </>
  );
}

function StepLog({ id, step }: { id: string; step: number }) {
  const lines = useLog(id).data?.filter((one) => one.step === step) ?? [];
  if (lines.length === 0) return null;
  return (
    <section>
      <h3>Log</h3>
      <LogLines lines={lines} onStep={null} />
    </section>
  );
}
