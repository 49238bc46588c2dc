"""Read access for the page: one function for each GET. None changes anything."""

from collections.abc import Sequence

from durable_workflows import content, fitting, limits
from durable_workflows.engine import standing
from durable_workflows.models import (
    Answer,
    Catalog,
    Child,
    Compared,
    InboxItem,
    LogLine,
    Message,
    Preview,
    QueueInfo,
    Rehearsal,
    Step,
    Stream,
)
from durable_workflows.parts import Parts
from durable_workflows.web import words
from durable_workflows.web.shapes import (
    NEWEST,
    ChangesQuery,
    CompareQuery,
    LogQuery,
    MarksShown,
    Nothing,
    Project,
    RehearsalQuery,
    RunQuery,
    RunShown,
    RunsQuery,
    RunsShown,
    Source,
    StatusShown,
    StepQuery,
    StepsPage,
    StepsQuery,
    ValueQuery,
)
from durable_workflows.web.site import Site

_STEP_LENGTH = 1024 * 1024  # characters of one payload of a step
_VALUE_LENGTH = 16 * 1024 * 1024  # and of a run: all that a browser can show


async def project(site: Site, _query: Nothing) -> Project:
    engine = await site.engine()
    return Project(
        project=fitting.text(str(site.settings.project)),
        application=site.settings.application or fitting.text(site.settings.project.name),
        mode=engine.connection.mode,
        version=await engine.reader.newest_version(),
        release=content.package_version(),
        user=site.who,
    )


async def runs(site: Site, query: RunsQuery) -> RunsShown:
    engine = await site.engine()
    found = await engine.reader.runs(
        limit=query.limit,
        cursor=query.cursor,
        status=query.status,
        name=query.name,
        version=query.version,
        started_by=query.started_by,
        text=query.text,
        waiting=query.waiting,
        since=query.since,
        roots=query.roots,
        parent=query.parent,
        oldest_first=query.oldest_first,
    )
    parents = await engine.contents.parents([one.workflow_id for one in found.workflows])
    return RunsShown(**dict(found), parents=parents)


async def run(site: Site, query: RunQuery) -> RunShown:
    engine = await site.engine()
    found = await engine.reader.run(query.id)
    lines = await engine.reader.log(query.id, limit=1)
    why, following = words.cause(found)
    return RunShown(
        run=found.model_copy(update={"steps": []}),
        why=why,
        next=following,
        log_last=lines[0].id if lines else 0,
    )


async def steps(site: Site, query: StepsQuery) -> StepsPage:
    engine = await site.engine()
    found = await engine.contents.steps(query.id, after=query.after, count=query.limit)
    return StepsPage(steps=found, total=await engine.contents.step_count(query.id))


async def step(site: Site, query: StepQuery) -> Step:
    engine = await site.engine()
    return await engine.reader.step(query.id, query.step, offset=0, length=_STEP_LENGTH)


async def value(site: Site, query: ValueQuery) -> Preview | None:
    engine = await site.engine()
    return await engine.contents.payload(query.id, query.of, length=_VALUE_LENGTH)


async def log(site: Site, query: LogQuery) -> Sequence[LogLine]:
    engine = await site.engine()
    return await engine.reader.log(query.id, after=query.after, limit=query.limit)


async def messages(site: Site, query: RunQuery) -> Sequence[Message]:
    engine = await site.engine()
    return await engine.reader.messages(query.id, count=limits.MESSAGES)


async def answers(site: Site, query: RunQuery) -> Sequence[Answer]:
    engine = await site.engine()
    return await engine.reader.answers(query.id)


async def tree(site: Site, query: RunQuery) -> Sequence[Child]:
    engine = await site.engine()
    return await engine.reader.tree(query.id)


async def source(site: Site, query: RunQuery) -> Source:
    engine = await site.engine()
    path, text = await engine.reader.source(query.id)
    return Source(path=path, text=text)


async def streams(site: Site, query: RunQuery) -> Sequence[Stream]:
    engine = await site.engine()
    return await engine.contents.streams(query.id)


async def compare(site: Site, query: CompareQuery) -> Compared:
    engine = await site.engine()
    return await engine.reader.compare(query.a, query.b, after=query.after)


async def rehearsal(site: Site, query: RehearsalQuery) -> Rehearsal:
    engine = await site.engine()
    [found] = await engine.rehearse([query.id], shaken=query.shaken)
    return found


async def waits(site: Site, _query: Nothing) -> Sequence[InboxItem]:
    engine = await site.engine()
    return await engine.contents.inbox()


async def marks(site: Site, query: ChangesQuery) -> MarksShown:
    engine = await site.engine()
    found = await engine.contents.marks(
        query.runs, newest=NEWEST if query.listed else 0, waits=query.waits
    )
    newest = f"{found.listed} {found.states}" if query.listed else None
    return MarksShown(runs=dict(found.runs), newest=newest, waits=found.waits)


async def catalog(site: Site, _query: Nothing) -> Catalog:
    engine = await site.engine()
    return await engine.catalog()


async def status(site: Site, _query: Nothing) -> StatusShown:
    found = await standing.status(site.settings, site.engine)
    parts = Parts()
    queues: list[QueueInfo] = []
    if found.database == "up":
        with parts.part("queues"):
            queues = await (await site.engine()).reader.queues()
    problems = [*found.problems, *parts.problems]
    return StatusShown.model_validate({**dict(found), "queues": queues, "problems": problems})
