"""What crosses the page's API beside the models of the engine: what is asked, and answers that only the page has. `make docs` writes their TypeScript."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from durable_workflows import limits
from durable_workflows.models import Model, MoveFilter, QueueInfo, Run, RunList, ServerStatus, Step
from durable_workflows.settings import LATEST

NEWEST = 200  # runs of which the list consists whose every change is told
MOST_RUNS = 200  # in one answer, in one change, and watched by one page
MOST_STEPS = 500
_LONGEST_ID = 1024

WorkflowId = Annotated[str, Field(min_length=1, max_length=_LONGEST_ID)]


class Asked(Model):
    """The base of what is asked: nothing is taken that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# Queries


class Nothing(Asked):
    """No query."""


class RunsQuery(Asked):
    """Which runs are listed: those that all of these allow. `text` is in their input, output or error."""

    status: str | None = None
    name: str | None = None
    version: str | None = None
    started_by: str | None = None
    text: str | None = None
    since: datetime | None = None
    roots: bool = False
    parent: WorkflowId | None = None
    oldest_first: bool = False
    waiting: bool | None = None
    limit: int = Field(default=50, ge=1, le=MOST_RUNS)
    cursor: str | None = None


class RunQuery(Asked):
    """One run."""

    id: WorkflowId


class StepsQuery(RunQuery):
    """A page of the steps of a run: those with a higher number than `after`."""

    after: int = Field(default=0, ge=0, lt=2**31)
    limit: int = Field(default=MOST_STEPS, ge=1, le=MOST_STEPS)


class StepQuery(RunQuery):
    """One step of a run."""

    step: int = Field(ge=1, lt=2**31)


Payload = Literal["input", "output", "error"]


class ValueQuery(RunQuery):
    """A payload of a run."""

    of: Payload


class LogQuery(RunQuery):
    """The newest log lines of a run with a higher id than `after`."""

    after: int = Field(default=0, ge=0, lt=2**63)
    limit: int = Field(default=200, ge=1, le=limits.LOG_LINES)


class RehearsalQuery(RunQuery):
    """A run whose recorded steps are replayed on the newest code; `shaken` also under other conditions."""

    shaken: bool = False


class CompareQuery(Asked):
    """Two runs. Outputs and errors come of the first 200 steps that differ after the first `after` of these."""

    a: WorkflowId
    b: WorkflowId
    after: int = Field(default=0, ge=0, lt=2**31)


class ChangesQuery(Asked):
    """The changes to report: of these runs, of the list of runs with their numbers by status, and of the waits of all runs."""

    runs: list[WorkflowId] = Field(default=[], max_length=MOST_RUNS)
    listed: bool = Field(default=False, alias="list")
    waits: bool = False


# Answers


class Project(Model):
    """The project that the page shows. `version` is the newest of its code, `release` that of this software; `user` is who answers on this page."""

    project: str
    application: str
    mode: Literal["embedded", "external"]
    version: str | None
    release: str
    user: str


class Part(Model):
    """A part of a sentence. With `action`, it is the call of that tool, which `text` writes out; `blanks` are the arguments that a person has to fill in."""

    text: str
    action: str | None = None
    args: dict[str, JsonValue] | None = None
    blanks: list[str] = Field(default=[])


class RunsShown(RunList):
    """A page of runs. `parents` are those of them that have started others."""

    parents: list[str]


class RunShown(Model):
    """A run, why it is where it is, and what to do next. Its `steps` are left out here; `log_last` is the id of its last log line, 0 without any."""

    run: Run
    why: list[Part]
    next: list[Part]
    log_last: int


class StepsPage(Model):
    """A page of the steps of a run, which has `total` of them."""

    steps: list[Step]
    total: int


class Source(Model):
    """The workflow file of a run, in its version."""

    path: str
    text: str


class StatusShown(ServerStatus):
    """What is running here, any problems, and the queues."""

    queues: list[QueueInfo] = Field(
        default=[], description="The queues, with the numbers of their runs."
    )


class News(Model):
    """What has changed: of the runs that are watched these, the list of runs, the waits."""

    runs: list[str]
    listed: bool = Field(alias="list")
    waits: bool


class MarksShown(Model):
    """Marks of the runs by workflow_id, of the `newest` runs with the numbers of all, and of the waits. A mark that differs from an earlier one means a change."""

    runs: dict[str, str]
    newest: str | None
    waits: str | None


class Refusal(Model):
    """Why a request was not answered, and what to do."""

    error: str
    hint: str | None


# Changes


class ForkBody(Asked):
    """A fork; `anyway` also if a step that must not happen twice would happen again. What it has in place of what the original has: `new_workflow_id`, `args`, `outputs` by step."""

    workflow_id: WorkflowId
    from_step: int = Field(ge=1, lt=2**31)
    same_version: bool = False
    anyway: bool = False
    new_workflow_id: str | None = None
    args: dict[str, JsonValue] | None = None
    outputs: Mapping[int, JsonValue] = {}
    cancel_original: bool = False
    fork_children: bool = False


class RewindBody(Asked):
    """A rewind, on the newest code with `latest_version`; `anyway` as for a fork."""

    workflow_id: WorkflowId
    to_step: int = Field(ge=1, lt=2**31)
    latest_version: bool = False
    anyway: bool = False


class MoveBody(Asked):
    """Which runs go on with another version of the code: some, or those that a filter finds. With `dry_run` nothing is changed."""

    workflow_ids: list[WorkflowId] | None = Field(default=None, min_length=1, max_length=MOST_RUNS)
    filter: MoveFilter | None = None
    version: str = LATEST
    dry_run: bool = True


class RunsBody(Asked):
    """Runs to cancel, resume or delete; with `children` also those that they started."""

    workflow_ids: list[WorkflowId] = Field(min_length=1, max_length=MOST_RUNS)
    children: bool = False


class AnswerBody(Asked):
    """A person's answer to what a run waits for at a step."""

    workflow_id: WorkflowId
    step: int = Field(ge=0, lt=2**31)
    value: JsonValue


class SendBody(Asked):
    """A message to a run."""

    workflow_id: WorkflowId
    topic: str
    message: JsonValue
    idempotency_key: str | None = None


class ScheduleBody(Asked):
    """What to do with a schedule."""

    name: str
    do: Literal["pause", "resume", "run", "delete"]
