/** The head of a run: its identity, its status, and the actions on it. */

import type { Run } from "../api";
import { api } from "../data";
import { namedArguments } from "../inputs";
import { Copy, CopyMenu, Menu, type MenuItem } from "../parts/Copy";
import { Icon } from "../parts/Icon";
import { Status } from "../parts/Status";
import { Ago, Time, Took } from "../parts/Time";
import { go, hasAddress, href, runHref } from "../routes";
import { change, fork, isStopped, isUnfinished } from "../runs";
import { callOf, commandOf, promptOf } from "./copies";
import { Fact } from "./Fact";
import { asked, type AskedNewest } from "./newest";
import type { Followed } from "./steps";

export function Head({ shown }: { shown: Followed }) {
  const { run } = shown;
  return (
    <header class="run-head">
      <div class="run-title">
        <h1 class="wrap">{run.name}</h1>
        <Status status={run.status} waitingOn={run.waiting[0]?.topic} />
        <Actions shown={shown} />
      </div>
      <div class="run-id">
        <code class="wrap">{run.workflow_id}</code>
        <Copy text={run.workflow_id} what="workflow_id" />
      </div>
      <Facts run={run} />
    </header>
  );
}

function Facts({ run }: { run: Run }) {
  return (
    <dl class="facts">
      <Fact name="Started">
        <Time at={run.created_at} /> <span class="muted">(<Ago at={run.created_at} />)</span>
      </Fact>
      <Fact name={run.completed_at ? "Took" : "For"}>
        <Took from={run.created_at} to={run.completed_at} />
      </Fact>
      {run.deadline && (
        <Fact name="Deadline">
          <Time at={run.deadline} />
        </Fact>
      )}
      {run.version && (
        <Fact name="Version">
          <a href={href("runs", [], { version: run.version })}>{run.version}</a>
          {run.newest_version && run.version !== run.newest_version && <span class="muted"> (not the newest)</span>}
          {isOld(run) && (
            <>
              {" "}
              <button type="button" class="button small" onClick={() => (asked.value = { what: "move", id: run.workflow_id })}>
                Move to the newest code
              </button>
            </>
          )}
        </Fact>
      )}
      {run.started_by && (
        <Fact name="Started by">
          <a href={href("runs", [], { started_by: run.started_by })}>{run.started_by}</a>
        </Fact>
      )}
      {run.recovery_attempts > 1 && <Fact name="Taken up">{run.recovery_attempts} times</Fact>}
      <Family run={run} />
    </dl>
  );
}

/** Whether it is known to be unfinished on older code. */
function isOld(run: Run): boolean {
  return isUnfinished(run.status) && run.newest_version !== null && run.version !== run.newest_version;
}

function Family({ run }: { run: Run }) {
  return (
    <>
      {run.parent_workflow_id && (
        <Fact name="Started from">
          <RunLink id={run.parent_workflow_id} />
        </Fact>
      )}
      {run.forked_from && (
        <Fact name="Forked from">
          <RunLink id={run.forked_from} />
          {run.forked_at !== null && <span class="muted"> at step {run.forked_at}</span>}{" "}
          <a href={href("compare", [run.forked_from, run.workflow_id])}>compare</a>
        </Fact>
      )}
      {run.forks.map((one) => (
        <Fact key={one.workflow_id} name="Fork">
          <RunLink id={one.workflow_id} /> <Status status={one.status} />{" "}
          <a href={href("compare", [run.workflow_id, one.workflow_id])}>compare</a>
        </Fact>
      ))}
      {run.rewound_from && (
        <Fact name="Kept from">
          <RunLink id={run.rewound_from} /> <span class="muted">when it was rewound to step {run.rewound_to}</span>
        </Fact>
      )}
      {run.rewinds.map((one) => (
        <Fact key={one.workflow_id} name={`Rewound to step ${one.to_step}`}>
          <RunLink id={one.workflow_id} /> <Status status={one.status} />{" "}
          <a href={href("compare", [one.workflow_id, run.workflow_id])}>compare</a>
        </Fact>
      ))}
      {run.children.length > 0 && (
        <Fact name="Started runs">
          <a href={href("runs", [], { parent: run.workflow_id })}>{run.children.length.toLocaleString("en")}</a>
        </Fact>
      )}
    </>
  );
}

function RunLink({ id }: { id: string }) {
  return (
    <a href={runHref(id)} class="mono">
      {id}
    </a>
  );
}

function Actions({ shown }: { shown: Followed }) {
  const { run } = shown;
  const id = run.workflow_id;
  return (
    <div class="run-actions">
      {isUnfinished(run.status) && (
        <button type="button" class="button" onClick={() => void change("cancel", [id])}>
          Cancel run
        </button>
      )}
      {isStopped(run.status) && (
        <button type="button" class="button primary" onClick={() => void change("resume", [id])}>
          Resume
        </button>
      )}
      <Menu label="Run again" items={again(shown)} />
      <CopyMenu
        items={[
          ...(hasAddress ? [{ label: "Link", text: () => location.href }] : []),
          { label: "Command", text: () => commandOf(id, null) },
          { label: "Tool call", text: () => callOf(id, null) },
          { label: "Prompt for an agent", text: () => promptOf(shown) },
        ]}
      />
      <Download href={api.address("download", { id })} />
      <Menu label="More" bare icon="more" items={more(run)} />
    </div>
  );
}

function Download({ href }: { href: string | null }) {
  if (href === null) return null;
  return (
    <a class="button" href={href} download>
      <Icon name="download" />
      <span class="button-text">Download</span>
    </a>
  );
}

/** The ways to run it again: from a step, or with other arguments. */
function again({ run, steps }: Followed): MenuItem[] {
  const id = run.workflow_id;
  const last = steps.at(-1)?.step ?? 0;
  const failed = steps.findLast((one) => one.error !== null)?.step;
  return [
    ...(failed === undefined ? [] : [{ label: `Fork from step ${failed}, which failed`, act: () => void fork(id, failed) }]),
    { label: `Fork after the last step (${last})`, act: () => void fork(id, last + 1) },
    { label: "Fork from the beginning", act: () => void fork(id, 1) },
    { label: "Start with other arguments", act: () => go(startHref(run)) },
  ];
}

function startHref(run: Run): string {
  const args = namedArguments(run.input);
  return href("start", [run.name], args ? { args: JSON.stringify(args) } : {});
}

function more(run: Run): MenuItem[] {
  const id = run.workflow_id;
  const remove = async (): Promise<void> => {
    if (await change("delete", [id])) go(href("runs"));
  };
  const ended = !isUnfinished(run.status);
  const ask = (question: AskedNewest) => (): void => {
    asked.value = question;
  };
  return [
    { label: "Compare with another run", act: () => go(href("compare", [id])) },
    { label: "Check on the newest code", act: ask({ what: "check", id, isUnfinished: !ended }) },
    // Also of a run that had the newest code when this was read: files may have changed since.
    ...(ended || isOld(run) ? [] : [{ label: "Move to the newest code", act: ask({ what: "move", id }) }]),
    ...(ended ? [{ label: "Delete run", danger: true, act: () => void remove() }] : []),
  ];
}
