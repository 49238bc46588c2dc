/** The schedules: when each starts its workflow, what it started last, and its actions. A new one is made where its workflow is started. */

import type { ScheduleInfo } from "../api";
import { api } from "../data";
import { confirm } from "../parts/Dialog";
import { Section, Table } from "../parts/Section";
import { Status } from "../parts/Status";
import { Ago } from "../parts/Time";
import { toast } from "../parts/Toasts";
import { go, href, runHref } from "../routes";
import { attempt } from "../runs";

interface SchedulesProps {
  schedules: readonly ScheduleInfo[];
  reload: () => void;
}

export function Schedules({ schedules, reload }: SchedulesProps) {
  return (
    <Section title="Schedules">
      {schedules.length > 0 && (
        <Table label="Schedules" head={["Schedule", "When", "Next", "Last", ""]}>
          {schedules.map((one) => (
            <Schedule key={one.name} schedule={one} reload={reload} />
          ))}
        </Table>
      )}
      <p class="muted">
        {schedules.length === 0 && "There are none. "}
        <a href={href("start")}>Choose a workflow</a> to start at given times.
      </p>
    </Section>
  );
}

type Doing = "pause" | "resume" | "run" | "delete";

function Schedule({ schedule, reload }: { schedule: ScheduleInfo; reload: () => void }) {
  const paused = schedule.status !== "ACTIVE";
  const act = (what: Doing): void => void doIt(schedule, what, reload);
  return (
    <tr>
      <td class="wrap">
        {schedule.name}
        <div class="muted">
          starts <a href={href("runs", [], { name: schedule.workflow })}>{schedule.workflow}</a>
        </div>
        {schedule.args !== null && schedule.args !== "{}" && <code class="wrap small-text">{schedule.args}</code>}
        {schedule.problem !== null && <p class="problem wrap">{schedule.problem}</p>}
      </td>
      <td>
        <code>{schedule.cron}</code>
        {paused && <span class="chip">paused</span>}
        <div class="muted">{schedule.timezone}</div>
      </td>
      <td class="muted">
        {schedule.next_times.map((at) => (
          <div key={at}>
            <Ago at={at} />
          </div>
        ))}
      </td>
      <td class="muted">
        <Last schedule={schedule} />
      </td>
      <td>
        <div class="row end">
          <Act name={schedule.name} label="Run now" onClick={() => act("run")} />
          <Act name={schedule.name} label={paused ? "Resume" : "Pause"} onClick={() => act(paused ? "resume" : "pause")} />
          <Act name={schedule.name} label="Delete" onClick={() => act("delete")} />
        </div>
      </td>
    </tr>
  );
}

function Last({ schedule }: { schedule: ScheduleInfo }) {
  const { last_fired_at: at, last_workflow_id: run, last_status: status } = schedule;
  if (at === null) return <>never</>;
  return (
    <>
      {run === null ? <Ago at={at} /> : <a href={runHref(run)}><Ago at={at} /></a>}
      {status !== null && <Status status={status} />}
    </>
  );
}

function Act({ name, label, onClick }: { name: string; label: string; onClick: () => void }) {
  return (
    <button type="button" class="button small" onClick={onClick}>
      {label}
      <span class="hidden"> {name}</span>
    </button>
  );
}

const DONE: Readonly<Record<Doing, string>> = { pause: "paused", resume: "active again", run: "started", delete: "deleted" };

async function doIt(schedule: ScheduleInfo, what: Doing, reload: () => void): Promise<void> {
  if (what === "delete" && !(await isSure(schedule))) return;
  await attempt(async () => {
    const found = await api.post("schedule", { name: schedule.name, do: what });
    toast(`${schedule.name} is ${DONE[what]}.`);
    reload();
    if ("workflow_id" in found) go(runHref(found.workflow_id));
    return true;
  });
}

async function isSure(schedule: ScheduleInfo): Promise<boolean> {
  const body = "It starts nothing more. The runs that it started stay.";
  return (await confirm({ title: `Delete ${schedule.name}?`, body, action: "Delete schedule", keep: "Leave as is", danger: true })) !== null;
}
