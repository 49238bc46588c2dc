// What the server answers: provisional, until `make docs` writes this file from the Python models.

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };
export type Schema = { [key: string]: JsonValue };

export interface Project {
  project: string;
  version: string | null;
  mode: "embedded" | "external";
  application: string;
}
export interface Preview {
  text: string;
  length: number;
}
export interface Fork {
  workflow_id: string;
  status: string;
}
export interface RunSummary {
  workflow_id: string;
  name: string;
  status: string;
  created_at: string;
  updated_at: string;
  waiting_on: string | null;
  ok: boolean | null;
  error: string | null;
  started_by: string | null;
  parent_workflow_id: string | null;
  forked_from: string | null;
  forks: Fork[];
}
export interface RunList {
  workflows: RunSummary[];
  counts: { [status: string]: number };
  waiting: number;
  next_cursor: string | null;
}
export interface Step {
  step: number;
  name: string;
  started_at: string | null;
  completed_at: string | null;
  output: Preview | null;
  error: Preview | null;
  child_workflow_id: string | null;
}
export interface RunningStep {
  step: number;
  name: string;
  since: string;
  attempt: number;
  max_attempts: number;
  retry_at: string | null;
  error: string | null;
}
export interface Waiting {
  workflow_id: string;
  topic: string;
  prompt: string | null;
  since: string | null;
  deadline: string | null;
  example: JsonValue;
  child_of: string | null;
}
export interface OpenWait {
  workflow_id: string;
  step: number;
  topic: string;
  prompt: string | null;
  message_schema: Schema | null;
  since: string;
  deadline: string | null;
  person_only: boolean;
}
export interface InboxItem {
  wait: OpenWait;
  name: string;
  root_workflow_id: string;
  input: Preview | null;
  asked: "person" | "message";
}
export interface Child {
  workflow_id: string;
  name: string;
  status: string;
  parent_workflow_id: string;
  waiting_on: string | null;
  ok: boolean | null;
}
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
export interface Event {
  key: string;
  value: Preview;
}
export interface WorkerInfo {
  version: string;
  pid: number;
  host: string;
  state: string;
  started_at: string;
  alive: boolean;
}
export interface QueueInfo {
  name: string;
  concurrency: number | null;
  worker_concurrency: number | null;
  enqueued: number;
  running: number;
}
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
export interface Run {
  workflow_id: string;
  name: string;
  status: string;
  created_at: string;
  updated_at: string;
  completed_at: string | null;
  version: string | null;
  queue: string | null;
  recovery_attempts: number;
  forked_from: string | null;
  forked_at: number | null;
  parent_workflow_id: string | null;
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
  events: Event[];
  answers: Answer[];
  unread_messages: number;
  unread_topics: string[];
  newest_version: string | null;
  worker: WorkerInfo | null;
  unavailable: string | null;
  place: QueuePlace | null;
  absence: string | null;
  rest: Rest | null;
}
export interface Rest {
  since: string;
  until: string | null;
  events: AwaitedEvent[];
}
export interface AwaitedEvent {
  workflow_id: string;
  key: string;
}
export interface Part {
  text: string;
  action?: string | null;
  args?: { [name: string]: JsonValue } | null;
}
export interface RunShown {
  run: Run;
  why: Part[];
  next: Part[];
  log_last: number | null;
}
export interface StepsPage {
  steps: Step[];
  total: number;
}
export interface LogLine {
  id: number;
  at: string;
  step: number | null;
  stream: string;
  text: string;
}
export interface Message {
  topic: string;
  sent_at: string;
  consumed_by_step: number | null;
  message: Preview;
  of_nobody: boolean;
}
export interface CatalogEntry {
  name: string;
  summary: string;
  args_schema: Schema;
  source: string;
  error: string | null;
  not_startable: string | null;
}
export interface TemplateEntry {
  name: string;
  use_when: string;
}
export interface Catalog {
  workflows: CatalogEntry[];
  templates: TemplateEntry[];
  version: string;
}
export interface ScheduleInfo {
  name: string;
  workflow: string;
  cron: string;
  status: string;
  last_fired_at: string | null;
}
export interface SessionInfo {
  session_id: string;
  client: string;
  version: string;
  transport: "stdio" | "http";
  since: string;
  last_seen: string;
  connected: boolean;
}
export interface WaitingRuns {
  parked: number;
  next_due: string | null;
}
export interface Storage {
  keep_days: number | null;
  older_than_days: number;
  older_runs: number;
  older_bytes: number;
}
export interface ServerStatus {
  project: string;
  mode: "embedded" | "external";
  database: string;
  supervisor_pid: number | null;
  version: string | null;
  workers: WorkerInfo[];
  versions_with_unfinished_runs: { [version: string]: number };
  counts: { [status: string]: number };
  waiting: WaitingRuns;
  database_bytes: number;
  storage: Storage;
  logs: string;
  dotenv: string[];
  http: string[];
  schedules: ScheduleInfo[];
  sessions: SessionInfo[];
  this_session: string | null;
  problems: string[];
  queues: QueueInfo[];
}
export interface StartRequest {
  name: string;
  args?: { [name: string]: JsonValue };
  workflow_id?: string | null;
  queue?: string | null;
  delay_seconds?: number | null;
  timeout_seconds?: number | null;
  priority?: number | null;
}
export interface Started {
  workflow_id: string;
  status: string;
  version: string | null;
  existing: boolean;
}
export interface Forked {
  workflow_id: string;
  forked_from: string;
  from_step: number;
  version: string | null;
  note: string | null;
}
export interface Changed {
  workflow_id: string;
  changed: boolean;
  status: string | null;
  note: string;
}
export interface ChangedList {
  workflows: Changed[];
  note: string | null;
}
export interface Delivered {
  workflow_id: string;
  topic: string;
  delivered: boolean;
  note: string | null;
}

export interface Source {
  path: string;
  text: string;
}
export interface StreamValue {
  place: number;
  step: number;
  value: Preview;
}
export interface Stream {
  key: string;
  length: number;
  closed: boolean;
  values: StreamValue[];
}
export interface Change {
  path: string;
  a: Preview | null;
  b: Preview | null;
}
export interface ComparedRun {
  workflow_id: string;
  name: string;
  status: string;
  version: string | null;
  created_at: string;
  completed_at: string | null;
  forked_from: string | null;
  forked_at: number | null;
  total_steps: number;
}
export interface ComparedValue {
  a: Preview | null;
  b: Preview | null;
  same: boolean;
  changes: Change[];
}
export interface ComparedStep {
  name: string;
  occurrence: number;
  a: Step | null;
  b: Step | null;
  differs: ("missing" | "output" | "error")[];
  changes: Change[];
  taken_over: boolean;
}
export interface TakenOver {
  fork: "a" | "b";
  from_step: number | null;
  steps: number;
}
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
