// What the page and its server exchange. Made of the Python models by `make docs`: do not edit.

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** What a person answered at a step. `how` is `terminal`, `page` for the page in a browser, `app` for the page inside a client, or `elicitation` for the form of a client; `shown` is the text that was shown. `taken_from` is the run that asked, if a fork took over its answer. */
export interface Answer {
  step: number;
  topic: string;
  who: string;
  how: string;
  at: string;
  shown: string;
  answer: Preview;
  taken_from: string | null;
}

/** A person's answer to what a run waits for at a step. */
export interface AnswerBody {
  workflow_id: string;
  step: number;
  value: JsonValue;
}

/** An attempt (from 1) of a step with `Retry` that did not succeed at once. `interrupted`: its process ended before it had returned. `next_at` is when the next attempt began, or begins. */
export interface Attempt {
  step: number;
  name: string;
  attempt: number;
  max_attempts: number;
  outcome: "failed" | "interrupted" | "succeeded" | "running";
  began_at: string;
  failed_at: string | null;
  error: string | null;
  next_at: string | null;
}

/** An event of another run. */
export interface AwaitedEvent {
  workflow_id: string;
  key: string;
}

/** A backup in the project's own folder. */
export interface BackupKept {
  /** Its path. */
  file: string;
  /** What was recorded before is in it. */
  at: string;
  /** Its size. */
  bytes: number;
}

/** The workflows of the newest version of the code. */
export interface Catalog {
  /** The workflows. */
  workflows: CatalogEntry[];
  /** Files to copy with write_workflow. */
  templates: TemplateEntry[];
  /** A version of the code. */
  version: string;
}

/** A workflow. With `error`, its file does not load; with `not_startable`, it is a method without its object. Otherwise it can be started. */
export interface CatalogEntry {
  /** The registered name of the workflow. */
  name: string;
  /** The first lines of its docstring. */
  summary: string;
  /** A JSON schema of its arguments. */
  args_schema: { [key: string]: JsonValue };
  /** Its file. */
  source: string;
  /** Why the file does not load. */
  error: string | null;
  /** Why a method cannot be started. */
  not_startable: string | null;
  /** Steps of its file that happen at most once. */
  once: string[];
}

/** A place where two JSON values differ: `path` as in `items[3].price`, empty for the whole. A side is JSON, perhaps cut; None: there is nothing at that place. */
export interface Change {
  path: string;
  a: Preview | null;
  b: Preview | null;
}

/** What happened to one run of a `cancel`, `resume` or `delete_workflows`. */
export interface Changed {
  /** The workflow_id of the run. */
  workflow_id: string;
  /** Whether it was cancelled, resumed or deleted now. */
  changed: boolean;
  status: string | null;
  /** The outcome, and what continues. */
  note: string;
}

/** What happened to each run; `note` counts the runs that they started and that were left unchanged. */
export interface ChangedList {
  /** The runs that you named, and those that changed with them. */
  workflows: Changed[];
  /** What was left out, and how many others stayed as they were. */
  note: string | null;
}

/** The changes to report: of these runs, of the list of runs with their numbers by status, and of the waits of all runs. */
export interface ChangesQuery {
  runs?: string[];
  list?: boolean;
  waits?: boolean;
}

/** A run that another one started. */
export interface Child {
  workflow_id: string;
  name: string;
  /** PENDING, ENQUEUED, DELAYED, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED */
  status: string;
  parent_workflow_id: string;
  waiting_on: string | null;
  ok: boolean | null;
}

/** Two runs. Outputs and errors come of the first 200 steps that differ after the first `after` of these. */
export interface CompareQuery {
  a: string;
  b: string;
  after?: number;
}

/** Two runs side by side. `differs` says in what; a run that has not ended yet has no output, and later steps are missing. `steps` are in the order in which the runs did them; `first_difference` is the place of the first of them that differs. `left_out` counts the steps whose number is above `MOST_COMPARED`. `taken_over` is there where one is a fork of the other. */
export interface Compared {
  a: ComparedRun;
  b: ComparedRun;
  differs: ("name" | "version" | "status" | "input" | "output" | "error" | "steps")[];
  input: ComparedValue;
  output: ComparedValue;
  error: ComparedValue;
  taken_over: TakenOver | null;
  steps: ComparedStep[];
  first_difference: number | null;
  left_out: number;
}

/** One of two runs that are compared. */
export interface ComparedRun {
  workflow_id: string;
  name: string;
  /** PENDING, ENQUEUED, DELAYED, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED */
  status: string;
  version: string | null;
  created_at: string;
  completed_at: string | null;
  forked_from: string | null;
  forked_at: number | null;
  total_steps: number;
}

/** The steps of two runs that have the same name, and are there for the `occurrence`-th time; None: that run has none. `differs` says in what: one run has no such step, or another output or error. Outputs and errors are there only of steps that differ, of the first `MOST_VALUES` of them. Ids of children, tracebacks, and when a sleep ended are never a difference. `taken_over` is a step that a fork took over: both are one and the same. `changes` are the first places in which the outputs differ, if both are here whole. */
export interface ComparedStep {
  name: string;
  occurrence: number;
  a: Step | null;
  b: Step | null;
  differs: ("missing" | "output" | "error")[];
  changes: Change[];
  taken_over: boolean;
}

/** The input, output or error of two runs; None: there is none. `changes` are the first places where two whole values differ. */
export interface ComparedValue {
  a: Preview | null;
  b: Preview | null;
  same: boolean;
  changes: Change[];
}

/** What was said of a step in doubt: whether it has happened. `how` is `tool`, `command`, or a person's way as in `Answer`. */
export interface Decision {
  who: string;
  how: string;
  at: string;
  happened: boolean;
}

/** A message that the run will get or has already got; `note` says if the run does not wait for it now, or if it was sent before. */
export interface Delivered {
  /** The workflow_id of the run. */
  workflow_id: string;
  /** The topic of the message. */
  topic: string;
  /** Whether the run gets this message, or has got it. */
  delivered: boolean;
  /** What to check: the run does not wait for it now, or it was sent before. */
  note: string | null;
}

/** What a run publishes with `DBOS.set_event`: the newest value of a key. */
export interface Event {
  key: string;
  value: Preview;
}

/** A fork of a run. */
export interface Fork {
  /** The workflow_id of the run. */
  workflow_id: string;
  /** PENDING, ENQUEUED, DELAYED, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED */
  status: string;
}

/** A fork; `anyway` also if a step that must not happen twice would happen again. What it has in place of what the original has: `new_workflow_id`, `args`, `outputs` by step. */
export interface ForkBody {
  workflow_id: string;
  from_step: number;
  same_version?: boolean;
  anyway?: boolean;
  new_workflow_id?: string | null;
  args?: { [key: string]: JsonValue } | null;
  outputs?: { [key: string]: JsonValue };
  cancel_original?: boolean;
  fork_children?: boolean;
}

/** A new run that was forked from another one. */
export interface Forked {
  /** The new run. */
  workflow_id: string;
  /** The original run. */
  forked_from: string;
  /** The first step that runs again. */
  from_step: number;
  version: string | null;
  /** It was forked before, with the same workflow_id. */
  existing: boolean;
  /** What goes on besides, and which answers of people were taken over. */
  note: string | null;
}

/** What a run waits for, with its arguments: the answer of a person, a message, or what is said of a step in doubt. `root_workflow_id` is the run at the root of its family, perhaps itself. */
export interface InboxItem {
  wait: OpenWait;
  asked: "person" | "message" | "doubt";
  name: string;
  root_workflow_id: string;
  input: Preview | null;
}

/** A line that a run printed (`stream` is out or err) or logged (`stream` is the level); `step` is None for the workflow's own code. */
export interface LogLine {
  id: number;
  at: string;
  step: number | null;
  stream: string;
  text: string;
}

/** The newest log lines of a run with a higher id than `after`. */
export interface LogQuery {
  id: string;
  after?: number;
  limit?: number;
}

/** Marks of the runs by workflow_id, of the `newest` runs with the numbers of all, and of the waits. A mark that differs from an earlier one means a change. */
export interface MarksShown {
  runs: { [key: string]: string };
  newest: string | null;
  waits: string | null;
}

/** A message that was sent to the run. `of_nobody`: its topic is for people but no person sent it, so the run skips it. */
export interface Message {
  topic: string;
  sent_at: string;
  consumed_by_step: number | null;
  message: Preview;
  of_nobody: boolean;
}

/** Which runs go on with another version of the code: some, or those that a filter finds. With `dry_run` nothing is changed. */
export interface MoveBody {
  workflow_ids?: string[] | null;
  filter?: MoveFilter | null;
  version?: string;
  dry_run?: boolean;
}

/** Which unfinished runs are moved to a version: those of other versions that all of these allow. */
export interface MoveFilter {
  name?: string | null;
  version?: string | null;
  status?: "PENDING" | "ENQUEUED" | "DELAYED" | null;
  since?: string | null;
}

/** What a move to another version means for one run. */
export interface Moved {
  /** The workflow_id of the run. */
  workflow_id: string;
  /** The registered name of the workflow. */
  name: string;
  /** safe: it can be moved. moved: it was. differs: the code does not fit its recorded steps, and it stays. stays: see note. */
  verdict: "safe" | "moved" | "differs" | "stays";
  /** The version that it has now. */
  version: string | null;
  /** The first step that differs. */
  step: number | null;
  /** What that step is in the record. */
  recorded: string | null;
  /** What the code calls in its place. */
  called: string | null;
  /** Why it stays, or what to do. */
  note: string | null;
}

/** What a move to a version means for each run: those that were named or found, then the unfinished runs that they started. */
export interface MovedList {
  /** The version that they shall have. */
  version: string;
  /** Nothing was changed. */
  dry_run: boolean;
  /** The runs. */
  workflows: Moved[];
  /** How many were moved, what was left out, and what to do next. */
  note: string | null;
}

/** What has changed: of the runs that are watched these, the list of runs, the waits. */
export interface News {
  runs: string[];
  list: boolean;
  waits: boolean;
}

/** No query. */
export type Nothing = { [key: string]: never };

/** What a run waits for, with the JSON schema of the message if the author gave one. */
export interface OpenWait {
  workflow_id: string;
  step: number;
  topic: string;
  prompt: string | null;
  message_schema: { [key: string]: JsonValue } | null;
  since: string;
  deadline: string | null;
  person_only: boolean;
}

/** A part of a sentence. With `action`, it is the call of that tool, which `text` writes out; `blanks` are the arguments that a person has to fill in. */
export interface Part {
  text: string;
  action: string | null;
  args: { [key: string]: JsonValue } | null;
  blanks: string[];
}

/** A recorded value as JSON text, cut to a length; `length` is that of the whole value, in bytes if it is far longer than the cut text. */
export interface Preview {
  text: string;
  length: number;
}

/** The project that the page shows. `version` is the newest of its code, `release` that of this software; `user` is who answers on this page. */
export interface Project {
  project: string;
  application: string;
  mode: "embedded" | "external";
  version: string | null;
  release: string;
  user: string;
}

/** A queue, with the number of its runs. */
export interface QueueInfo {
  name: string;
  concurrency: number | null;
  worker_concurrency: number | null;
  enqueued: number;
  running: number;
}

/** What keeps a run in its queue. `holders` are the first of the `running` runs; `ahead` counts the runs queued before it; `next_start` is when the rate limit allows the next start. */
export interface QueuePlace {
  concurrency: number | null;
  worker_concurrency: number | null;
  rate_limit: number | null;
  rate_seconds: number | null;
  running: number;
  holders: string[];
  ahead: number;
  next_start: string | null;
}

/** Why a request was not answered, and what to do. */
export interface Refusal {
  error: string;
  hint: string | null;
}

/** What a recorded run would do on other code: its recorded steps, replayed there without executing anything. */
export interface Rehearsal {
  /** The workflow_id of the run. */
  workflow_id: string;
  /** The registered name of the workflow. */
  name: string;
  /** safe: the code calls what is recorded. differs: it calls something else. unknown: see note. */
  verdict: "safe" | "differs" | "unknown";
  /** The first step that differs: a fork would begin there. */
  step: number | null;
  /** What that step is in the record. */
  recorded: string | null;
  /** What the code calls in its place. */
  called: string | null;
  /** How many recorded steps were replayed. */
  steps: number;
  /** Why the verdict is unknown, or under which conditions it differs. */
  note: string | null;
}

/** A run whose recorded steps are replayed on the newest code; `shaken` also under other conditions. */
export interface RehearsalQuery {
  id: string;
  shaken?: boolean;
}

/** A wait of a run that is parked: no process holds it. `events` are those it waits for, `until` the end of its wait, or its own deadline. */
export interface Rest {
  since: string;
  until: string | null;
  events: AwaitedEvent[];
}

/** What a rewind to a step has kept of a run, as another run. */
export interface Rewind {
  /** The workflow_id of the run. */
  workflow_id: string;
  /** PENDING, ENQUEUED, DELAYED, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED */
  status: string;
  to_step: number;
}

/** A rewind, on the newest code with `latest_version`; `anyway` as for a fork. */
export interface RewindBody {
  workflow_id: string;
  to_step: number;
  latest_version?: boolean;
  anyway?: boolean;
}

/** A run that goes again from a step. */
export interface Rewound {
  /** The run. */
  workflow_id: string;
  /** The first step that runs again. */
  to_step: number;
  version: string | null;
  /** The run that has what this one had done before. */
  kept_as: string;
  /** It was rewound so before. */
  existing: boolean;
  /** Which answers of people stay. */
  note: string | null;
}

/** Everything about one run, with its payloads cut. `steps` may be a page: `total_steps` is the number of all. `events` are the newest `MOST_EVENTS`. `forked_at` is the first step that a fork ran itself. A run with `rewound_from` is what that run had done when it was rewound to the step `rewound_to`; `rewinds` are those of this run. `ended_with` is the run whose end cancelled this one. For a stopped run, `stopped_children` counts the cancelled and dead-lettered runs that it started, and theirs. `effects` are the steps that happen at most once, those in doubt first, at most `MOST_EFFECTS`. `attempts` are those of steps that did not succeed at once, the newest first, at most `MOST_ATTEMPTS`. `rest` is the wait of a parked run. `unavailable` says why its code cannot run, `place` what keeps it in its queue, `absence` why no worker of its version is running, `suspect` that it may end its worker. */
export interface Run {
  workflow_id: string;
  name: string;
  /** PENDING, ENQUEUED, DELAYED, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED */
  status: string;
  created_at: string;
  updated_at: string;
  completed_at: string | null;
  version: string | null;
  queue: string | null;
  recovery_attempts: number;
  forked_from: string | null;
  forked_at: number | null;
  rewound_from: string | null;
  rewound_to: number | null;
  parent_workflow_id: string | null;
  ended_with: string | null;
  started_by: string | null;
  deadline: string | null;
  delayed_until: string | null;
  input: Preview | null;
  output: Preview | null;
  error: Preview | null;
  steps: Step[];
  total_steps: number;
  running: RunningStep[];
  waiting: Waiting[];
  children: Child[];
  stopped_children: number;
  forks: Fork[];
  rewinds: Rewind[];
  events: Event[];
  answers: Answer[];
  effects: StepEffect[];
  attempts: Attempt[];
  unread_messages: number;
  unread_topics: string[];
  newest_version: string | null;
  worker: WorkerInfo | null;
  unavailable: string | null;
  place: QueuePlace | null;
  absence: string | null;
  suspect: Suspect | null;
  rest: Rest | null;
}

/** One run. */
export interface RunQuery {
  id: string;
}

/** A run, why it is where it is, and what to do next. Its `steps` are left out here; `log_last` is the id of its last log line, 0 without any. */
export interface RunShown {
  run: Run;
  why: Part[];
  next: Part[];
  log_last: number;
}

/** A run in a list. `started_by` is the session_id of the client that started it, `parent_workflow_id` the run that started it; `forks` are its newest forks. `ok` is false if its output says so near its start: it finished, but says that it did not succeed. */
export interface RunSummary {
  /** The workflow_id of the run. */
  workflow_id: string;
  /** The registered name of the workflow. */
  name: string;
  /** PENDING, ENQUEUED, DELAYED, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED */
  status: string;
  /** When it was started. */
  created_at: string;
  /** When its status changed last. */
  updated_at: string;
  /** The topic on which it waits. */
  waiting_on: string | null;
  /** Until when it sleeps, and for what, if its sleep has a name. */
  asleep: string | null;
  /** False if its output says so near its start: the run finished, but did not succeed. */
  ok: boolean | null;
  /** The error with which it failed. */
  error: string | null;
  /** The session that started it. */
  started_by: string | null;
  /** The run that started it. */
  parent_workflow_id: string | null;
  /** The run whose steps it took over. */
  forked_from: string | null;
  /** The run that was rewound; this is what it had done before. */
  rewound_from: string | null;
  /** Its newest forks, perhaps repairs. */
  forks: Fork[];
}

/** A step that is running. `attempt` counts from 1. With `retry_at`, the attempt has failed with `error`, and the next one begins then. */
export interface RunningStep {
  step: number;
  name: string;
  since: string;
  attempt: number;
  max_attempts: number;
  retry_at: string | null;
  error: string | null;
}

/** Runs to cancel, resume or delete; with `children` also those that they started. */
export interface RunsBody {
  workflow_ids: string[];
  children?: boolean;
}

/** Which runs are listed: those that all of these allow. `text` is in their input, output or error. */
export interface RunsQuery {
  status?: string | null;
  name?: string | null;
  version?: string | null;
  started_by?: string | null;
  text?: string | null;
  since?: string | null;
  roots?: boolean;
  parent?: string | null;
  oldest_first?: boolean;
  waiting?: boolean | null;
  limit?: number;
  cursor?: string | null;
}

/** A page of runs. `parents` are those of them that have started others. */
export interface RunsShown {
  /** The runs of this page. */
  workflows: RunSummary[];
  /** The number of all runs, by status. */
  counts: { [key: string]: number };
  /** How many of all runs wait for a message. */
  waiting: number;
  /** For the next page. */
  next_cursor: string | null;
  /** How many runs were looked through for `text`; next_cursor goes on after them. */
  looked_through: number | null;
  parents: string[];
}

/** What to do with a schedule. */
export interface ScheduleBody {
  name: string;
  do: "pause" | "resume" | "run" | "delete";
}

/** A schedule: made by `schedule`, or by workflow code. `cron` may have a sixth field in front, for seconds. */
export interface ScheduleInfo {
  /** Its name. */
  name: string;
  /** The workflow that it starts. */
  workflow: string;
  /** When; a sixth field in front is for seconds. */
  cron: string;
  /** The time zone of `cron`. */
  timezone: string;
  /** Whether it is active. */
  status: string;
  /** Its next times, if it is active. */
  next_times: string[];
  /** When it started a run last. */
  last_fired_at: string | null;
  /** The run of that time. */
  last_workflow_id: string | null;
  /** The status of that run. */
  last_status: string | null;
  /** Whether workflow code made it. */
  from_code: boolean;
  /** The arguments of its runs, as JSON; long ones are cut. */
  args: string | null;
  /** What happens to times that passed while no worker ran. */
  missed: "skip" | "last" | "all" | null;
  /** The queue of its runs. */
  queue: string | null;
  /** The priority of its runs. */
  priority: number | null;
  /** Why it cannot start what it should, and what to do. */
  problem: string | null;
}

/** A schedule to make. It starts a run of `workflow` with `args` at each time of `cron`. `missed` says what happens to times that passed while no worker ran. */
export interface ScheduleRequest {
  name: string;
  workflow: string;
  cron: string;
  args?: { [key: string]: JsonValue };
  timezone?: string;
  missed?: "skip" | "last" | "all";
  queue?: string | null;
  priority?: number | null;
  replace?: boolean;
}

/** The schedules that were listed, or the one that was changed, as it is now; of a deleted one, how it was. */
export interface ScheduleResult {
  /** The schedules. */
  schedules: ScheduleInfo[];
  /** Whether it was there before, the same; then nothing changed. */
  existing: boolean;
  workflow_id: string | null;
}

/** A message to a run. */
export interface SendBody {
  workflow_id: string;
  topic: string;
  message: JsonValue;
  idempotency_key?: string | null;
}

/** A client that is, or recently was, connected to an MCP server of this project. */
export interface SessionInfo {
  /** Its id, as `started_by` of runs. */
  session_id: string;
  /** The client's name. */
  client: string;
  /** The client's version. */
  version: string;
  /** How it is connected. */
  transport: "stdio" | "http";
  /** When it connected. */
  since: string;
  /** When it was there last. */
  last_seen: string;
  /** Whether it is there now. */
  connected: boolean;
}

/** The workflow file of a run, in its version. */
export interface Source {
  path: string;
  text: string;
}

/** One start, as an item of `batch`. */
export interface StartRequest {
  name: string;
  args?: { [key: string]: JsonValue };
  workflow_id?: string | null;
  queue?: string | null;
  delay_seconds?: number | null;
  timeout_seconds?: number | null;
  priority?: number | null;
}

/** A run that was just started, or (`existing`) started before with the same workflow_id. */
export interface Started {
  workflow_id: string;
  /** PENDING, ENQUEUED, DELAYED, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED */
  status: string;
  version: string | null;
  existing: boolean;
  output: JsonValue;
  error: string | null;
}

/** What is running here, any problems, and the queues. */
export interface StatusShown {
  /** The project directory. */
  project: string;
  /** Where the database is. */
  mode: "embedded" | "external";
  /** Whether it answers. */
  database: string;
  /** The process that starts the others. */
  supervisor_pid: number | null;
  version: string | null;
  /** The workers that are running. */
  workers: WorkerInfo[];
  /** How many unfinished runs each version has. */
  versions_with_unfinished_runs: { [key: string]: number };
  /** The number of all runs, by status. */
  counts: { [key: string]: number };
  /** Runs that need no process now. */
  waiting: WaitingRuns;
  /** The size of the database. */
  database_bytes: number;
  /** How long runs are kept. */
  storage: Storage;
  /** The newest backup in .dbos/backups. */
  backup: BackupKept | null;
  /** The folder of the log files. */
  logs: string;
  /** Variables that workflow code gets from the project's `.env`. */
  dotenv: string[];
  /** Where it is served over HTTP. */
  http: string[];
  /** The schedules. */
  schedules: ScheduleInfo[];
  /** The clients that are, or recently were, connected. */
  sessions: SessionInfo[];
  /** Your own session. */
  this_session: string | null;
  /** What is wrong, each with what to do. */
  problems: string[];
  /** The queues, with the numbers of their runs. */
  queues: QueueInfo[];
}

/** A finished step, as recorded. `scope` is the path of the scopes that it is in, `label` the name of a sleep. */
export interface Step {
  step: number;
  name: string;
  started_at: string | null;
  completed_at: string | null;
  output: Preview | null;
  error: Preview | null;
  child_workflow_id: string | null;
  scope: string | null;
  label: string | null;
}

/** A step that happens at most once. With `doubt_since` it is in doubt: a process that had begun it ended before its result was recorded. `problem`: why its own look-up failed. */
export interface StepEffect {
  step: number;
  name: string;
  began_at: string;
  person_only: boolean;
  doubt_since: string | null;
  problem: string | null;
  decisions: Decision[];
}

/** One step of a run. */
export interface StepQuery {
  id: string;
  step: number;
}

/** A page of the steps of a run, which has `total` of them. */
export interface StepsPage {
  steps: Step[];
  total: number;
}

/** A page of the steps of a run: those with a higher number than `after`. */
export interface StepsQuery {
  id: string;
  after?: number;
  limit?: number;
}

/** For how long runs are kept, and what pruning would free. */
export interface Storage {
  /** After how many days ended runs are deleted; null: never. */
  keep_days: number | null;
  /** What `older_runs` counts. */
  older_than_days: number;
  /** How many runs ended more than so many days ago; of more than 10,000, an estimate. */
  older_runs: number;
  /** About how much of the database they take. */
  older_bytes: number;
}

/** A stream of a run, to which it has written `length` values; `values` are the last `MOST_STREAM_VALUES`. One that is `closed` gets no more. */
export interface Stream {
  key: string;
  length: number;
  closed: boolean;
  values: StreamValue[];
}

/** A value that a run wrote to a stream, in its step. */
export interface StreamValue {
  place: number;
  step: number;
  value: Preview;
}

/** A run that had code under way when its worker ended unexpectedly. `ends` counts such workers; `status` is that of the last one (negative: a signal). It happened after the step `after_step`, in `step` if that is known. With `apart`, it runs in its own worker, or in one with `others`. `alone` counts the workers in which no other run had code under way. */
export interface Suspect {
  ends: number;
  alone: number;
  status: number;
  after_step: number;
  step: string | null;
  apart: boolean;
  others: number;
}

/** What one of two runs, a fork of the other, took over: `steps` steps, those before `from_step`. `fork` says which run is the fork. */
export interface TakenOver {
  fork: "a" | "b";
  from_step: number | null;
  steps: number;
}

/** A file to copy as the start of your own workflow. */
export interface TemplateEntry {
  /** What write_workflow takes as `template`. */
  name: string;
  /** When to use it. */
  use_when: string;
}

/** A payload of a run. */
export interface ValueQuery {
  id: string;
  of: "input" | "output" | "error";
}

/** A run that waits for a message; `example` is a message that fits, if the author gave a schema. `child_of` is the run that was asked about, if that run started this one. */
export interface Waiting {
  /** The run that needs the message. */
  workflow_id: string;
  /** The topic of the message. */
  topic: string;
  /** What it asks. */
  prompt: string | null;
  /** When the wait began. */
  since: string | null;
  /** When the wait ends without a message. */
  deadline: string | null;
  /** A message that fits. */
  example: JsonValue;
  /** The run that you asked about, if that run started this one. */
  child_of: string | null;
}

/** Runs that need no process now: those that are parked, and those that are delayed. */
export interface WaitingRuns {
  /** How many runs wait outside of any process. */
  parked: number;
  /** When the first of them goes on by itself, or a delayed one begins. */
  next_due: string | null;
}

/** A worker process, as it announced itself. */
export interface WorkerInfo {
  /** A version of the code. */
  version: string;
  /** Its process. */
  pid: number;
  /** Its machine. */
  host: string;
  /** What it does. */
  state: string;
  /** When it started. */
  started_at: string;
  /** When it last gave a sign of life. */
  seen_at: string;
  /** Whether it was heard of lately. */
  alive: boolean;
}

/** What each GET takes in its query. */
export interface Queries {
  project: Nothing;
  runs: RunsQuery;
  run: RunQuery;
  steps: StepsQuery;
  step: StepQuery;
  value: ValueQuery;
  log: LogQuery;
  messages: RunQuery;
  answers: RunQuery;
  tree: RunQuery;
  source: RunQuery;
  streams: RunQuery;
  compare: CompareQuery;
  rehearsal: RehearsalQuery;
  waits: Nothing;
  marks: ChangesQuery;
  catalog: Nothing;
  status: Nothing;
}

/** What each GET answers. */
export interface Gets {
  project: Project;
  runs: RunsShown;
  run: RunShown;
  steps: StepsPage;
  step: Step;
  value: Preview | null;
  log: LogLine[];
  messages: Message[];
  answers: Answer[];
  tree: Child[];
  source: Source;
  streams: Stream[];
  compare: Compared;
  rehearsal: Rehearsal;
  waits: InboxItem[];
  marks: MarksShown;
  catalog: Catalog;
  status: StatusShown;
}

/** What each POST takes and answers. */
export interface Posts {
  start: [StartRequest, Started];
  fork: [ForkBody, Forked];
  rewind: [RewindBody, Rewound];
  move: [MoveBody, MovedList];
  cancel: [RunsBody, ChangedList];
  resume: [RunsBody, ChangedList];
  delete: [RunsBody, ChangedList];
  answer: [AnswerBody, Delivered];
  send: [SendBody, Delivered];
  create_schedule: [ScheduleRequest, ScheduleResult];
  schedule: [ScheduleBody, ScheduleInfo | Started];
}
