"""What crosses a boundary: the engine's results, as tools, resources and the command line show them.

All are frozen. Times are aware datetimes. One word for each thing, in code, SQL, tools, commands and documents:

workflow    a function that can be run, by its registered name (`name`); its file is a workflow file, in the workflow folder
run         one execution of a workflow (`workflow_id`)
step        a finished piece of a run, with DBOS's own number (`function_id`, from 1)
wait        what a run waits for: a message on a topic, an answer, a child, a point in time
question    what a run asks a person; what the person gives is an answer
version     one saved state of the workflow folder
worker      the process that runs the code of one version; the supervisor starts and watches the processes of a project
session     one connection of an MCP client to a server
connection  one connection to the database; `Connection` says how that of a project is reached
project     the user's directory; its state directory is `.dbos/` there
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from durable_workflows import tags
from durable_workflows.settings import Database, Engine

Status = Literal[
    "PENDING",
    "ENQUEUED",
    "DELAYED",
    "SUCCESS",
    "ERROR",
    "CANCELLED",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
]
UNFINISHED: frozenset[str] = frozenset({"PENDING", "ENQUEUED", "DELAYED"})
# As shown: a run that another version of DBOS has written may have a status that is not known here.
RunStatus = Annotated[str, Field(description=", ".join(get_args(Status)))]
RunId = Annotated[str, Field(description="The workflow_id of the run.")]
Name = Annotated[str, Field(description="The registered name of the workflow.")]
Version = Annotated[str, Field(description="A version of the code.")]
STOPPED: frozenset[str] = frozenset(
    {"CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
)  # can be resumed
Schema = dict[str, Any]  # a JSON schema: its shape is the schema language's business


class Model(BaseModel):
    """The frozen base model."""

    # Built when it is used first: a server answers its first message before it needs most of them.
    model_config = ConfigDict(frozen=True, defer_build=True)


class Connection(Model):
    """What `connection.json` holds: where the database is, which of its schemas are the project's, and which process runs it."""

    url: str
    mode: Literal["embedded", "external"]
    pid: int
    versions: dict[str, str]
    schema_name: str = "durable_workflows"
    dbos_schema: str = "dbos"

    @property
    def database(self) -> Database:
        """The project's database and its schemas there."""
        return Database(self.url, self.schema_name, self.dbos_schema)


class CatalogEntry(Model):
    """A workflow. With `error`, its file does not load; with `not_startable`, it is a method without its object. Otherwise it can be started."""

    name: Name
    summary: str = Field(description="The first lines of its docstring.")
    args_schema: Schema = Field(description="A JSON schema of its arguments.")
    source: str = Field(description="Its file.")
    error: str | None = Field(default=None, description="Why the file does not load.")
    not_startable: str | None = Field(default=None, description="Why a method cannot be started.")
    once: list[str] = Field(default=[], description="Steps of its file that happen at most once.")


class TemplateEntry(Model):
    """A file to copy as the start of your own workflow."""

    name: str = Field(description="What write_workflow takes as `template`.")
    use_when: str = Field(description="When to use it.")


class Catalog(Model):
    """The workflows of the newest version of the code."""

    workflows: list[CatalogEntry] = Field(description="The workflows.")
    templates: list[TemplateEntry] = Field(description="Files to copy with write_workflow.")
    version: Version


class StartRequest(Model):
    """One start, as an item of `batch`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    args: Mapping[str, JsonValue] = {}
    workflow_id: str | None = None
    queue: str | None = None
    delay_seconds: float | None = None
    timeout_seconds: float | None = None
    priority: int | None = None


class Started(Model):
    """A run that was just started, or (`existing`) started before with the same workflow_id."""

    workflow_id: str
    status: RunStatus
    version: str | None
    existing: bool = False
    output: JsonValue = None
    error: str | None = None


class Fork(Model):
    """A fork of a run."""

    workflow_id: RunId
    status: RunStatus


class RunSummary(Model):
    """A run in a list. `started_by` is the session_id of the client that started it, `parent_workflow_id` the run that started it; `forks` are its newest forks. `ok` is false if its output says so near its start: it finished, but says that it did not succeed."""

    workflow_id: RunId
    name: Name
    status: RunStatus
    created_at: datetime = Field(description="When it was started.")
    updated_at: datetime = Field(description="When its status changed last.")
    waiting_on: str | None = Field(default=None, description="The topic on which it waits.")
    asleep: str | None = Field(
        default=None, description="Until when it sleeps, and for what, if its sleep has a name."
    )
    ok: bool | None = Field(
        default=None,
        description="False if its output says so near its start: the run finished, but did not succeed.",
    )
    error: str | None = Field(default=None, description="The error with which it failed.")
    started_by: str | None = Field(default=None, description="The session that started it.")
    parent_workflow_id: str | None = Field(default=None, description="The run that started it.")
    forked_from: str | None = Field(default=None, description="The run whose steps it took over.")
    rewound_from: str | None = Field(
        default=None, description="The run that was rewound; this is what it had done before."
    )
    forks: list[Fork] = Field(default=[], description="Its newest forks, perhaps repairs.")


class Wanted(TypedDict, total=False):
    """Which runs are listed: those that all of these allow. `roots` are runs that no other run started, `parent` is the run that started them, `started_by` the session.

    `text` is in their input, output or error, whatever its case.
    """

    status: str | None
    name: str | None
    version: str | None
    started_by: str | None
    text: str | None
    waiting: bool | None
    since: datetime | None
    roots: bool
    parent: str | None
    oldest_first: bool


class RunList(Model):
    """A page of runs, with the number of all runs by status and of those that wait for a message."""

    workflows: list[RunSummary] = Field(description="The runs of this page.")
    counts: dict[str, int] = Field(description="The number of all runs, by status.")
    waiting: int = Field(default=0, description="How many of all runs wait for a message.")
    next_cursor: str | None = Field(default=None, description="For the next page.")
    looked_through: int | None = Field(
        default=None,
        description="How many runs were looked through for `text`; next_cursor goes on after them.",
    )


class Ended(Model):
    """A run that has ended, with its output or error."""

    workflow_id: RunId
    status: RunStatus
    output: JsonValue = Field(default=None, description="What it returned.")
    error: str | None = Field(default=None, description="The error with which it failed.")


class Waiting(Model):
    """A run that waits for a message; `example` is a message that fits, if the author gave a schema. `child_of` is the run that was asked about, if that run started this one."""

    workflow_id: str = Field(description="The run that needs the message.")
    topic: str = Field(description="The topic of the message.")
    prompt: str | None = Field(default=None, description="What it asks.")
    since: datetime | None = Field(default=None, description="When the wait began.")
    deadline: datetime | None = Field(
        default=None, description="When the wait ends without a message."
    )
    example: JsonValue = Field(default=None, description="A message that fits.")
    child_of: str | None = Field(
        default=None, description="The run that you asked about, if that run started this one."
    )


class OpenWait(Model):
    """What a run waits for, with the JSON schema of the message if the author gave one."""

    workflow_id: str
    step: int
    topic: str
    prompt: str | None
    message_schema: Schema | None
    since: datetime
    deadline: datetime | None
    person_only: bool


class Resolution(Model):
    """What is said of a step in doubt: whether it has happened, and its result."""

    happened: bool
    result: JsonValue = None


PEOPLES_WAYS = ("terminal", "page", "app", "elicitation")  # in which only a person can answer


class InboxItem(Model):
    """What a run waits for, with its arguments: the answer of a person, a message, or what is said of a step in doubt. `root_workflow_id` is the run at the root of its family, perhaps itself."""

    wait: OpenWait
    asked: Literal["person", "message", "doubt"]
    name: str
    root_workflow_id: str
    input: "Preview | None"


Detail = Literal["summary", "full", "tree", "messages", "log", "source"]  # of a run
Unanswered = Literal["decline", "cancel", "unfit"]  # unfit: an answer was given, and not taken


class Question(Model):
    """A run's question to a person, and its state so far. `attempt` counts from 1 how often it is asked.

    `closed` says who has closed it without an answer: it is asked again on request only. `refused` says why the last answer was not taken.
    """

    wait: OpenWait
    attempt: int = 1
    closed: str | None = None
    refused: str | None = None


class RunHead(Model):
    """What identifies a run, how it stands, and of which run it is a fork."""

    workflow_id: str
    name: str
    status: RunStatus
    version: str | None
    created_at: datetime
    updated_at: datetime
    forked_from: str | None = None
    forked_at: int | None = None


class WaitingRun(Model):
    """A run that waits, in an overview."""

    workflow_id: str
    name: str
    topic: str
    prompt: str | None
    since: datetime
    deadline: datetime | None


class LogLine(Model):
    """A line that a run printed (`stream` is out or err) or logged (`stream` is the level); `step` is None for the workflow's own code."""

    id: int
    at: datetime
    step: int | None
    stream: str
    text: str


class Running(Model):
    """A run that is under way or in a queue.

    `children` and `children_done` count the runs that it started: those under way, and those that have ended. `progress` is its event of that name, as JSON.
    """

    workflow_id: RunId
    status: RunStatus
    step: str | None = Field(default=None, description="What it does now.")
    children: int = Field(default=0, description="How many runs that it started are unfinished.")
    children_done: int = Field(default=0, description="How many runs that it started have ended.")
    progress: str | None = Field(
        default=None, description="The beginning of its event `progress`, as JSON."
    )


class WaitResult(Model):
    """How the runs stood when the wait ended."""

    done: list[Ended] = Field(description="Runs that have ended.")
    waiting: list[Waiting] = Field(description="Runs that need a message.")
    running: list[Running] = Field(description="The other runs.")
    timed_out: bool = Field(description="Whether the time was over first; the runs go on.")


class Delivered(Model):
    """A message that the run will get or has already got; `note` says if the run does not wait for it now, or if it was sent before."""

    workflow_id: RunId
    topic: str = Field(description="The topic of the message.")
    delivered: bool = Field(description="Whether the run gets this message, or has got it.")
    note: str | None = Field(
        default=None,
        description="What to check: the run does not wait for it now, or it was sent before.",
    )


class Startable(Model):
    """A workflow that can be started now, with the JSON schema of its arguments."""

    name: Name
    summary: str = Field(description="The first lines of its docstring.")
    args_schema: Schema = Field(description="A JSON schema of its arguments.")


class Written(Model):
    """A written workflow file: the workflows that can be started now, or why it does not load, and what the check found."""

    file: str = Field(description="The written file, in the project.")
    version: Version | None = None
    workflows: list[Startable] = Field(default=[], description="What can be started from it now.")
    error: str | None = Field(default=None, description="Why it does not load.")
    warnings: list[str] = Field(
        default=[], description="Lines that may differ on a replay, or do something twice."
    )
    replays: list[str] = Field(
        default=[],
        description="After an edit: what the last recorded runs of its workflows would do on this code. They were replayed without executing anything.",
    )
    note: str = Field(default="", description="What was left out, or comes later.")


class PersonAnswer(Model):
    """What happened to a question to a person."""

    workflow_id: str = Field(description="The run that asked.")
    topic: str = Field(description="The topic of the question.")
    answered: bool = Field(description="Whether the person answered.")
    note: str = Field(description="What the person did.")


class Rewind(Model):
    """What a rewind to a step has kept of a run, as another run."""

    workflow_id: RunId
    status: RunStatus
    to_step: int


class Rewound(Model):
    """A run that goes again from a step."""

    workflow_id: str = Field(description="The run.")
    to_step: int = Field(description="The first step that runs again.")
    version: Version | None
    kept_as: str = Field(description="The run that has what this one had done before.")
    existing: bool = Field(default=False, description="It was rewound so before.")
    note: str | None = Field(default=None, description="Which answers of people stay.")


class ForkOptions(Model):
    """How a fork differs from its original: its id, its arguments, the outputs of earlier steps by their numbers. `repeat` are steps that happen again although they must not happen twice. `fork_children`: failed children whose results it takes only later are forked too, and it waits for these forks."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str | None = None
    args: Mapping[str, JsonValue] | None = None
    outputs: Mapping[int, JsonValue] = {}
    repeat: tuple[int, ...] = ()
    cancel_original: bool = False
    fork_children: bool = False


class Forked(Model):
    """A new run that was forked from another one."""

    workflow_id: str = Field(description="The new run.")
    forked_from: str = Field(description="The original run.")
    from_step: int = Field(description="The first step that runs again.")
    version: Version | None
    existing: bool = Field(
        default=False, description="It was forked before, with the same workflow_id."
    )
    note: str | None = Field(
        default=None,
        description="What goes on besides, and which answers of people were taken over.",
    )


class Rehearsal(Model):
    """What a recorded run would do on other code: its recorded steps, replayed there without executing anything."""

    workflow_id: RunId
    name: Name
    verdict: Literal["safe", "differs", "unknown"] = Field(
        description="safe: the code calls what is recorded. differs: it calls something else. unknown: see note."
    )
    step: int | None = Field(
        default=None, description="The first step that differs: a fork would begin there."
    )
    recorded: str | None = Field(default=None, description="What that step is in the record.")
    called: str | None = Field(default=None, description="What the code calls in its place.")
    steps: int = Field(default=0, description="How many recorded steps were replayed.")
    note: str | None = Field(
        default=None,
        description="Why the verdict is unknown, or under which conditions it differs.",
    )


class MoveFilter(Model):
    """Which unfinished runs are moved to a version: those of other versions that all of these allow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    version: str | None = None
    status: Literal["PENDING", "ENQUEUED", "DELAYED"] | None = None
    since: datetime | None = None


class Moved(Model):
    """What a move to another version means for one run."""

    workflow_id: RunId
    name: Name
    verdict: Literal["safe", "moved", "differs", "stays"] = Field(
        description="safe: it can be moved. moved: it was. differs: the code does not fit its recorded steps, and it stays. stays: see note."
    )
    version: Version | None = Field(description="The version that it has now.")
    step: int | None = Field(default=None, description="The first step that differs.")
    recorded: str | None = Field(default=None, description="What that step is in the record.")
    called: str | None = Field(default=None, description="What the code calls in its place.")
    note: str | None = Field(default=None, description="Why it stays, or what to do.")


class MovedList(Model):
    """What a move to a version means for each run: those that were named or found, then the unfinished runs that they started."""

    version: Version = Field(description="The version that they shall have.")
    dry_run: bool = Field(description="Nothing was changed.")
    workflows: list[Moved] = Field(description="The runs.")
    note: str | None = Field(
        default=None, description="How many were moved, what was left out, and what to do next."
    )


class ForkChoice(Model):
    """Which runs are forked, each from its failed step: those named, or the failed ones of a workflow, created since a time. At most `limit`, the newest first."""

    model_config = ConfigDict(frozen=True)

    workflow_ids: tuple[str, ...] | None = None
    name: str | None = None
    since: datetime | None = None
    limit: int = 100


class ForkVerdict(Model):
    """What became of one run of a list: its fork, or why there is none."""

    workflow_id: RunId
    fork: str | None = Field(default=None, description="The new run; its id is always the same.")
    from_step: int | None = Field(default=None, description="The failed step, which runs again.")
    existing: bool = Field(default=False, description="It was forked before.")
    refused: str | None = Field(default=None, description="Why it was not forked.")


class ForkedList(Model):
    """What became of each run; with `dry_run` nothing was forked, and `existing` and `fork` say nothing."""

    workflows: list[ForkVerdict] = Field(description="A verdict for each run.")
    forked: int = Field(description="How many runs were forked now, or would be.")
    dry_run: bool = Field(default=False, description="Whether it was only asked.")
    note: str | None = Field(default=None, description="What was left out.")


class Changed(Model):
    """What happened to one run of a `cancel`, `resume` or `delete_workflows`."""

    workflow_id: RunId
    changed: bool = Field(description="Whether it was cancelled, resumed or deleted now.")
    status: RunStatus | None
    note: str = Field(description="The outcome, and what continues.")


class ChangedList(Model):
    """What happened to each run; `note` counts the runs that they started and that were left unchanged."""

    workflows: list[Changed] = Field(
        description="The runs that you named, and those that changed with them."
    )
    note: str | None = Field(
        default=None, description="What was left out, and how many others stayed as they were."
    )


class Kept(Model):
    """Trees of runs that were not deleted for the same reason, and one of them."""

    reason: Literal["unfinished", "busy", "parent", "recent", "forked", "awaited", "named"]
    trees: int
    workflow_id: str = Field(description="The root of one of these trees.")
    about: str = Field(description="The run that is the reason.")


class Pruned(Model):
    """What was deleted, or would be: trees of ended runs."""

    dry_run: bool
    trees: int = Field(description="The runs that no other run started.")
    runs: int = Field(description="These, and all that they started.")
    kept: list[Kept] = Field(description="What was not deleted, by reason.")
    freed_bytes: int = Field(default=0, description="By how much the database is smaller now.")


class ExportHeader(Model):
    """The first line of a file with a run: what it is, and what wrote it."""

    format: int
    workflow_id: RunId
    name: Name
    created_at: int = Field(description="When the run was created, in milliseconds since 1970.")
    runs: int = Field(description="It, and all that it started.")
    moved: bool = Field(description="Whether it was cancelled in its project, if it had not ended.")
    release: str = Field(description="Of durable-workflows.")
    migration: str = Field(description="The newest migration of its tables.")
    dbos_migration: int
    project: str | None = Field(description="The identity of its project's state directory.")
    exported_at: datetime


class Exported(Model):
    """A run that was written into a file."""

    workflow_id: RunId
    file: str
    bytes: int
    runs: int = Field(description="It, and all that it started.")
    unfinished: int = Field(description="How many of these had not ended.")
    cancelled: bool = Field(description="Whether these were cancelled here.")
    rows: int


class Imported(Model):
    """A run from a file."""

    workflow_id: RunId
    existing: bool = Field(description="It was here already, and nothing was changed.")
    status: RunStatus
    runs: int = Field(description="It, and all that it started.")
    unfinished: int = Field(description="How many of these had not ended.")
    rows: int


READ = (None, tags.PORTABLE, tags.LABEL)  # formats that are JSON


class Preview(Model):
    """A recorded value as JSON text, cut to a length; `length` is that of the whole value, in bytes if it is far longer than the cut text."""

    text: str
    length: int

    @classmethod
    def recorded(cls, text: str | None, length: int | None, label: str | None) -> "Preview | None":
        """What a row holds, None for nothing; a value in a format that is not JSON is not shown, but said to be there."""
        if text is None or length is None:
            return None
        if label not in READ:
            note = f"(not shown: recorded in the format {label})"
            return cls(text=note, length=len(note))
        return cls(text=text, length=length)

    @property
    def cut(self) -> bool:
        """Whether something was left out."""
        return len(self.text) < self.length

    @property
    def said(self) -> str:
        """The text for a line about a run, without the types of times, numbers and the like."""
        return tags.readable(self.text)


class Step(Model):
    """A finished step, as recorded. `scope` is the path of the scopes that it is in, `label` the name of a sleep."""

    step: int
    name: str
    started_at: datetime | None
    completed_at: datetime | None
    output: Preview | None = None
    error: Preview | None = None
    child_workflow_id: str | None = None
    scope: str | None = None
    label: str | None = None


class RunningStep(Model):
    """A step that is running. `attempt` counts from 1. With `retry_at`, the attempt has failed with `error`, and the next one begins then."""

    step: int
    name: str
    since: datetime
    attempt: int
    max_attempts: int
    retry_at: datetime | None = None
    error: str | None = None


class Message(Model):
    """A message that was sent to the run. `of_nobody`: its topic is for people but no person sent it, so the run skips it."""

    topic: str
    sent_at: datetime
    consumed_by_step: int | None
    message: Preview
    of_nobody: bool = False


class Answer(Model):
    """What a person answered at a step. `how` is `terminal`, `page` for the page in a browser, `app` for the page inside a client, or `elicitation` for the form of a client; `shown` is the text that was shown. `taken_from` is the run that asked, if a fork took over its answer."""

    step: int
    topic: str
    who: str
    how: str
    at: datetime
    shown: str
    answer: Preview
    taken_from: str | None = None


class Decision(Model):
    """What was said of a step in doubt: whether it has happened. `how` is `tool`, `command`, or a person's way as in `Answer`."""

    who: str
    how: str
    at: datetime
    happened: bool


class StepEffect(Model):
    """A step that happens at most once. With `doubt_since` it is in doubt: a process that had begun it ended before its result was recorded. `problem`: why its own look-up failed."""

    step: int
    name: str
    began_at: datetime
    person_only: bool
    doubt_since: datetime | None = None
    problem: str | None = None
    decisions: list[Decision] = []


class Attempt(Model):
    """An attempt (from 1) of a step with `Retry` that did not succeed at once. `interrupted`: its process ended before it had returned. `next_at` is when the next attempt began, or begins."""

    step: int
    name: str
    attempt: int
    max_attempts: int
    outcome: Literal["failed", "interrupted", "succeeded", "running"]
    began_at: datetime
    failed_at: datetime | None = None
    error: str | None = None
    next_at: datetime | None = None


class Child(Model):
    """A run that another one started."""

    workflow_id: str
    name: str
    status: RunStatus
    parent_workflow_id: str
    waiting_on: str | None = None
    ok: bool | None = None


class Suspect(Model):
    """A run that had code under way when its worker ended unexpectedly. `ends` counts such workers; `status` is that of the last one (negative: a signal). It happened after the step `after_step`, in `step` if that is known.

    With `apart`, it runs in its own worker, or in one with `others`. `alone` counts the workers in which no other run had code under way.
    """

    ends: int
    alone: int
    status: int
    after_step: int
    step: str | None
    apart: bool
    others: int


class WorkerInfo(Model):
    """A worker process, as it announced itself."""

    version: Version
    pid: int = Field(description="Its process.")
    host: str = Field(description="Its machine.")
    state: str = Field(description="What it does.")
    started_at: datetime = Field(description="When it started.")
    seen_at: datetime = Field(description="When it last gave a sign of life.")
    alive: bool = Field(description="Whether it was heard of lately.")


class QueueInfo(Model):
    """A queue, with the number of its runs."""

    name: str
    concurrency: int | None
    worker_concurrency: int | None
    enqueued: int
    running: int


class QueuePlace(Model):
    """What keeps a run in its queue. `holders` are the first of the `running` runs; `ahead` counts the runs queued before it; `next_start` is when the rate limit allows the next start."""

    concurrency: int | None
    worker_concurrency: int | None
    rate_limit: int | None
    rate_seconds: float | None
    running: int
    holders: list[str]
    ahead: int
    next_start: datetime | None


class RunLine(Model):
    """A log line, and the run that it is of."""

    workflow_id: str
    line: LogLine


class Asking(Model):
    """A run's question, to a person or to the reader of its prompt."""

    workflow_id: str
    step: int
    topic: str
    prompt: str | None
    deadline: datetime | None
    person_only: bool


class Fact(Model):
    """An event of a root run: it ended, it failed, or it or a child run asks something.

    `told`: the client that started the run reports it to its session itself.
    """

    event: Literal["ended", "failed", "asks"]
    workflow_id: str
    name: str
    status: RunStatus
    at: datetime
    error: Preview | None = None
    output_start: str | None = None
    asking: Asking | None = None
    told: bool = False

    @property
    def key(self) -> str:
        """Tells it from every other fact of the run that ended, or that asks."""
        at = int(self.at.timestamp() * 1000)
        return f"asks {self.asking.step}" if self.asking else f"ended {at}"

    @property
    def about(self) -> str:
        """The run that ended, or that asks."""
        return self.asking.workflow_id if self.asking else self.workflow_id


class Going(Model):
    """An unfinished run that no other run started."""

    workflow_id: str
    name: str
    status: RunStatus


class News(Model):
    """The news for a returning user: how many runs are unfinished, the newest of them, the open questions, and the runs that ended last.

    `last_here` says when clients of each name were last here.
    """

    unfinished: int
    going: list[Going]
    asks: list[Fact]
    ended: list[Fact]
    last_here: dict[str, datetime]


class Overview(Model):
    """An overview of a project. `doing` says for unfinished ones of the newest runs what they do now."""

    counts: dict[str, int]
    newest: list[RunSummary]
    doing: dict[str, str] = {}
    waiting: list[WaitingRun]
    queues: list[QueueInfo]
    workers: list[WorkerInfo]


MOST_EVENTS = 100  # of a run
MOST_ATTEMPTS = 200  # of a run
MOST_EFFECTS = 100  # of steps that happen at most once, in one answer


class Event(Model):
    """What a run publishes with `DBOS.set_event`: the newest value of a key."""

    key: str
    value: Preview


class StreamValue(Model):
    """A value that a run wrote to a stream, in its step."""

    place: int
    step: int
    value: Preview


MOST_STREAM_VALUES = 100  # of one stream


class Stream(Model):
    """A stream of a run, to which it has written `length` values; `values` are the last `MOST_STREAM_VALUES`. One that is `closed` gets no more."""

    key: str
    length: int
    closed: bool
    values: list[StreamValue]


class AwaitedEvent(Model):
    """An event of another run."""

    workflow_id: str
    key: str


class Rest(Model):
    """A wait of a run that is parked: no process holds it. `events` are those it waits for, `until` the end of its wait, or its own deadline."""

    since: datetime
    until: datetime | None
    events: list[AwaitedEvent]


class Run(Model):
    """Everything about one run, with its payloads cut. `steps` may be a page: `total_steps` is the number of all. `events` are the newest `MOST_EVENTS`. `forked_at` is the first step that a fork ran itself. A run with `rewound_from` is what that run had done when it was rewound to the step `rewound_to`; `rewinds` are those of this run.

    `ended_with` is the run whose end cancelled this one. For a stopped run, `stopped_children` counts the cancelled and dead-lettered runs that it started, and theirs.
    `effects` are the steps that happen at most once, those in doubt first, at most `MOST_EFFECTS`. `attempts` are those of steps that did not succeed at once, the newest first, at most `MOST_ATTEMPTS`. `rest` is the wait of a parked run. `unavailable` says why its code cannot run, `place` what keeps it in its queue, `absence` why no worker of its version is running, `suspect` that it may end its worker.
    """

    workflow_id: str
    name: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    version: str | None
    queue: str | None
    recovery_attempts: int
    forked_from: str | None
    forked_at: int | None = None
    rewound_from: str | None = None
    rewound_to: int | None = None
    parent_workflow_id: str | None
    ended_with: str | None = None
    started_by: str | None = None
    deadline: datetime | None
    delayed_until: datetime | None
    input: Preview | None
    output: Preview | None
    error: Preview | None
    steps: list[Step]
    total_steps: int
    running: list[RunningStep]
    waiting: list[Waiting]
    children: list[Child]
    stopped_children: int = 0
    forks: list[Fork]
    rewinds: list[Rewind] = []
    events: list[Event] = []
    answers: list[Answer] = []
    effects: list[StepEffect] = []
    attempts: list[Attempt] = []
    unread_messages: int
    unread_topics: list[str] = []
    newest_version: str | None
    worker: WorkerInfo | None
    unavailable: str | None = None
    place: QueuePlace | None = None
    absence: str | None = None
    suspect: Suspect | None = None
    rest: Rest | None = None


class Change(Model):
    """A place where two JSON values differ: `path` as in `items[3].price`, empty for the whole. A side is JSON, perhaps cut; None: there is nothing at that place."""

    path: str
    a: Preview | None
    b: Preview | None


class ComparedRun(Model):
    """One of two runs that are compared."""

    workflow_id: str
    name: str
    status: RunStatus
    version: str | None
    created_at: datetime
    completed_at: datetime | None
    forked_from: str | None
    forked_at: int | None
    total_steps: int


class ComparedValue(Model):
    """The input, output or error of two runs; None: there is none. `changes` are the first places where two whole values differ."""

    a: Preview | None
    b: Preview | None
    same: bool
    changes: list[Change] = []


class ComparedStep(Model):
    """The steps of two runs that have the same name, and are there for the `occurrence`-th time; None: that run has none.

    `differs` says in what: one run has no such step, or another output or error. Outputs and errors are there only of steps that differ, of the first
    `MOST_VALUES` of them. Ids of children, tracebacks, and when a sleep ended are never a difference. `taken_over` is a step that a fork took over: both are
    one and the same. `changes` are the first places in which the outputs differ, if both are here whole.
    """

    name: str
    occurrence: int
    a: Step | None
    b: Step | None
    differs: list[Literal["missing", "output", "error"]]
    changes: list[Change] = []
    taken_over: bool = False


class TakenOver(Model):
    """What one of two runs, a fork of the other, took over: `steps` steps, those before `from_step`. `fork` says which run is the fork."""

    fork: Literal["a", "b"]
    from_step: int | None
    steps: int


MOST_COMPARED = 5000  # the highest number of a step that is compared
MOST_VALUES = 200  # steps whose outputs and errors are read for one comparison


class Compared(Model):
    """Two runs side by side. `differs` says in what; a run that has not ended yet has no output, and later steps are missing.

    `steps` are in the order in which the runs did them; `first_difference` is the place of the first of them that differs. `left_out` counts the steps
    whose number is above `MOST_COMPARED`. `taken_over` is there where one is a fork of the other.
    """

    a: ComparedRun
    b: ComparedRun
    differs: list[Literal["name", "version", "status", "input", "output", "error", "steps"]]
    input: ComparedValue
    output: ComparedValue
    error: ComparedValue
    taken_over: TakenOver | None = None
    steps: list[ComparedStep]
    first_difference: int | None = None
    left_out: int = 0


class SessionInfo(Model):
    """A client that is, or recently was, connected to an MCP server of this project."""

    session_id: str = Field(description="Its id, as `started_by` of runs.")
    client: str = Field(description="The client's name.")
    version: str = Field(description="The client's version.")
    transport: Literal["stdio", "http"] = Field(description="How it is connected.")
    since: datetime = Field(description="When it connected.")
    last_seen: datetime = Field(description="When it was there last.")
    connected: bool = Field(description="Whether it is there now.")


Missed = Literal["skip", "last", "all"]
ScheduleAction = Literal["create", "list", "pause", "resume", "run", "delete"]


class ScheduleRequest(Model):
    """A schedule to make. It starts a run of `workflow` with `args` at each time of `cron`. `missed` says what happens to times that passed while no worker ran."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    workflow: str
    cron: str
    args: Mapping[str, JsonValue] = {}
    timezone: str = "UTC"
    missed: Missed = "skip"
    queue: str | None = None
    priority: int | None = None
    replace: bool = False


class ScheduleInfo(Model):
    """A schedule: made by `schedule`, or by workflow code. `cron` may have a sixth field in front, for seconds."""

    name: str = Field(description="Its name.")
    workflow: str = Field(description="The workflow that it starts.")
    cron: str = Field(description="When; a sixth field in front is for seconds.")
    timezone: str = Field(default="UTC", description="The time zone of `cron`.")
    status: str = Field(description="Whether it is active.")
    next_times: list[datetime] = Field(default=[], description="Its next times, if it is active.")
    last_fired_at: str | None = Field(description="When it started a run last.")
    last_workflow_id: str | None = Field(default=None, description="The run of that time.")
    last_status: str | None = Field(default=None, description="The status of that run.")
    from_code: bool = Field(default=True, description="Whether workflow code made it.")
    args: str | None = Field(
        default=None, description="The arguments of its runs, as JSON; long ones are cut."
    )
    missed: Missed | None = Field(
        default=None, description="What happens to times that passed while no worker ran."
    )
    queue: str | None = Field(default=None, description="The queue of its runs.")
    priority: int | None = Field(default=None, description="The priority of its runs.")
    problem: str | None = Field(
        default=None, description="Why it cannot start what it should, and what to do."
    )


class ScheduleResult(Model):
    """The schedules that were listed, or the one that was changed, as it is now; of a deleted one, how it was."""

    schedules: list[ScheduleInfo] = Field(description="The schedules.")
    existing: bool = Field(
        default=False, description="Whether it was there before, the same; then nothing changed."
    )
    workflow_id: RunId | None = None


class WaitingRuns(Model):
    """Runs that need no process now: those that are parked, and those that are delayed."""

    parked: int = Field(default=0, description="How many runs wait outside of any process.")
    next_due: datetime | None = Field(
        default=None,
        description="When the first of them goes on by itself, or a delayed one begins.",
    )


class Storage(Model):
    """For how long runs are kept, and what pruning would free."""

    keep_days: float | None = Field(
        default=None, description="After how many days ended runs are deleted; null: never."
    )
    older_than_days: float = Field(default=30, description="What `older_runs` counts.")
    older_runs: int = Field(
        default=0,
        description="How many runs ended more than so many days ago; of more than 10,000, an estimate.",
    )
    older_bytes: int = Field(default=0, description="About how much of the database they take.")


class BackupContents(Model):
    """What a backup of the embedded database says of itself."""

    format: int
    at: datetime
    identity: str
    project: str
    package: str
    schema_version: int
    bytes: int
    engine: Engine = "pglite"


class BackupKept(Model):
    """A backup in the project's own folder."""

    file: str = Field(description="Its path.")
    at: datetime = Field(description="What was recorded before is in it.")
    bytes: int = Field(description="Its size.")


class BackedUp(Model):
    """A backup that was made, and for how long runs had to wait."""

    file: str
    at: datetime
    bytes: int
    paused_ms: int


class Restored(Model):
    """What a restored database has, and what only the one has that was set aside. These numbers are None if that could not be read: `unknown` says why."""

    file: str
    at: datetime
    runs: int
    steps: int
    set_aside: str | None = None
    lost_runs: int | None = None
    lost_steps: int | None = None  # also those of the lost runs
    reopened: int | None = None  # runs that had ended, and go on again
    returned: int | None = None  # runs that had been deleted
    some_lost: list[str] = []  # of the lost runs, the newest
    unknown: str = ""
    skipped: list[str] = []  # backups that are damaged, newer than this one


class ServerStatus(Model):
    """What is running here and any problems. `dotenv` names the variables that workflow code gets from the project's `.env`, `http` the URLs at which it is served (the token is in `.dbos/token`); `this_session` is the caller's session_id."""

    project: str = Field(description="The project directory.")
    mode: Literal["embedded", "external"] = Field(description="Where the database is.")
    database: str = Field(description="Whether it answers.")
    supervisor_pid: int | None = Field(description="The process that starts the others.")
    version: Version | None
    workers: list[WorkerInfo] = Field(description="The workers that are running.")
    versions_with_unfinished_runs: dict[str, int] = Field(
        description="How many unfinished runs each version has."
    )
    counts: dict[str, int] = Field(description="The number of all runs, by status.")
    waiting: WaitingRuns = Field(
        default=WaitingRuns(), description="Runs that need no process now."
    )
    database_bytes: int = Field(description="The size of the database.")
    storage: Storage = Field(default=Storage(), description="How long runs are kept.")
    backup: BackupKept | None = Field(
        default=None, description="The newest backup in .dbos/backups."
    )
    logs: str = Field(description="The folder of the log files.")
    dotenv: list[str] = Field(
        default=[], description="Variables that workflow code gets from the project's `.env`."
    )
    http: list[str] = Field(default=[], description="Where it is served over HTTP.")
    schedules: list[ScheduleInfo] = Field(default=[], description="The schedules.")
    sessions: list[SessionInfo] = Field(
        default=[], description="The clients that are, or recently were, connected."
    )
    this_session: str | None = Field(default=None, description="Your own session.")
    problems: list[str] = Field(description="What is wrong, each with what to do.")


Starts = Literal["boot", "login"]


class Autostart(Model):
    """Whether the user's service manager starts the project's processes."""

    on: bool
    file: str  # which the service manager reads, if it is on
    enabled: bool | None  # as the service manager says; None: it does not answer
    starts: Starts | None = None  # None: that cannot be told
    note: str = ""
    problems: list[str] = []
