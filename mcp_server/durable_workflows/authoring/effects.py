"""Steps with an effect in the world, like a payment, an email or a deployment, and what becomes of it when the process dies."""

import asyncio
import functools
import inspect
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from enum import Enum
from itertools import chain
from types import FunctionType, ModuleType
from typing import Any, Final, Literal, ParamSpec, TypeVar, cast

from dbos import DBOS
from pydantic import JsonValue

from durable_workflows import limits, topics, wording
from durable_workflows.authoring.asking import Question
from durable_workflows.authoring.retrying import Retry, plain_in_steps, retried
from durable_workflows.authoring.timeouts import limited
from durable_workflows.errors import UsageError
from durable_workflows.models import Schema
from durable_workflows.seam import dbos_calls, effects
from durable_workflows.seam.effects import Effect, Effects, Standing
from durable_workflows.seam.patches import bodies

P = ParamSpec("P")
R = TypeVar("R")
_ONCE = "_happens_at_most_once"  # the attribute of such a step, with its name
_KEYS = uuid.UUID("1c1f3f0e-6b5a-4a53-9d0c-5a2f1c6f6a11")  # the name space of idempotency keys
_FIRST_LOOK_SECONDS = 120.0  # until the next look-up after one that failed; it doubles
_LONGEST_LOOK_SECONDS = 3600.0
_RESOLUTION: Schema = {
    "type": "object",
    "properties": {
        "happened": {
            "type": "boolean",
            "description": "Whether the step has had its effect. If not, it runs again.",
        },
        "result": {"description": "The step's result, if it has happened."},
    },
    "required": ["happened"],
    "additionalProperties": False,
}


class _NotDone(Enum):
    NOT_DONE = "NOT_DONE"


NOT_DONE: Final = _NotDone.NOT_DONE
"""What the `find` of a step returns if the step's effect has not happened."""


def step(
    *,
    name: str | None = None,
    effect: Literal["repeatable", "once"] = "repeatable",
    find: Callable[..., object] | None = None,
    person: bool = False,
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A step, with what its effect allows when the process dies between the effect and its record.

    | `effect` | meaning |
    |---|---|
    | `"repeatable"` | It runs again: at least once, as `@DBOS.step()`. |
    | `"once"` | It does not run again by itself: at most once. Before its first line runs, an intent is on the disk. A later execution that finds the intent and no result is in doubt, and waits until `resolve_step` says whether the effect has happened. |

    With `find`, the run resolves a doubt itself. It is called with the step's arguments, may be async if the step is, only looks, and returns the
    step's result, or `NOT_DONE`: then the step runs. If it raises, the step stays in doubt, and it is called again after two minutes, then four, at
    most an hour; until then the doubt can be resolved as any other. With `person`, only a person may say what has happened.

    An exception that a `once` step raises is its result, as in any step. Call it from the body of a workflow.

    With `retry`, an attempt that fails is repeated as it says. Attempts are counted across the end of a process: one that was under way then counts,
    except for the first one, which leaves no trace before it has failed. When no attempt is left, the step raises its last error, with the attempts
    as notes. Called from another step, or outside of a run, the step is a plain function, which is tried once.

    With `timeout`, in seconds, an async step is cancelled when its time is over, and raises `StepTimeout`; with `retry`, each attempt has that time. A
    sync step cannot be stopped, so it is refused.

    Raises:
        UsageError: `find` or `person` without `effect="once"`; `retry` or `timeout` with it; `timeout` of a sync step; at a call: a `once` step was called from another step, or a sync one in an async
            workflow.
    """
    if effect != "once" and (find is not None or person):
        raise UsageError(
            "`find` and `person` are about steps that must not happen twice.",
            hint='Add effect="once", or remove them.',
        )
    if effect == "once" and retry is not None:
        raise UsageError(
            'A step with effect="once" does not run again, and `retry` runs it again.',
            hint='Remove one of the two. For what the receiver recognises as the same request, take effect="repeatable" and idempotency_key().',
        )

    if effect == "once" and timeout is not None:
        raise UsageError(
            'A step with effect="once" whose time is over may have had its effect all the same, and `timeout` would record that it failed.',
            hint="Set the time-out of the call in it, such as that of the HTTP client, and let its error say what is known.",
        )

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        if timeout is not None:
            function = limited(function, name or function.__qualname__, timeout)
        if effect == "repeatable":
            step_ = DBOS.step(name=name)
            if retry is None:
                return step_(function)
            tried = retried(function, name or function.__qualname__, retry)
            return plain_in_steps(step_(tried), function)
        name_ = name or function.__qualname__
        called = _once(function, name_, find, person=person)
        vars(called)[_ONCE] = name_
        return _from_the_body(DBOS.step(name=name)(called))

    return decorated


def idempotency_key() -> str:
    """A text for receivers that recognise a repeated request: the same each time this step of this run runs, and different for any other.

    A fork that does the step again has another key, and so has the run once it was rewound. Call it in a step.

    Raises:
        UsageError: the caller is not in a step of a run.
    """
    place = dbos_calls.current_step()
    if place is None:
        raise UsageError(
            "idempotency_key() was called outside of a step.",
            hint="Call it in the step that sends the request: the key belongs to that step.",
        )
    workflow_id, step_ = place
    made, rewinds = effects.origin(workflow_id, step_)
    again = f"\n{rewinds}" if rewinds else ""
    return str(uuid.uuid5(_KEYS, f"{workflow_id}\n{made}\n{step_}{again}"))


def once_steps(function: Callable[..., object]) -> list[str]:
    """The names of the steps that happen at most once, as far as the module of a workflow function has them, or a class or module in it."""
    module = sys.modules.get(function.__module__)
    inner: list[object] = list(vars(module).values()) if module else []
    holders = [one for one in inner if issubclass(type(one), type | ModuleType)]
    parts: list[list[object]] = [list(vars(one).values()) for one in holders]
    found = [*inner, *chain.from_iterable(parts)]
    return list(dict.fromkeys(name for one in found if (name := _once_name(one))))


def _once_name(value: object) -> str | None:
    """The name of a step that happens at most once; no code of the value runs."""
    if type(value) in (staticmethod, classmethod):
        value = cast("staticmethod[..., object]", value).__func__
    return vars(value).get(_ONCE) if type(value) is FunctionType else None


def _from_the_body(function: Callable[P, R]) -> Callable[P, R]:
    """The step, which refuses a call from elsewhere."""
    blocks = not inspect.iscoroutinefunction(function)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        dbos_calls.refuse_in_step(f"The step {function.__qualname__} happens at most once, and")
        if blocks and dbos_calls.current_run() is not None and bodies.current_task() is not None:
            raise UsageError(
                f"The step {function.__qualname__} is sync, and was called in an async workflow: in doubt it would keep all other async runs waiting.",
                hint="Make the step async.",
            )
        return function(*args, **kwargs)

    return called


def _once(
    function: Callable[P, R], name: str, find: Callable[..., object] | None, *, person: bool
) -> Callable[P, R]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def called_async(*args: Any, **kwargs: Any) -> object:
            once = _Once.of_caller(
                name, functools.partial(function, *args, **kwargs), person=person
            )
            if once is None:
                return await function(*args, **kwargs)
            look = find and functools.partial(find, *args, **kwargs)
            return await once.run_async(look)

        return cast("Callable[P, R]", called_async)
    if find is not None and inspect.iscoroutinefunction(find):
        raise UsageError(
            f"The step {function.__qualname__} is sync, and its `find` is async.",
            hint="Make both async, or both sync.",
        )

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        once = _Once.of_caller(name, functools.partial(function, *args, **kwargs), person=person)
        if once is None:
            return function(*args, **kwargs)
        return cast("R", once.run(find and functools.partial(find, *args, **kwargs)))

    return called


class _Once:
    """One execution of a `once` step."""

    def __init__(self, effects_: Effects, effect: Effect, call: Callable[[], Any]) -> None:
        self._effects = effects_
        self._effect = effect
        self._call = call

    @classmethod
    def of_caller(cls, name: str, call: Callable[[], Any], *, person: bool) -> "_Once | None":
        """The step in which the caller is; None: it is in no run, where a step is a plain function."""
        place = dbos_calls.current_step()
        if place is None:
            return None
        workflow_id, number = place
        topic = topics.of_doubt(number, person_only=person)
        effect = Effect(workflow_id, number, name, person, topic, dbos_calls.owner_of(workflow_id))
        return cls(effects.offer.taken(), effect, call)

    def run(self, find: Callable[[], object] | None) -> object:
        standing = self._effects.begin(self._effect)
        while standing.verdict == "doubt":
            if find is not None:
                try:
                    found = find()
                except Exception as error:  # noqa: BLE001 - of the author's code; the doubt shows it
                    standing = self._effects.begin(self._effect, problem=_said(error))
                else:
                    if found is not NOT_DONE:
                        return found
                    standing = self._effects.begin(self._effect, not_done=True)
            if standing.verdict == "doubt":
                with self._question(standing).shown():
                    self._effects.wait(self._effect, self._until(standing, find))
                standing = self._effects.begin(self._effect)
        return _result(standing) if standing.verdict == "happened" else self._call()

    async def run_async(self, find: Callable[[], object] | None) -> object:
        standing = await self._begin_async()
        while standing.verdict == "doubt":
            if find is not None:
                try:
                    found = find()
                    if inspect.isawaitable(found):
                        found = await cast("Awaitable[object]", found)
                except Exception as error:  # noqa: BLE001 - as in `run`
                    standing = await self._begin_async(problem=_said(error))
                else:
                    if found is not NOT_DONE:
                        return found
                    standing = await self._begin_async(not_done=True)
            if standing.verdict == "doubt":
                with self._question(standing).shown():
                    await self._effects.wait_async(self._effect, self._until(standing, find))
                standing = await self._begin_async()
        return _result(standing) if standing.verdict == "happened" else await self._call()

    async def _begin_async(self, *, not_done: bool = False, problem: str | None = None) -> Standing:
        begin = functools.partial(
            self._effects.begin, self._effect, not_done=not_done, problem=problem
        )
        return await asyncio.to_thread(begin)

    def _until(self, standing: Standing, find: object) -> float | None:
        """When to look again, in seconds since 1970; None: nothing but a resolution ends the doubt."""
        if find is None:
            return None
        seconds = _FIRST_LOOK_SECONDS * 2.0 ** min(standing.looks - 1, 10)
        return time.time() + min(seconds, _LONGEST_LOOK_SECONDS)

    def _question(self, standing: Standing) -> Question:
        effect = self._effect
        began = wording.time(standing.began_at)
        failed = f" Its look-up failed: {standing.problem}" if standing.problem else ""
        prompt = f"In doubt: step {effect.step} {effect.name} began at {began}, and its process ended before its result was recorded.{failed} Find out whether it has happened."
        return Question(prompt, _RESOLUTION, effect.person_only)


def _result(standing: Standing) -> JsonValue:
    return None if standing.result is None else json.loads(standing.result)


def _said(error: Exception) -> str:
    return wording.line(f"{type(error).__name__}: {error}", limits.NAME)
