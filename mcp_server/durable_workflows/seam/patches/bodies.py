# pyright: reportPrivateUsage=false
"""The active bodies of workflows in this process, and what the patches know of each body in addition to dbos.

A body is one execution of a run's code. `replaying` and `parking` explain their parts of it.
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

_TOKEN = "outer_body"  # an attribute of the scope of a workflow: the previous value of `_BODY`
_REMEMBERED = 10_000  # runs that were claimed and have not begun
Task = asyncio.Task[Any]


class RecordedStep(NamedTuple):
    """A recorded step."""

    name: str
    result: RecordedResult


@dataclass
class Recorded:
    """The records that a replay has read and not passed yet."""

    steps: dict[int, RecordedStep] = field(default_factory=dict[int, RecordedStep])
    read_to: int = 0
    is_over: bool = False  # there is nothing after `read_to`
    has_attempts: bool = False  # of steps, which an earlier execution has noted
    lock: threading.Lock = field(default_factory=threading.Lock)


class State(Enum):
    """Whether a body is in memory."""

    ACTIVE = auto()
    PARKING = auto()  # the database is being asked
    PARKED = auto()  # its code is ending


class Condition(NamedTuple):
    """A condition that ends a wait: a `message` for a run on a topic, an `event` of a run by its name, the `end` of a run, what is said of a `doubt` about a step."""

    kind: Literal["message", "event", "end", "doubt"]
    target: str
    key: str = ""


@dataclass(eq=False)
class Wait:
    """A place at which a body waits, in one of its threads or tasks.

    Any of the conditions ends it, and so does the deadline (seconds since 1970).
    """

    conditions: Sequence[Condition]
    event: LoopAwareEvent
    deadline: float | None
    muted_below: int  # output before the step with this number was printed before the wait
    thread: int
    task: Task | None


@dataclass(eq=False)
class Body:
    """One execution of a run's code."""

    name: str
    context: dbos_context.DBOSContext
    outer: "Body | None"  # the body in whose code it was begun
    workflow_id: str
    muted_below: int
    recorded: Recorded = field(default_factory=Recorded)
    state: State = State.ACTIVE
    decided: LoopAwareEvent = field(default_factory=LoopAwareEvent)  # unless it is PARKING
    steps: int = 0  # in flight
    waits: set[Wait] = field(default_factory=set[Wait])
    thread: int = field(default_factory=threading.get_ident)
    tasks: set[Task] = field(default_factory=set[Task])  # of an async body, those that are not done
    loop: asyncio.AbstractEventLoop | None = None


_BODY: ContextVar[Body | None] = ContextVar("body", default=None)
# Whether the caller is in a step of the author. dbos's own waits also count as steps to dbos.
IN_STEP: ContextVar[bool] = ContextVar("in_step", default=False)
_muted: dict[str, int] = {}


def install(left: Callable[[Body], None]) -> None:
    """Follow all bodies of this process; `left` is told of each body whose code has ended. Call it once, before `DBOS.launch()`."""
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
    """The body of this run in whose code the caller is, perhaps through nested bodies."""
    body = _BODY.get()
    while body is not None and body.workflow_id != workflow_id:
        body = body.outer
    return body


def mute(workflow_id: str, below: int) -> None:
    """Suppress the output of the run's next body in its own code before the step with this number: it was printed before."""
    _muted[workflow_id] = below
    if len(_muted) > _REMEMBERED:
        del _muted[next(iter(_muted))]


def is_muted() -> bool:
    """Whether the output of the workflow code around the caller belongs to another body.

    That is the body before it, if that one was parked further on. In code that is ending, it is the body after it.
    """
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
    """The caller's task, if it is in one."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _follow_tasks() -> None:
    """Note the tasks of each async body."""
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
    """A loop's task factory, which notes the body of each task."""
    task: Task = asyncio.Task(code, loop=loop, **named)
    if (body := _BODY.get()) is not None:
        body.tasks.add(task)
        task.add_done_callback(body.tasks.discard)
    return task
