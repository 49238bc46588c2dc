"""The code that can be started: the version of the present files, with its catalog."""

from collections.abc import Callable

import anyio

from durable_workflows import wording
from durable_workflows.code import catalog, versions
from durable_workflows.code.templates import template_entries
from durable_workflows.engine.calls import Calls
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import UnknownWorkflow, WorkflowUnavailable
from durable_workflows.models import Catalog, CatalogEntry

_STILL_LOADING = "no worker has begun to load it, or reported its progress, yet."
_CATALOG_SECONDS = 40.0  # a worker needs some seconds to start; clients give up after sixty
_POLL_SECONDS = 0.05


class Published:
    """The versions of the code that workers have loaded and published."""

    def __init__(self, rows: Rows, calls: Calls, progress: Callable[[str], None]) -> None:
        """`progress` is told about slow work before a version can be started."""
        self._rows = rows
        self._calls = calls
        self._progress = progress
        self._folder = catalog.Folder(rows.settings)
        self._reading = anyio.Lock()
        self._newest = ""
        # The catalogs of ready versions, which do not change.
        self._entries: dict[tuple[str, str], CatalogEntry] = {}

    async def catalog(self, query: str | None = None) -> Catalog:
        """As `Engine.catalog`."""
        version = await self.newest()
        rows = await self._rows.fetch("catalog", version=version)
        entries = [CatalogEntry.model_validate(row) for row in rows]
        templates = template_entries()
        if query:
            word = query.lower()
            entries = [one for one in entries if word in f"{one.name} {one.summary}".lower()]
            templates = [one for one in templates if word in f"{one.name} {one.use_when}".lower()]
        return Catalog(workflows=entries, templates=templates, version=version)

    async def newest(self) -> str:
        """The version of the present files, with its catalog published."""
        async with self._reading:
            snapshot = await self._calls.in_thread(self._folder.snapshot)
        # Also one that was the newest before: an edit may be undone.
        if snapshot.version != self._newest:
            async with self._rows.connected() as connection:
                await versions.save(connection, snapshot)
            await self._until_published(snapshot.version)
            self._newest = snapshot.version
        return snapshot.version

    async def _until_published(self, version: str) -> None:
        stage, reason, said = "", None, None
        with anyio.move_on_after(_CATALOG_SECONDS):
            while stage != "failed":
                async with self._rows.connected() as connection:
                    stage, reason = await versions.state(connection, version) or ("", None)
                if stage == "ready":
                    return
                if stage == "saved" and reason and reason != said:
                    self._progress(reason)
                    said = reason
                await anyio.sleep(_POLL_SECONDS)
        if stage == "saved" and reason:
            raise WorkflowUnavailable(
                f"Version {version} of the code is being prepared: {reason}",
                hint="Call again in a few seconds; the preparation goes on. Nothing was started.",
            )
        raise WorkflowUnavailable(
            f"No worker could load version {version} of the code:\n{reason or _STILL_LOADING}",
            hint="Call server_status for the folder of the logs. Nothing was started.",
        )

    async def entry(self, name: str, version: str) -> CatalogEntry:
        if (version, name) not in self._entries:
            self._entries[version, name] = await self._startable(name, version)
        return self._entries[version, name]

    async def _startable(self, name: str, version: str) -> CatalogEntry:
        rows = await self._rows.fetch("catalog_entry", version=version, name=name)
        if not rows:
            known = await self._rows.fetch("catalog", version=version)
            raise UnknownWorkflow(
                f"There is no workflow {name!r}."
                + wording.closest(name, [row["name"] for row in known])
            )
        entry = CatalogEntry.model_validate(rows[0])
        if entry.error is not None:
            raise WorkflowUnavailable(
                f"{name} cannot be started: its file {entry.source} does not load:\n{entry.error}"
            )
        if entry.not_startable is not None:
            raise WorkflowUnavailable(
                f"{name} cannot be started. {entry.not_startable}",
                hint=f"Write a workflow function in {entry.source} that calls the method, and start that. Nothing was started.",
            )
        return entry
