"""Why a run is where it is, and what to call next: one sentence each. Nothing is looked up; everything follows from the `Run`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from durable_workflows import fitting, limits, topics
from durable_workflows.actions import REST, call, inspect
from durable_workflows.models import (
    UNFINISHED,
    Child,
    Preview,
    QueuePlace,
    Rest,
    Run,
    Step,
    Suspect,
    Waiting,
)
from durable_workflows.settings import PERSON
from durable_workflows.wording import (
    NO_PLACE,
    as_json,
    counted,
    ended_worker,
    joined,
    line,
    recorded_not_ok,
    some,
    span,
    suspicion,
    time,
)

SLEEP = "DBOS.sleep"
GET_RESULT = "DBOS.getResult"
_ERROR = 600
_NOT_FAILED = ("SUCCESS", *UNFINISHED)
_WRONG_START = ("InvalidArguments", "UnknownWorkflow")  # of this run's own start
_AGENT = "AgentFailed"
_BUDGETS = {  # agent_task's message for an exhausted budget, and the argument that sets it
    "a turn more than the": "max_turns",
    "tokens of the": "max_tokens",
    "it did not end within": "timeout_seconds",
}
_TIMED = ("run_commands", "fan_out", "plan")  # their arguments limit the time of their work
_PROMPT = 300
# In the words of dbos, and ours: the class, as a recorded error names it.
_NO_JSON = ("is not portable JSON serializable", "non-string keys", "NotRecordable")
_GONE = "there is no workflow"  # the beginning of a reason that blames no file


@dataclass(frozen=True)
class Cause:
    """Why a run is where it is, and what to call next."""

    text: str
    next: str


@dataclass(frozen=True)
class Failure:
    """A recorded error."""

    name: str
    message: str
    traceback: str = ""

    @property
    def line(self) -> str:
        """The error in one line."""
        return line(f"{self.name}: {self.message}", _ERROR)


def cause(run: Run, now: datetime) -> Cause:
    """Why the run is where it is, in one sentence, and the next call in another."""
    if run.status in UNFINISHED and run.unavailable is not None:
        return _unavailable(run, run.unavailable)
    if run.status in ("ENQUEUED", "PENDING") and run.suspect and run.suspect.apart:
        return _suspected(run, run.suspect, now)
    has_worker = run.worker is not None and run.worker.alive
    if run.status in ("ENQUEUED", "PENDING") and not has_worker and run.rest is None:
        return _without_worker(run)
    return _CAUSES.get(run.status, _unknown)(run, now)


def failure(error: Preview | None) -> Failure | None:
    """A recorded error, whose JSON may lack its end."""
    if error is None:
        return None
    try:
        recorded: object = fitting.part_of_json(error.text)
    except ValueError:
        return Failure("Error", error.text)
    if not isinstance(recorded, dict):
        return Failure("Error", str(recorded))
    fields = cast("dict[str, object]", recorded)
    return Failure(
        str(fields.get("name") or "Error"),
        str(fields.get("message") or ""),
        str(fields.get("traceback") or "").rstrip(),
    )


def wait_line(wait: Waiting, now: datetime) -> str:
    """The topic on which a run waits, since when, for how long, and the question."""
    return joined(
        repr(line(wait.topic, limits.NAME)),
        f"since {time(wait.since)} ({span(now - wait.since)})" if wait.since else None,
        f"until {time(wait.deadline)}" if wait.deadline else "without a deadline",
        f"asks: {line(wait.prompt, _PROMPT)}" if wait.prompt else None,
    )


# Runs that have ended


def _succeeded(run: Run, _now: datetime) -> Cause:
    whole = f"{inspect(run.workflow_id, step=0)} for its output."
    if (said := _not_ok(run.output)) is not None:
        again = ""
        if run.name in _TIMED:
            again = f" If a timeout was too short, {_start(run)} with a larger timeout_seconds; a fork keeps the old one."
        return Cause(
            f"it has finished, but its output says that it did not succeed: {said}", whole + again
        )
    if run.output is not None and len(run.output.text) < limits.PAYLOAD and not run.output.cut:
        return Cause("it has finished; its output is below.", "nothing: this run is done.")
    return Cause("it has finished.", whole)


def _not_ok(output: Preview | None) -> str | None:
    """What an output with a false `ok` says of itself, as those of run_commands, fan_out and plan."""
    failed = recorded_not_ok(output.text if output else None)
    if failed is None:
        return None
    return f"ok is false, failed: {line(failed, _PROMPT)}" if failed else "ok is false"


def _failed(run: Run, _now: datetime) -> Cause:
    error = failure(run.error)
    step = _failing_step(run, error)
    found = _failed_where(run, step, error.line if error else "no error was recorded")
    if (forked := _forked(run, found.text)) is not None:
        return forked
    if error and error.name.endswith(_AGENT) and (budget := _budget(error)):
        again = f"{_start(run)} with a larger {budget}: a fork keeps the old one."
        return Cause(found.text, again)
    if error and error.name.rpartition(".")[2] in _WRONG_START and not _child_of(step):
        return Cause(
            found.text, f"{_start(run)} with correct arguments: a fork keeps the old ones."
        )
    return found


def _budget(error: Failure) -> str | None:
    """The argument of agent_task that limited it, if that is the cause of its failure."""
    said = (name for words, name in _BUDGETS.items() if words in error.message)
    return next(said, None)


def _forked(run: Run, text: str) -> Cause | None:
    """The note that another run continues in place of this one: its newest fork that has not failed."""
    fork = next((one for one in reversed(run.forks) if one.status in _NOT_FAILED), None)
    if fork is None:
        return None
    since = f"{text} · It has been forked since: {fitting.shown_line(fork.workflow_id)} ({fork.status})."
    return Cause(since, inspect(fork.workflow_id))


def _failed_where(run: Run, step: Step | None, said: str) -> Cause:
    if step is not None:
        return _failed_in(run, step, said)
    last = _last_step(run)
    after = f"after step {last}" if last else "before a step was recorded"
    if any(words in said for words in _NO_JSON):
        return Cause(
            f"failed {after}: the value that the next step, or the run, returned cannot be recorded: {said}",
            f"return plain values, or dataclasses, models and enums at the top of a workflow file ({_source(run)}), then {_fork(run, last + 1)}",
        )
    return Cause(
        f"failed in the workflow's own code {after}: {said}",
        f"repair the code ({_source(run)}), then {_fork(run, last + 1)}",
    )


def _child_of(step: Step | None) -> str | None:
    return step.child_workflow_id if step else None


def _failed_in(run: Run, step: Step, said: str) -> Cause:
    name = line(step.name, limits.NAME)
    child = step.child_workflow_id
    if child:
        return Cause(
            f"its child run {child} failed (step {step.step} {name}): {said}",
            f"{inspect(child)} for the reason; {_another_child(run, child)}",
        )
    whole = inspect(run.workflow_id, step=step.step)
    return Cause(
        f"failed in step {step.step} {name}: {said}",
        f"{whole} for the whole error; repair the cause, then {_fork(run, step.step)}{_undone(run, step)}",
    )


def _another_child(run: Run, child: str) -> str:
    """How this run gets another run in the child's place. A fork of the child alone changes nothing here."""
    first = next(one for one in run.steps if one.child_workflow_id == child)
    again = _fork(run, first.step)
    if first.name == GET_RESULT:
        return f"this run did not start it, so make this run wait for a fork of it: {_start(run)} if its id is an argument, or write the fork's id into the code, then {again}"
    derived = any(child.startswith(f"{one}-") for one in (run.workflow_id, run.forked_from))
    if derived:
        return f"repair the cause, then {again}, which starts the child again"
    return f"its id is fixed in the code, so a fork of this run would find the same failed child: repair the cause, change that id, then {again}"


def _undone(run: Run, failed: Step) -> str:
    """A warning if steps ran after the failed one: in a saga they undo steps that a fork from there would take as done."""
    after = [
        one for one in run.steps if one.step > failed.step and not one.name.startswith("DBOS.")
    ]
    if not after:
        return ""
    names = some(f"{one.step} {line(one.name, limits.NAME)}" for one in after)
    return f" ({names} ran after it: if they undid earlier steps, fork from the first of those)"


def step_to_repeat(run: Run) -> int:
    """The step from which a failed run is repaired: the one that failed, that which started the child that failed, or the next one."""
    step = _failing_step(run, failure(run.error))
    if step is None:
        return _last_step(run) + 1
    child = step.child_workflow_id
    return (
        next(one.step for one in run.steps if one.child_workflow_id == child)
        if child
        else step.step
    )


def _failing_step(run: Run, error: Failure | None) -> Step | None:
    """The last step whose error is the run's error; another step may have failed and been caught."""
    for step in reversed(run.steps):
        own = failure(step.error)
        if error and own and own.name == error.name and _same_start(own.message, error.message):
            return step
    return None


def _same_start(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)  # either may be cut


def _cancelled(run: Run, now: datetime) -> Cause:
    if (forked := _forked(run, "cancelled.")) is not None:
        return forked
    going_on = f"{_resume(run)} to go on after its last finished step."
    with_it = f"; {_stopped(run.stopped_children)}" if run.stopped_children else ""
    if run.running:
        steps = some(f"step {one.step} {line(one.name, limits.NAME)}" for one in run.running)
        with_it += f"; {steps} still runs until it returns, and its result is kept"
    if run.deadline is not None and run.deadline <= (run.completed_at or now):
        return Cause(
            f"cancelled: its timeout passed at {time(run.deadline)}{with_it}.",
            f"{_start(run)} with a larger timeout_seconds, or {going_on}",
        )
    if run.ended_with is not None:
        parent = fitting.shown_line(run.ended_with)
        return Cause(
            f"cancelled when the run above it, {parent}, ended: children of that workflow end with it{with_it}.",
            f"{inspect(run.ended_with)} for why that ended; {going_on}",
        )
    return Cause(f"cancelled{with_it}.", going_on)


def _stopped(children: int) -> str:
    are = "is" if children == 1 else "are"
    return f"{counted(children, 'run')} that it started {are} stopped too"


def _dead_lettered(run: Run, _now: datetime) -> Cause:
    if run.suspect:
        return Cause(
            f"dead-lettered: it {ended_worker(run.suspect)}.",
            f"repair the code ({_source(run)}), then {_fork(run, run.suspect.after_step + 1)}; or, if the cause is gone, {_resume(run)}",
        )
    where = f" after step {_last_step(run)}" if run.steps else " in its first step"
    return Cause(
        f"dead-lettered after {counted(run.recovery_attempts, 'attempt')}: its worker ended each time{where}, before the run finished.",
        f"find out what ends the worker ({call('server_status')} names the logs), then {_resume(run)}",
    )


# Unfinished runs


def _delayed(run: Run, now: datetime) -> Cause:
    until = run.delayed_until
    when = f" until {time(until)} (in {span(until - now)})" if until else ""
    return Cause(f"delayed{when}.", _wait_for(run))


def _queued(run: Run, now: datetime) -> Cause:
    place = run.place
    if place is None:
        return Cause(
            f"queued in {run.queue}: its worker starts it when there is room.", _wait_for(run)
        )
    before = f"; {place.ahead} queued before it" if place.ahead else ""
    if full := _full(place):
        return Cause(
            f"queued in {run.queue}, which is full: {full}{before}.", inspect(place.holders[0])
        )
    if place.rate_limit and place.next_start is not None and place.next_start > now:
        runs = counted(place.rate_limit, "run")
        period = span(timedelta(seconds=place.rate_seconds or 0))
        next_start = f"{time(place.next_start)} (in {span(place.next_start - now)})"
        return Cause(
            f"queued in {run.queue}, which starts at most {runs} in {period}: the next one at {next_start}{before}.",
            _wait_for(run),
        )
    return Cause(f"queued in {run.queue}: its worker starts it soon{before}.", _wait_for(run))


def _full(place: QueuePlace) -> str | None:
    """The number of runs in the places of a full queue, and the runs."""
    bounds = {"at once": place.concurrency, "at once per worker": place.worker_concurrency}
    for words, limit in bounds.items():
        if limit is not None and place.running >= limit and place.holders:
            hidden = place.running - len(place.holders)
            more = f" and {hidden} more" if hidden else ""
            return f"{place.running:,} of {counted(limit, 'run')} {words} ({', '.join(place.holders)}{more})"
    return None


def _pending(run: Run, now: datetime) -> Cause:
    if run.waiting:
        return _waits(run.waiting, now)
    if run.running:
        return _in_steps(run, now)
    if run.rest and run.rest.events:
        return _waits_for_events(run, run.rest, now)
    asleep = _asleep_until(run)
    if asleep is not None and asleep > now:
        name = run.steps[-1].label
        what = f" for {line(name, limits.NAME)!r}" if name else ""
        text = f"sleeping until {time(asleep)}{what} (for another {span(asleep - now)})."
        return Cause(text, f"nothing before then; {_wait_for(run)}")
    children = [
        one
        for one in run.children
        if one.status in UNFINISHED
        and (one.waiting_on or one.parent_workflow_id == run.workflow_id)
    ]
    children.sort(key=lambda one: one.waiting_on is None)
    if children:
        names = some(map(_child, children))
        text = f"waits for child runs, or runs alongside them: {names}"
        return Cause(text, inspect(children[0].workflow_id))
    last = f"after step {_last_step(run)}" if run.steps else "before its first step"
    return Cause(f"running its own code {last}.", _wait_for(run))


def _waits_for_events(run: Run, rest: Rest, now: datetime) -> Cause:
    events = some(
        f"{line(one.key, limits.NAME)!r} of {fitting.shown_line(one.workflow_id)}"
        for one in rest.events
    )
    until = f"until {time(rest.until)}" if rest.until else "without a deadline"
    since = f"since {time(rest.since)} ({span(now - rest.since)})"
    return Cause(
        f"waits for an event: {events} {since}, {until}.",
        f"{inspect(rest.events[0].workflow_id)} for the run that is to set it; {_wait_for(run)}",
    )


def _child(child: Child) -> str:
    waits = f", waits on {line(child.waiting_on, limits.NAME)!r}" if child.waiting_on else ""
    return f"{fitting.shown_line(child.workflow_id)} ({child.status}{waits})"


def _waits(waits: list[Waiting], now: datetime) -> Cause:
    first = waits[0]
    more = f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""
    example = REST if first.example is None else first.example
    if len(as_json(example)) > _PROMPT:
        example = REST  # a part of it would not be a valid message
    answer = topics.answering(first.workflow_id, line(first.topic, limits.NAME), example)
    if first.topic.startswith(PERSON):
        answer += ": the person at this client answers."
    step = topics.doubted_step(first.topic)
    what = (
        "for a message" if step is None else f"for what is said of step {step}, which is in doubt,"
    )
    return Cause(f"waits {what} on topic {wait_line(first, now)}{more}", answer)


def _in_steps(run: Run, now: datetime) -> Cause:
    retried = [(step, step.retry_at) for step in run.running if step.retry_at is not None]
    if len(retried) < len(run.running):
        return Cause(f"running {_running(run, now)}", _wait_for(run))
    step, at = retried[0]
    more = f" (and {len(retried) - 1} more)" if len(retried) > 1 else ""
    when = f"at {time(at)} (in {span(at - now)})"
    return Cause(
        f"will retry step {step.step} {line(step.name, limits.NAME)} {when}{more}: attempt {step.attempt} of {step.max_attempts} failed: {line(step.error or '', _ERROR)}",
        f"{_wait_for(run)}; or repair the code, then {_cancel(run)} and {_fork(run, step.step)}",
    )


def _running(run: Run, now: datetime) -> str:
    return some(
        f"step {step.step} {line(step.name, limits.NAME)} since {time(step.since)} ({span(now - step.since)})"
        + (f", attempt {step.attempt} of {step.max_attempts}" if step.max_attempts > 1 else "")
        for step in run.running
    )


def _asleep_until(run: Run) -> datetime | None:
    """The end of a sleep: DBOS records it when the sleep begins."""
    last = run.steps[-1] if run.steps else None
    return last.completed_at if last and last.name == SLEEP else None


def _without_worker(run: Run) -> Cause:
    state = "queued" if run.status == "ENQUEUED" else "interrupted"
    age = "" if run.version == run.newest_version else ", which is not the newest,"
    where = ""
    if run.waiting:
        where = f"; it was waiting on topic {line(run.waiting[0].topic, limits.NAME)!r}"
    elif run.running:
        where = (
            f"; step {run.running[0].step} {line(run.running[0].name, limits.NAME)} was under way"
        )
    why = f" ({line(run.absence, _ERROR)})" if run.absence else ""
    following = f"{call('server_status')} for the workers and their problems; the run goes on automatically once one is running."
    if run.absence == NO_PLACE:
        following = f"{call('server_status')} shows which versions have unfinished runs; this run goes on automatically once those of an older version have ended ({call('list_workflows', status='PENDING')}); or {_moved_on(run)} to go on with the newest code"
    return Cause(
        f"{state}: no worker of its version {run.version}{age} is running{why}{where}.", following
    )


def _suspected(run: Run, suspect: Suspect, now: datetime) -> Cause:
    if run.worker and run.worker.alive:
        now_doing = _CAUSES[run.status](run, now).text.removesuffix(".")
    else:
        why = f" ({line(run.absence, _ERROR)})" if run.absence else ""
        now_doing = f"{'queued' if run.status == 'ENQUEUED' else 'interrupted'}: that worker is not running{why}"
    if suspect.others or not suspect.alone:
        following = f"nothing: it goes on automatically; {_wait_for(run)}"
    else:
        following = f"{_cancel(run)}; repair the code ({_source(run)}), then {_fork(run, suspect.after_step + 1)}"
    return Cause(f"it {suspicion(suspect)} · {now_doing}.", following)


def _unavailable(run: Run, traceback: str) -> Cause:
    if traceback.startswith(_GONE):
        return Cause(
            f"its version {run.version} has no such workflow: {line(traceback, _ERROR)}.",
            f"{_cancel(run)}, and delete the schedule that starts it; or restore the workflow, then {_moved_on(run)}",
        )
    last = traceback.strip().rpartition("\n")[2]
    return Cause(
        f"its file does not load in version {run.version}: {line(last, _ERROR)}",
        f"{_source(run)}; repair the file, then {_moved_on(run)}",
    )


def _unknown(run: Run, _now: datetime) -> Cause:
    return Cause(
        f"its status {run.status} is unknown to this version of durable-workflows.",
        f"upgrade durable-workflows: a newer release may have written it; or {_fork(run, _last_step(run) + 1)} to go on as a new run",
    )


_CAUSES: dict[str, Callable[[Run, datetime], Cause]] = {
    "SUCCESS": _succeeded,
    "ERROR": _failed,
    "CANCELLED": _cancelled,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": _dead_lettered,
    "DELAYED": _delayed,
    "ENQUEUED": _queued,
    "PENDING": _pending,
}


# Calls


def _last_step(run: Run) -> int:
    return run.steps[-1].step if run.steps else 0


def _source(run: Run) -> str:
    return inspect(run.workflow_id, detail="source")


def _start(run: Run) -> str:
    return call("start_workflow", name=line(run.name, limits.NAME), args=REST)


def _fork(run: Run, step: int) -> str:
    return call("fork", workflow_id=run.workflow_id, from_step=step)


def _moved_on(run: Run) -> str:
    """The calls by which an unfinished run can continue as a fork on the newest code, and only so."""
    return f"{_fork(run, _last_step(run) + 1)} and {_cancel(run)}"


def _cancel(run: Run) -> str:
    return call("cancel", workflow_ids=[run.workflow_id])


def _resume(run: Run) -> str:
    with_children = {"children": True} if run.stopped_children else {}
    return call("resume", workflow_ids=[run.workflow_id], **with_children)


def _wait_for(run: Run) -> str:
    return call("wait_for_workflows", workflow_ids=[run.workflow_id])
