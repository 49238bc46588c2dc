/** The dialogs about the newest code: what a run would do on it, and the move of unfinished runs to it. Looking executes nothing. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { MovedList, MoveFilter, Rehearsal } from "../api";
import { api, type ApiError, asApiError, useGet } from "../data";
import { Dialog } from "../parts/Dialog";
import { Failure } from "../parts/Failure";
import { Table } from "../parts/Section";
import { Took } from "../parts/Time";
import { runHref } from "../routes";
import { asked, look, moveSafe, replayed } from "./newest";
import { close, Verdict } from "./Verdict";

/** The place where these dialogs are shown: once in the page. */
export function NewestDialog() {
  const question = asked.value;
  switch (question?.what) {
    case "check":
      return <Check key={question.id} id={question.id} isUnfinished={question.isUnfinished} />;
    case "move":
      return <MoveRun key={question.id} id={question.id} />;
    case "others":
      return <MoveOthers />;
    case undefined:
      return null;
  }
}

interface Asking<T> {
  /** Since when an answer is waited for. */
  since: string | null;
  found: T | null;
  error: ApiError | null;
}

const NOTHING = { since: null, found: null, error: null };

/** One question at a time: an answer that comes after the next question, or after the end, is left out. */
function useAnswer<T>(): Asking<T> & { ask: (question: () => Promise<T>) => void; forget: () => void } {
  const [state, setState] = useState<Asking<T>>(NOTHING);
  const turn = useRef(0);
  const forget = (): void => {
    turn.current += 1;
    setState(NOTHING);
  };
  const put = async (question: () => Promise<T>): Promise<void> => {
    const mine = ++turn.current;
    const tell = (next: Partial<Asking<T>>): void => {
      if (turn.current === mine) setState({ ...NOTHING, ...next });
    };
    tell({ since: new Date().toISOString() });
    try {
      tell({ found: await replayed(question()) });
    } catch (error) {
      tell({ error: asApiError(error) });
    }
  };
  return { ...state, ask: (question) => void put(question), forget };
}

function Busy({ since, children }: { since: string | null; children: ComponentChildren }) {
  return (
    <p class="muted" role="status">
      {since && (
        <>
          {children} <span aria-hidden="true">
            <Took from={since} to={null} />
          </span>
        </>
      )}
    </p>
  );
}

// --- A check

function Check({ id, isUnfinished }: { id: string; isUnfinished: boolean }) {
  const [shaken, setShaken] = useState(false);
  const { since, found, error, ask, forget } = useAnswer<Rehearsal>();
  const title = "Check on the newest code";
  return (
    <Dialog title={title} onClose={close}>
      <h2>{title}</h2>
      <p class="muted wrap">The recorded steps of {id} are replayed on the newest code. Nothing is executed, and nothing is changed.</p>
      <label class="tick">
        <input
          type="checkbox"
          checked={shaken}
          onChange={(event) => {
            setShaken(event.currentTarget.checked);
            forget();
          }}
        />
        Also with another clock, hash seed, time zone and folder, and other random numbers and environment variables, which takes longer
      </label>
      <Busy since={since}>Replaying …</Busy>
      {error && <Failure error={error} />}
      {found && (
        <div class="wrap verdict" role="group" aria-label="Verdict">
          <Verdict found={found} cancelOriginal={isUnfinished} />
        </div>
      )}
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={close}>
          Close
        </button>
        <button type="button" class="button primary" data-focus disabled={since !== null} onClick={() => ask(() => api.get("rehearsal", { id, shaken }))}>
          {found ? "Check again" : "Check"}
        </button>
      </div>
    </Dialog>
  );
}

// --- Moves

const SAID = "First the recorded steps are replayed on the newest code, which executes nothing. A run that does not fit stays on its code.";

function MoveRun({ id }: { id: string }) {
  const answer = useAnswer<MovedList>();
  const again = (): void => answer.ask(() => look({ workflow_ids: [id] }));
  useEffect(again, []);
  const title = "Move to the newest code";
  return (
    <Dialog title={title} onClose={close} size="large">
      <h2>{title}</h2>
      <p class="muted wrap">
        {id} goes on with it, and so do the unfinished runs that it started. {SAID}
      </p>
      <Moving answer={answer} again={again} />
    </Dialog>
  );
}

function MoveOthers() {
  const answer = useAnswer<MovedList>();
  const [filter, setFilter] = useState<MoveFilter>({});
  const catalog = useGet("catalog", {}, {});
  const status = useGet("status", {}, {});
  const versions = Object.keys(status.data?.versions_with_unfinished_runs ?? {}).filter((one) => one !== status.data?.version);
  const choose = (more: MoveFilter): void => {
    setFilter({ ...filter, ...more });
    answer.forget();
  };
  const title = "Move the unfinished runs of other versions";
  return (
    <Dialog title={title} onClose={close} size="large">
      <h2>{title}</h2>
      <p class="muted wrap">They go on with the newest code. {SAID}</p>
      <div class="choices">
        <Choice label="Workflow" options={(catalog.data?.workflows ?? []).map((one) => [one.name, one.name])} onChoose={(name) => choose({ name })} />
        <Choice label="Version" options={versions.map((one) => [one, one.slice(0, 10)])} onChoose={(version) => choose({ version })} />
      </div>
      <Moving answer={answer} again={() => answer.ask(() => look({ filter }))} />
    </Dialog>
  );
}

interface ChoiceProps {
  label: string;
  options: readonly (readonly [value: string, label: string])[];
  onChoose: (value: string | null) => void;
}

function Choice({ label, options, onChoose }: ChoiceProps) {
  return (
    <select class="input pick" aria-label={label} onChange={(event) => onChoose(event.currentTarget.value || null)}>
      <option value="">{label}: any</option>
      {options.map(([value, text]) => (
        <option key={value} value={value}>
          {text}
        </option>
      ))}
    </select>
  );
}

/** The verdicts, and the buttons: nothing is moved before a person has seen what is safe. */
function Moving({ answer, again }: { answer: ReturnType<typeof useAnswer<MovedList>>; again: () => void }) {
  const { since, found, error, ask } = answer;
  const safe = found?.dry_run && found.workflows.some((one) => one.verdict === "safe") ? found : null;
  return (
    <>
      <Busy since={since}>Replaying the recorded steps on the newest code …</Busy>
      {error && <Failure error={error} />}
      {found && <Verdicts found={found} />}
      <div class="dialog-buttons">
        <button type="button" class="button" data-focus onClick={close}>
          Close
        </button>
        <button type="button" class={safe ? "button" : "button primary"} disabled={since !== null} onClick={again}>
          {found || error ? "Look again" : "Look"}
        </button>
        {safe && (
          <button type="button" class="button primary" onClick={() => ask(() => moveSafe(safe))}>
            {safe.workflows.length === 1 ? "Move run" : "Move what is safe"}
          </button>
        )}
      </div>
    </>
  );
}

function Verdicts({ found }: { found: MovedList }) {
  return (
    <>
      <p role="status">{found.note}</p>
      {found.workflows.length > 0 && (
        <Table label="What a move means" head={["Run", "Verdict"]}>
          {found.workflows.map((one) => (
            <tr key={one.workflow_id}>
              <td class="wrap">
                <a href={runHref(one.workflow_id)} class="mono" onClick={close}>
                  {one.workflow_id}
                </a>
                <p class="muted">{one.name}</p>
              </td>
              <td class="wrap verdict">
                <Verdict found={one} cancelOriginal />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
