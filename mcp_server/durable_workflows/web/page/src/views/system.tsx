/** The system: problems first, then queues, workers, versions, schedules and sessions, each with its actions. */

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import type { CatalogEntry, QueueInfo, SessionInfo, StatusShown, WorkerInfo } from "../api";
import { useChanges, useGet } from "../data";
import { Copy } from "../parts/Copy";
import { Loading } from "../parts/Empty";
import { Failure } from "../parts/Failure";
import { Icon } from "../parts/Icon";
import { Ago } from "../parts/Time";
import { Section, Table } from "../parts/Section";
import { href } from "../routes";
import { bytes, counted } from "../words";
import { asked } from "../run/newest";
import { Schedules } from "./schedules";

const LOOK_MS = 15_000; // for changes that come from no run: sessions, vanished workers

export function System() {
  const { data, error, reload } = useGet("status", {}, {});
  useChanges({ list: true }, reload);
  useRegularly(reload);
  return (
    <div class="view">
      <div class="view-head">
        <h1>System</h1>
      </div>
      <div class="view-body">
        {error && <Failure error={error} />}
        {data ? <Sections status={data} reload={reload} /> : !error && <Loading what="the state of the system" />}
      </div>
    </div>
  );
}

/** Look again now and then while the page is visible. */
function useRegularly(look: () => void): void {
  useEffect(() => {
    const timer = window.setInterval(() => {
      if (!document.hidden) look();
    }, LOOK_MS);
    return () => window.clearInterval(timer);
  }, []);
}

function Sections({ status, reload }: { status: StatusShown; reload: () => void }) {
  return (
    <>
      <Problems problems={status.problems} />
      <div class="grid">
        <Facts status={status} />
        <Workers workers={status.workers} newest={status.version} />
        <Queues queues={status.queues} />
        <Versions versions={status.versions_with_unfinished_runs} newest={status.version} />
        <Schedules schedules={status.schedules} reload={reload} />
        <Sessions sessions={status.sessions} />
      </div>
    </>
  );
}

function Problems({ problems }: { problems: readonly string[] }) {
  const catalog = useGet("catalog", {}, {});
  const broken = catalog.data?.workflows.filter((one) => one.error !== null) ?? [];
  if (problems.length === 0) {
    return (
      <p class="fine">
        <Icon name="check" /> Nothing is wrong.
      </p>
    );
  }
  return (
    <section class="section" aria-labelledby="problems">
      <h2 id="problems">{counted(problems.length, "problem")}</h2>
      <ul class="problems">
        {problems.map((one) => (
          <li key={one} class="notice wrap">
            {one} <Repair entry={broken.find(({ source }) => one.includes(source))} />
          </li>
        ))}
      </ul>
    </section>
  );
}

/** For a problem with a workflow file: the page that shows its error. */
function Repair({ entry }: { entry: CatalogEntry | undefined }) {
  return entry ? <a href={href("start", [entry.name])}>Show the error</a> : null;
}

// --- The project

function Facts({ status }: { status: StatusShown }) {
  const { waiting, storage } = status;
  return (
    <Section title="Project">
      <dl class="facts-list">
        <Fact name="Folder">
          <code class="wrap">{status.project}</code>
        </Fact>
        <Fact name="Database">
          {status.database} · {status.mode} · {bytes(status.database_bytes)}
        </Fact>
        <Fact name="Supervisor">{status.supervisor_pid === null ? "not running" : `process ${status.supervisor_pid}`}</Fact>
        <Fact name="Waiting">
          {counted(waiting.parked, "run")} without a process
          {waiting.next_due && (
            <>
              ; the next goes on <Ago at={waiting.next_due} />
            </>
          )}
        </Fact>
        <Fact name="Kept">{storage.keep_days === null ? "ended runs are kept for ever" : `ended runs for ${counted(storage.keep_days, "day")}`}</Fact>
        <Fact name="Logs">
          <code class="wrap">{status.logs}</code> <Copy text={status.logs} what="the folder of the logs" />
        </Fact>
        {status.dotenv.length > 0 && <Fact name="From .env">{status.dotenv.join(", ")}</Fact>}
      </dl>
      {storage.older_runs > 0 && (
        <p class="muted">
          {counted(storage.older_runs, "run")} ended more than {storage.older_than_days} days ago and {storage.older_runs === 1 ? "takes" : "take"} about{" "}
          {bytes(storage.older_bytes)}: <code>durable-workflows prune</code> removes them.
        </p>
      )}
    </Section>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

// --- Workers, queues, versions

function Workers({ workers, newest }: { workers: readonly WorkerInfo[]; newest: string | null }) {
  return (
    <Section title="Workers" empty={workers.length === 0 && "None is running. One starts by itself when a run needs it."}>
      <Table label="Workers" head={["Version", "State", "Process", "Started", "Last sign of life"]}>
        {workers.map((one) => (
          <tr key={`${one.host} ${one.pid}`}>
            <td>
              <VersionName version={one.version} newest={newest} />
            </td>
            <td>
              <span class={one.alive ? "status success" : "status error"}>
                <span class="dot" aria-hidden="true" />
                {one.alive ? one.state : "not heard of"}
              </span>
            </td>
            <td class="num" title={one.host}>
              {one.pid}
            </td>
            <td>
              <Ago at={one.started_at} />
            </td>
            <td>
              <Ago at={one.seen_at} />
            </td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}

function Queues({ queues }: { queues: readonly QueueInfo[] }) {
  return (
    <Section title="Queues" empty={queues.length === 0 && "No workflow file registers a queue."}>
      <Table label="Queues" head={["Queue", "Running", "Enqueued", "Limit"]}>
        {queues.map((one) => (
          <tr key={one.name}>
            <td class="wrap">{one.name}</td>
            <td class="num">{one.running.toLocaleString("en")}</td>
            <td class="num">{one.enqueued.toLocaleString("en")}</td>
            <td>
              <Limit queue={one} />
            </td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}

function Limit({ queue }: { queue: QueueInfo }) {
  const parts = [
    queue.concurrency !== null && `${queue.concurrency} at once`,
    queue.worker_concurrency !== null && `${queue.worker_concurrency} per worker`,
  ].filter(Boolean);
  const full = queue.concurrency !== null && queue.enqueued > 0 && queue.running >= queue.concurrency;
  return (
    <span class="muted">
      {parts.join(", ") || "none"}
      {full && " · full"}
    </span>
  );
}

function Versions({ versions, newest }: { versions: Readonly<Record<string, number>>; newest: string | null }) {
  const all = Object.entries(versions);
  const shown: [string, number][] = newest !== null && !(newest in versions) ? [[newest, 0], ...all] : all;
  const older = newest !== null && all.some(([version, count]) => version !== newest && count > 0);
  return (
    <Section title="Versions of the code" empty={shown.length === 0 && "No code has been saved yet."}>
      <Table label="Versions of the code" head={["Version", "Unfinished runs", ""]}>
        {shown.map(([version, count]) => (
          <tr key={version}>
            <td>
              <VersionName version={version} newest={newest} />
            </td>
            <td class="num">{count.toLocaleString("en")}</td>
            <td>
              <a href={href("runs", [], { version })}>
                Runs<span class="hidden"> of the version {version}</span>
              </a>
            </td>
          </tr>
        ))}
      </Table>
      {older && (
        <button type="button" class="button small" onClick={() => (asked.value = { what: "others" })}>
          Move the unfinished runs of other versions …
        </button>
      )}
    </Section>
  );
}

function VersionName({ version, newest }: { version: string; newest: string | null }) {
  return (
    <span class="row">
      <code title={version}>{version.slice(0, 10)}</code>
      {version === newest && <span class="chip">newest</span>}
    </span>
  );
}

// --- Sessions

function Sessions({ sessions }: { sessions: readonly SessionInfo[] }) {
  const sorted = [...sessions].sort((a, b) => Number(b.connected) - Number(a.connected) || b.last_seen.localeCompare(a.last_seen));
  return (
    <Section title="Sessions of clients" empty={sessions.length === 0 && "No client has been connected lately."}>
      <Table label="Sessions of clients" head={["Client", "Connection", "Seen", ""]}>
        {sorted.map((one) => (
          <tr key={one.session_id}>
            <td class="wrap">
              {one.client} <span class="muted">{one.version}</span>
            </td>
            <td>
              <span class={one.connected ? "status success" : "status cancelled"}>
                <span class="dot" aria-hidden="true" />
                {one.connected ? one.transport : "gone"}
              </span>
            </td>
            <td class="muted">
              <Ago at={one.connected ? one.since : one.last_seen} />
            </td>
            <td>
              <a href={href("runs", [], { started_by: one.session_id })}>
                Runs<span class="hidden"> that {one.session_id} started</span>
              </a>
            </td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}
