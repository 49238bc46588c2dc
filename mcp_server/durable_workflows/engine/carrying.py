"""Runs as files: one run with all that it started, out of one project and into another."""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Literal

from durable_workflows import wording
from durable_workflows.database import run_files, tables
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import DatabaseUnavailable, UsageError
from durable_workflows.models import Exported, ExportHeader, Imported
from durable_workflows.system import archives, state

Unfinished = Literal["cancel", "copy"]


class Carrier:
    """Exports and imports runs."""

    def __init__(self, rows: Rows, progress: Callable[[str], None]) -> None:
        self._rows = rows
        self._progress = progress

    async def export(self, workflow_id: str, path: Path, unfinished: Unfinished | None) -> Exported:
        """As `Engine.export`."""
        await self._rows.lasting()
        await self._rows.head(workflow_id)
        writer = archives.Writer(path)
        try:
            async with self._rows.connected() as connection:
                runs = await self._written(connection, workflow_id, writer, unfinished)
        except BaseException as error:
            if not writer.finished:
                writer.discard()
            elif isinstance(error, DatabaseUnavailable):
                raise _unknown(workflow_id, writer, error) from error
            raise
        writer.publish()
        cancelled = unfinished == "cancel" and bool(runs.unfinished)
        if cancelled:  # what it was starting at that moment
            rows = await self._rows.fetch("descendant_ids", workflow_id=workflow_id)
            late = {row["workflow_id"] for row in rows} - set(runs.workflow_ids)
            await self._rows.run("cancel_exported", workflow_ids=list(late))
        return Exported(
            workflow_id=workflow_id,
            file=str(path),
            bytes=writer.bytes,
            runs=len(runs.workflow_ids),
            unfinished=len(runs.unfinished),
            cancelled=cancelled,
            rows=writer.lines - 1,
        )

    async def _written(
        self,
        connection: tables.Connection,
        workflow_id: str,
        writer: archives.Writer,
        unfinished: Unfinished | None,
    ) -> run_files.Tree:
        """Write the file from one moment of the database. The runs are cancelled in the same transaction, after the file is on the disk."""
        cancel = unfinished == "cancel"
        async with connection.transaction():
            if not cancel:
                await connection.execute(
                    "set transaction isolation level repeatable read, read only"
                )
            runs = await run_files.tree(connection, workflow_id, lock=cancel)
            if runs.unfinished:
                await self._check_unfinished(connection, runs, unfinished)
            header = await self._header(connection, workflow_id, runs, moved=cancel)
            self._progress(f"Exporting {wording.counted(len(runs.workflow_ids), 'run')}")
            await run_files.write(connection, header, runs, writer)
            writer.finish()
            if cancel:
                await tables.run(connection, "cancel_exported", workflow_ids=list(runs.unfinished))
        return runs

    async def _check_unfinished(
        self, connection: tables.Connection, runs: run_files.Tree, unfinished: Unfinished | None
    ) -> None:
        if unfinished is None:
            raise UsageError(
                f"{runs.unfinished[0]} has not ended: it would go on here and where the file is imported, and its steps would run twice.",
                hint="With --cancel it is cancelled here, and goes on only there. With --copy it goes on in both. Or wait until it has ended.",
            )
        ids = list(runs.workflow_ids)
        for row in await tables.fetch(connection, "awaited_elsewhere", workflow_ids=ids):
            raise UsageError(
                f"{row['workflow_id']} waits for {row['target']}, which would not be in the file.",
                hint="Export the run that started both, or wait until that has ended.",
            )

    async def _header(
        self,
        connection: tables.Connection,
        workflow_id: str,
        runs: run_files.Tree,
        *,
        moved: bool,
    ) -> ExportHeader:
        migration, of_dbos = await run_files.schema_of(connection)
        [head] = await tables.fetch(connection, "run_heads", workflow_ids=[workflow_id])
        return ExportHeader(
            format=run_files.FORMAT,
            workflow_id=workflow_id,
            name=head["name"],
            created_at=head["created_at"],
            runs=len(runs.workflow_ids),
            moved=moved,
            release=installed_version("durable-workflows"),
            migration=migration,
            dbos_migration=of_dbos,
            project=state.identity(self._rows.settings),
            exported_at=datetime.now(UTC),
        )

    async def load(self, path: Path) -> Imported:
        """As `Engine.import_run`."""
        await self._rows.lasting()
        contents = run_files.look(path)
        async with self._rows.connected() as connection:
            new = await run_files.load(connection, path, self._progress)
        head = await self._rows.head(contents.header.workflow_id)
        return Imported(
            workflow_id=contents.header.workflow_id,
            existing=not new,
            status=head["status"],
            runs=len(contents.runs),
            unfinished=len(contents.unfinished),
            rows=contents.rows,
        )


def _unknown(
    workflow_id: str, writer: archives.Writer, error: DatabaseUnavailable
) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"It is not known whether {workflow_id} was cancelled: {error.message}",
        hint=f"Look with `durable-workflows inspect {workflow_id}`. If it is cancelled, {writer.part} is its whole export; otherwise remove that file and export again.",
    )
