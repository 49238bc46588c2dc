"""Forks of many failed runs in one call."""

from collections.abc import Sequence

from durable_workflows.engine.forking import Forker
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.repeating import Repeats, fork_of
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import UsageError
from durable_workflows.models import ForkChoice, ForkedList, ForkOptions, ForkVerdict
from durable_workflows.telling import causes

_PAGE = 100


class ManyForks:
    """Forks failed runs, each from the step that failed."""

    def __init__(self, rows: Rows, reader: Reader, forker: Forker, repeats: Repeats) -> None:
        self._rows = rows
        self._reader = reader
        self._forker = forker
        self._repeats = repeats

    async def fork(
        self, choice: ForkChoice, *, same_version: bool, dry_run: bool, session: str | None
    ) -> ForkedList:
        """As `Engine.fork_failed`."""
        chosen, is_all = await self._chosen(choice)
        verdicts = [
            await self._verdict(one, same_version=same_version, dry_run=dry_run, session=session)
            for one in chosen
        ]
        forked = sum(one.refused is None and not one.existing for one in verdicts)
        more = f"There are more than {choice.limit}: call again with a larger limit."
        return ForkedList(
            workflows=verdicts, forked=forked, dry_run=dry_run, note=None if is_all else more
        )

    async def _chosen(self, choice: ForkChoice) -> tuple[Sequence[str], bool]:
        """The ids, the newest run first, and whether these are all."""
        if choice.workflow_ids is not None:
            await self._rows.heads(choice.workflow_ids)  # raises if there is none of that id
            return list(dict.fromkeys(choice.workflow_ids)), True
        found: list[str] = []
        cursor = None
        while len(found) < choice.limit:
            page = await self._reader.page(
                limit=min(_PAGE, choice.limit - len(found)),
                cursor=cursor,
                status="ERROR",
                name=choice.name,
                since=choice.since,
            )
            found += [one.workflow_id for one in page.runs if one.rewound_from is None]
            cursor = page.next_cursor
            if cursor is None:
                return found, True
        return found, False

    async def _verdict(
        self, workflow_id: str, *, same_version: bool, dry_run: bool, session: str | None
    ) -> ForkVerdict:
        run = await self._reader.run(workflow_id)
        if run.status != "ERROR":
            said = f"it has not failed: its status is {run.status}"
            return ForkVerdict(workflow_id=workflow_id, refused=said)
        step = causes.step_to_repeat(run)
        fork_id = f"{workflow_id}-fork-{step}"
        others = [one for one in run.forks if one.workflow_id != fork_id and one.status != "ERROR"]
        if others:
            said = f"it was forked before, as {others[-1].workflow_id}"
            return ForkVerdict(workflow_id=workflow_id, from_step=step, refused=said)
        try:
            if dry_run:
                head, again = await self._rows.head(workflow_id), fork_of(workflow_id, step)
                await self._repeats.version(head, again, same=same_version)
                await self._repeats.refuse(again, ())
                existing = any(one.workflow_id == fork_id for one in run.forks)
            else:
                forked = await self._forker.fork(
                    workflow_id,
                    step,
                    same_version=same_version,
                    options=ForkOptions(workflow_id=fork_id),
                    session=session,
                )
                existing = forked.existing
        except UsageError as error:
            return ForkVerdict(workflow_id=workflow_id, from_step=step, refused=error.message)
        return ForkVerdict(workflow_id=workflow_id, fork=fork_id, from_step=step, existing=existing)
