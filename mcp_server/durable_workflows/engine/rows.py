"""The rows of a project, by named statements, after a worker of this release has made its tables and DBOS's."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import anyio

from durable_workflows import wording
from durable_workflows.database import tables
from durable_workflows.errors import (
    DatabaseSilent,
    DatabaseUnavailable,
    DurableWorkflowsError,
    NoSpaceLeft,
    UnknownWorkflowId,
)
from durable_workflows.models import Connection
from durable_workflows.settings import Settings
from durable_workflows.system import files, places, state, trees

_READY_SECONDS = 40.0  # the first worker of a database makes DBOS's tables
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0  # in which the supervisor restarts a database
_ANSWER_SECONDS = 30.0  # after which a silent database is given up: clients wait for a minute
_LISTENERS = (
    1  # connections to a Postgres for callers that wait; more callers look from time to time
)
_POSTGRES = "5"  # the directory of the database `postgres`: its number since PostgreSQL 15
NOT_KNOWN = "The database has not answered for half a minute. It is not known whether this was done; it may still happen."
_AGAIN = "Call again in a few seconds: nothing is lost. `durable-workflows status` shows its state."
_ELSEWHERE = (
    "Check that server, or call again later: nothing is lost, and runs go on once it answers."
)

T = TypeVar("T")


class Rows:
    """Queries to the database of `connection`. Close it after use (`aclose`)."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self.settings = settings
        self.connection = connection
        self.database = connection.database
        self.limit_seconds = _ANSWER_SECONDS
        costs_none = self.database.is_embedded and settings.one_session
        self.listeners = None if costs_none else anyio.CapacityLimiter(_LISTENERS)
        self._lasting = tables.LastingConnection(
            self.database,
            role="engine",
            patience_seconds=_PATIENCE_SECONDS,
            limit_seconds=self.limit_seconds,
            explain=self.explain,
        )
        self._migrated = False

    def explain(self, error: BaseException | None) -> DurableWorkflowsError | None:
        """The reason why the database does not answer, as far as it can be known from here."""
        if self.connection.mode == "external":
            said = tables.first_sentence(error)
            return DatabaseUnavailable(
                f"The Postgres at DBOS_DATABASE_URL does not answer: {said}", hint=_ELSEWHERE
            )
        if state.is_full(self.settings):
            return NoSpaceLeft()
        note = state.read_report(self.settings).get("database", "up")
        if note == "up":
            return None
        if note.startswith("ended"):
            return DatabaseUnavailable(f"The database {note}.", hint=_AGAIN)
        return DatabaseUnavailable(f"The database does not start: {note}", hint="")

    async def aclose(self) -> None:
        """Close the connection at once."""
        await self._lasting.close()

    async def fetch(self, name: str, /, **values: object) -> list[tables.Row]:
        """Run a named statement and return its rows.

        Raises:
            DatabaseUnavailable: the database does not answer, or is not set up.
        """
        await self._until_migrated()
        return await self._lasting.fetch(name, **values)

    async def change(self, name: str, /, **values: object) -> list[tables.Row]:
        """As `fetch`, for a statement that starts or sends something.

        If there is no answer, the error says that it may have been carried out.
        """
        try:
            return await self.fetch(name, **values)
        except DatabaseSilent as error:
            raise DatabaseSilent(NOT_KNOWN) from error

    async def run(self, name: str, /, **values: object) -> int:
        """Run a named statement and return how many rows it touched; errors as for `fetch`."""
        return await self._lasting.run(name, **values)

    async def in_snapshot(self, read: Callable[[tables.Fetch], Awaitable[T]]) -> T:
        """The result of `read`, from rows of one moment; errors as for `fetch`."""
        await self._until_migrated()
        return await self._lasting.in_snapshot(read)

    async def lasting(self) -> tables.LastingConnection:
        """The connection for work in many statements; errors as for `fetch`."""
        await self._until_migrated()
        return self._lasting

    def connected(self) -> AbstractAsyncContextManager[tables.Connection]:
        """The connection itself for a while; errors as for `fetch`."""
        return self._lasting.connection()

    async def head(self, workflow_id: str) -> tables.Row:
        """The row of `run_heads` for a run.

        Raises:
            UnknownWorkflowId, DatabaseUnavailable
        """
        return (await self.heads([workflow_id]))[workflow_id]

    async def heads(self, workflow_ids: Sequence[str]) -> Mapping[str, tables.Row]:
        """The rows of `run_heads` for runs, by id; errors as for `head`."""
        rows = await self.fetch("run_heads", workflow_ids=list(workflow_ids))
        found = {row["workflow_id"]: row for row in rows}
        for workflow_id in workflow_ids:
            if workflow_id not in found:
                raise await self.unknown(workflow_id)
        return found

    async def database_bytes(self) -> int:
        """The size of the database.

        Raises:
            DatabaseUnavailable: the database does not answer.
            StateDirectoryUnusable: the files of an embedded database cannot be read.
        """
        if self.connection.mode == "external":
            return (await self.fetch("database_bytes"))[0]["bytes"]
        folder = places.data(self.settings) / "base" / _POSTGRES
        try:  # Postgres would ask for the same sizes, which takes PGlite three times as long
            return await anyio.to_thread.run_sync(trees.size, folder)
        except OSError as error:
            raise files.translate(error, folder) from error

    async def unknown(self, workflow_id: str) -> UnknownWorkflowId:
        """The error for an id that no run has, with similar ids."""
        rows = await self.fetch("similar_ids")
        known = [row["workflow_id"] for row in rows]
        return UnknownWorkflowId(
            f"There is no run {workflow_id!r}." + wording.closest(workflow_id, known)
        )

    async def _until_migrated(self) -> None:
        if self._migrated:
            return
        with anyio.move_on_after(_READY_SECONDS):
            while not self._migrated:
                rows = await self._lasting.fetch("has_all_of_this_release")
                self._migrated = rows[0]["there"]
                await anyio.sleep(0 if self._migrated else _POLL_SECONDS)
        if not self._migrated:
            raise DatabaseUnavailable("The database is still being set up.")
