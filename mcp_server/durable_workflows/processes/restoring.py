"""Puts a backup in the place of the embedded database. What was there is set aside, and never deleted.

The backup is unpacked, opened and read before anything of the project is touched. Then its processes are ended, and two directories are
renamed. If the restore is killed, the project has either the old database or the new one (`state.finish_restore`).
"""

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread
from packaging.version import Version

from durable_workflows import content
from durable_workflows.database import recorded, tables
from durable_workflows.database.recorded import Recorded
from durable_workflows.errors import (
    BackupDamaged,
    BackupTooNew,
    DataDirectoryDamaged,
    DataDirectoryIncompatible,
    NodeFailed,
    PostgresFailed,
    SetupError,
    UsageError,
)
from durable_workflows.models import BackupContents, Restored
from durable_workflows.processes import backing_up, databases, lifecycle
from durable_workflows.settings import Database, Settings
from durable_workflows.system import backups, files, places, state, trees

_MOST_NAMED = 10  # runs

Runs = Mapping[str, Recorded]


@dataclass(frozen=True)
class Chosen:
    """A backup that can be restored, as far as its first lines say."""

    path: Path
    contents: BackupContents

    def is_of(self, settings: Settings) -> bool:
        """Whether it is of this project."""
        return self.contents.identity == state.identity(settings)


def choose(settings: Settings, path: Path) -> Chosen:
    """Look at a backup.

    Raises:
        UsageError: the project has no embedded database, or one of another engine.
        BackupDamaged, BackupTooNew: it cannot be restored.
        ProjectMoved: the runs of this project are somewhere else now.
    """
    backing_up.check_embedded(settings)
    state.check_not_moved(settings)
    contents = backups.look(path)
    if contents.engine != settings.engine:
        raise UsageError(
            f"{path} is a backup of the engine {contents.engine}; the database of this project has the engine {settings.engine}.",
            hint=f"Restore it with DURABLE_WORKFLOWS_ENGINE={contents.engine}.",
        )
    if (
        contents.format > backups.FORMAT
        or contents.schema_version > content.schema_version()
        or Version(contents.package) > Version(content.package_version())
    ):
        raise BackupTooNew(
            f"{path} was made by durable-workflows {contents.package}; this is {content.package_version()}."
        )
    return Chosen(path, contents)


def newest(settings: Settings) -> tuple[list[Chosen], list[str]]:
    """The backups in `.dbos/backups/`, the newest first, and why others cannot be restored.

    Raises:
        UsageError: there is none.
        ProjectMoved: the runs of this project are somewhere else now.
    """
    found: list[Chosen] = []
    wrong: list[str] = []
    for one in backups.kept(settings):
        try:
            found.append(choose(settings, Path(one.file)))
        except (BackupDamaged, BackupTooNew) as error:
            wrong.append(error.message)
    if not found:
        raise UsageError(
            " ".join([f"There is no backup to restore in {places.backups(settings)}.", *wrong]),
            hint="Name a file: durable-workflows restore FILE.",
        )
    return found, wrong


async def restore(
    settings: Settings,
    choice: Sequence[Chosen],
    progress: lifecycle.Progress = lifecycle.no_progress,
) -> Restored:
    """Put the first of these backups that opens, and can be read, in the place of the database. The project's processes are ended.

    Raises:
        BackupDamaged: none does; nothing was changed.
        UsageError: something keeps starting the project.
        SetupError: something must be corrected first.
    """
    await anyio.to_thread.run_sync(state.prepare, settings)
    stamp = backups.stamp(datetime.now(UTC))
    async with backing_up.only_one(settings):
        _clear_up(settings)
        chosen, new, skipped = await _prepared(settings, choice, stamp, progress)
        with await lifecycle.alone(settings, progress):
            progress("Comparing it with the present database")
            old, why = await _present(settings)
            aside = _swap(settings, stamp)
    return _compared(old, new).model_copy(
        update={
            "file": str(chosen.path),
            "at": chosen.contents.at,
            "set_aside": str(aside) if aside else None,
            "skipped": skipped,
            "unknown": why,
        }
    )


def _clear_up(settings: Settings) -> None:
    """Remove what killed restores have left, but for one that only has to be put into its place."""
    begin = places.restored(settings, "").name
    for left in settings.state.glob(f"{begin}*"):
        if not places.set_aside(settings, left.name.removeprefix(begin)).exists():
            shutil.rmtree(left)


async def _prepared(
    settings: Settings, choice: Sequence[Chosen], stamp: str, progress: lifecycle.Progress
) -> tuple[Chosen, Runs, list[str]]:
    """The first backup that is whole, now unpacked beside the database; its runs; and why others were passed over."""
    skipped: list[str] = []
    for number, chosen in enumerate(choice, start=1):
        progress(f"Checking {chosen.path.name}")
        try:
            return chosen, await _unpacked(settings, chosen, stamp), skipped
        except BackupDamaged as error:
            if number == len(choice):
                raise
            skipped.append(error.message)
    raise BackupDamaged  # there was nothing to choose from


async def _unpacked(settings: Settings, chosen: Chosen, stamp: str) -> Runs:
    backups.check_room(settings.state, chosen.contents.bytes)
    try:
        with trees.appearing(places.restored(settings, stamp)) as folder:
            await anyio.to_thread.run_sync(backups.unpack, chosen.path, folder)
            async with databases.opened(settings, folder) as process:
                return await _read(process.url)
    except DataDirectoryIncompatible as error:
        what = f"This release cannot restore {chosen.path}."
        raise DataDirectoryIncompatible(f"{what} {error.message}") from error
    except (DataDirectoryDamaged, NodeFailed, PostgresFailed, tables.Error) as error:
        raise BackupDamaged(f"{chosen.path} does not open: {error}") from error
    except OSError as error:
        raise files.translate(error, settings.state) from error


async def _read(url: str) -> Runs:
    """The runs of a database all of whose rows can be read."""
    async with await tables.connect(Database(url), role="restore") as connection:
        await recorded.read_all(connection)
        return await recorded.runs(connection)


async def _present(settings: Settings) -> tuple[Runs | None, str]:
    """The runs of the database that is about to be replaced; None, and why, if they cannot be read."""
    if not (places.data(settings) / "PG_VERSION").is_file():
        return None, "there is none"
    password = secrets.token_urlsafe()
    try:
        async with (
            databases.running(settings, password=password, port=0) as process,
            await tables.connect(Database(process.url), role="restore") as connection,
        ):
            return await recorded.runs(connection), ""
    except SetupError as error:
        return None, error.message
    except tables.Error as error:
        return None, tables.first_sentence(error)


def _swap(settings: Settings, stamp: str) -> Path | None:
    """Put the restored directory into its place, and return where the old one is."""
    data, aside = places.data(settings), places.set_aside(settings, stamp)
    there = data.exists()
    try:
        if there:
            data.rename(aside)
        places.restored(settings, stamp).rename(data)
        files.sync(settings.state)
        state.note_database(settings)
        state.forget_news(settings)
        places.report(settings).unlink(missing_ok=True)
    except OSError as error:
        raise files.translate(error, settings.state) from error
    return aside if there else None


def _compared(old: Runs | None, new: Runs) -> Restored:
    """What only the old database has."""
    steps = sum(one.steps for one in new.values())
    found = Restored(file="", at=datetime.now(UTC), runs=len(new), steps=steps)
    if old is None:
        return found
    lost = [run for run in old if run not in new]
    both = [run for run in old if run in new]
    return found.model_copy(
        update={
            "lost_runs": len(lost),
            "lost_steps": sum(old[run].steps for run in lost)
            + sum(max(0, old[run].steps - new[run].steps) for run in both),
            "reopened": sum(new[run].unfinished and not old[run].unfinished for run in both),
            "returned": sum(run not in old for run in new),
            "some_lost": lost[:_MOST_NAMED],
        }
    )
