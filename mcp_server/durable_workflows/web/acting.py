"""The changes that a person can make on the page: one function for each POST."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from durable_workflows.errors import AlreadyAnswered, NotWaiting, WouldRepeat
from durable_workflows.models import (
    ChangedList,
    Delivered,
    Forked,
    ForkOptions,
    MovedList,
    OpenWait,
    Rewound,
    ScheduleInfo,
    ScheduleRequest,
    ScheduleResult,
    Started,
    StartRequest,
)
from durable_workflows.web.shapes import (
    AnswerBody,
    ForkBody,
    MoveBody,
    RewindBody,
    RunsBody,
    ScheduleBody,
    SendBody,
)
from durable_workflows.web.site import Site

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

Steps = tuple[int, ...]
T = TypeVar("T")


async def start(site: Site, body: StartRequest) -> Started:
    engine = await site.engine()
    return await engine.start(body, session=site.session)


async def fork(site: Site, body: ForkBody) -> Forked:
    engine = await site.engine()

    async def forked(repeat: Steps) -> Forked:
        options = ForkOptions(
            workflow_id=body.new_workflow_id,
            args=body.args,
            outputs=body.outputs,
            repeat=repeat,
            cancel_original=body.cancel_original,
            fork_children=body.fork_children,
        )
        return await engine.fork(
            body.workflow_id,
            body.from_step,
            same_version=body.same_version,
            options=options,
            session=site.session,
        )

    return await _again(forked, anyway=body.anyway)


async def rewind(site: Site, body: RewindBody) -> Rewound:
    engine = await site.engine()

    async def rewound(repeat: Steps) -> Rewound:
        return await engine.rewind(
            body.workflow_id, body.to_step, same_version=not body.latest_version, repeat=repeat
        )

    return await _again(rewound, anyway=body.anyway)


async def move(site: Site, body: MoveBody) -> MovedList:
    engine = await site.engine()
    return await engine.move_to_version(
        body.workflow_ids, body.filter, version=body.version, dry_run=body.dry_run
    )


async def _again(act: Callable[[Steps], Awaitable[T]], *, anyway: bool) -> T:
    """Do it, with `anyway` also what must not happen twice."""
    try:
        return await act(())
    except WouldRepeat as refused:
        if not anyway:
            raise
        return await act(refused.steps)


async def cancel(site: Site, body: RunsBody) -> ChangedList:
    engine = await site.engine()
    return await engine.cancel(body.workflow_ids, children=body.children)


async def resume(site: Site, body: RunsBody) -> ChangedList:
    engine = await site.engine()
    return await engine.resume(body.workflow_ids, children=body.children)


async def delete(site: Site, body: RunsBody) -> ChangedList:
    engine = await site.engine()
    return await engine.delete(body.workflow_ids, children=body.children)


async def answer(site: Site, body: AnswerBody) -> Delivered:
    engine = await site.engine()
    wait = await _wait(engine, body.workflow_id, body.step)
    site.allow(wait)
    return await engine.answer(wait, body.value, who=site.who, how=site.how)


async def send(site: Site, body: SendBody) -> Delivered:
    engine = await site.engine()
    return await engine.send(body.workflow_id, body.topic, body.message, body.idempotency_key)


async def schedule(site: Site, body: ScheduleBody) -> ScheduleInfo | Started:
    engine = await site.engine()
    match body.do:
        case "pause":
            return await engine.pause_schedule(body.name)
        case "resume":
            return await engine.resume_schedule(body.name)
        case "run":
            return await engine.run_schedule(body.name)
        case "delete":
            return await engine.delete_schedule(body.name)


async def create_schedule(site: Site, body: ScheduleRequest) -> ScheduleResult:
    engine = await site.engine()
    return await engine.create_schedule(body)


async def _wait(engine: "Engine", workflow_id: str, step: int) -> OpenWait:
    """The run's wait at that step. Another person may have been quicker."""
    for wait in await engine.reader.waits(workflow_id):
        if wait.step == step:
            return wait
    for earlier in await engine.reader.answers(workflow_id):
        if earlier.step == step:
            at = earlier.at.isoformat(timespec="seconds")
            raise AlreadyAnswered(f"{earlier.who} already answered this at {at}.")
    raise NotWaiting(f"{workflow_id} does not wait at step {step} any more.")
