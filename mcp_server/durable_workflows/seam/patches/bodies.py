# pyright: reportPrivateUsage=false
"""The bodies of workflows that are under way in this process, and what the patches know of each beside what dbos knows.

A body is one execution of a run's code. `replaying` and `parking` say what their parts of it mean.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, ContextVar, Token
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Literal, NamedTuple

from dbos import _context as dbos_context
from dbos import _core as dbos_core
from dbos._sys_db import RecordedResult
from dbos._utils import LoopAwareEvent

from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches.replacing import replace

_TOKEN = "outer_body"  # an attribute of the scope of a workflow: what `_BODY` was before
_REMEMBERED = 10_000  # runs that were claimed and have not begun
Task = asyncio.Task[Any]


class RecordedStep(NamedTuple):
    """A step as it is recorded."""

    name: str
    result: RecordedResult


@dataclass
class Recorded:
    """What a replay has read of what is recorded, and not passed yet."""

    steps: dict[int, RecordedStep] = field(default_factory=dict[int, RecordedStep])
    read_to: int = 0
    is_over: bool = False  # there is nothing after `read_to`
    lock: threading.Lock = field(default_factory=threading.Lock)


class State(Enum):
    """Whether a body is in memory."""

    ACTIVE = auto()
    PARKING = auto()  # the database is being asked
    PARKED = auto()  # its code is being left


class Condition(NamedTuple):
    """What ends a wait: a `message` for a run on a topic, an `event` of a run by its name, the `end` of a run."""

    kind: Literal["message", "event", "end"]
    target: str
    key: str = ""


@dataclass(eq=False)
class Wait:
    """A place at which a body waits, in one of its threads or tasks. It ends with any of the conditions, or at the deadline (seconds since 1970)."""

    conditions: Sequence[Condition]
    event: LoopAwareEvent
    deadline: float | None
    muted_below: int  # what is printed before this number is taken for a step comes before the wait
    thread: int
    task: Task | None


@dataclass(eq=False)
class Body:
    """One execution of a run's code."""

    name: str
    context: dbos_context.DBOSContext
    outer: "Body | None"  # in whose code it was begun
    workflow_id: str
    muted_below: int
    recorded: Recorded = field(default_factory=Recorded)
    state: State = State.ACTIVE
    decided: LoopAwareEvent = field(default_factory=LoopAwareEvent)  # unless it is PARKING
    steps: int = 0  # in flight
    waits: set[Wait] = field(default_factory=set[Wait])
    thread: int = field(default_factory=threading.get_ident)
    tasks: set[Task] = field(default_factory=set[Task])  # of an async one, those not done
    loop: asyncio.AbstractEventLoop | None = None


_BODY: ContextVar[Body | None] = ContextVar("body", default=None)
# Whether the caller is in a step of the author's: dbos's own waits are steps to it, too.
IN_STEP: ContextVar[bool] = ContextVar("in_step", default=False)
_muted: dict[str, int] = {}


def install(left: Callable[[Body], None]) -> None:
    """Follow all bodies of this process; `left` is told of each whose code has been left. Once, before `DBOS.launch()`."""
    scope = dbos_context.EnterDBOSWorkflow
    enter, leave = scope.__enter__, scope.__exit__

    def entered(self: dbos_context.EnterDBOSWorkflow) -> dbos_context.DBOSContext:
        context = enter(self)
        setattr(self, _TOKEN, _BODY.set(_begun(self.attributes.get("name", ""), context)))
        return context

    def exited(self: dbos_context.EnterDBOSWorkflow, *raised: *dbos_calls.Raised) -> Literal[False]:
        body = _BODY.get()
        token: Token[Body | None] = getattr(self, _TOKEN)
        _BODY.reset(token)
        if body is not None:
            left(body)
        return leave(self, *raised)

    replace(scope, __enter__=entered, __exit__=exited)
    _follow_tasks()


def current() -> Body | None:
    """The body in whose code the caller is."""
    return _BODY.get()


def current_in(context: Context) -> Body | None:
    """The body in whose code this context was copied."""
    return context.get(_BODY)


def of_run(workflow_id: str) -> Body | None:
    """The body of this run in whose code the caller is, perhaps by way of others."""
    body = _BODY.get()
    while body is not None and body.workflow_id != workflow_id:
        body = body.outer
    return body


def mute(workflow_id: str, below: int) -> None:
    """Have the next body of the run print nothing in its own code before it takes this number for a step: that was printed before."""
    _muted[workflow_id] = below
    if len(_muted) > _REMEMBERED:
        del _muted[next(iter(_muted))]


def is_muted() -> bool:
    """Whether the caller is in a workflow's own code whose output is another body's: that of one before it, which was parked further on, or, in code that is being left, that of the one after it."""
    body = _BODY.get()
    if body is None or IN_STEP.get():
        return False
    return body.state is State.PARKED or body.context.function_id < body.muted_below


def _begun(name: str, context: dbos_context.DBOSContext) -> Body:
    body = Body(
        name,
        context,
        _BODY.get(),
        context.workflow_id,
        _muted.pop(context.workflow_id, 0),
    )
    body.decided.set()
    if (task := current_task()) is not None:
        body.loop = task.get_loop()
        body.tasks.add(task)
    return body


def current_task() -> Task | None:
    """The task in which the caller is, if it is in one."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _follow_tasks() -> None:
    """Know the tasks of each async body."""
    execute = dbos_core._execute_workflow_async

    async def executed(*given: Any) -> object:
        outer, task = _BODY.get(), asyncio.current_task()
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is None:
            loop.set_task_factory(made_task)
        if outer is not None and task is not None:  # it started this run, which is not its task
            outer.tasks.discard(task)
            _BODY.set(None)
        return await execute(*given)

    replace(dbos_core, _execute_workflow_async=executed)


def made_task(
    loop: asyncio.AbstractEventLoop, code: Coroutine[Any, Any, Any] | Any, **named: Any
) -> Task:
    """A loop's task factory, which notes whose body the task is of."""
    task: Task = asyncio.Task(code, loop=loop, **named)
    if (body := _BODY.get()) is not None:
        body.tasks.add(task)
        task.add_done_callback(body.tasks.discard)
    return task
