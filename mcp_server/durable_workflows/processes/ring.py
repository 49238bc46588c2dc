"""The automatic backups of the embedded database: one a day, and one before other software opens it. Only the last few are kept.

The supervisor makes them, after a start and while no run is active, if there is such a moment. A backup before an upgrade is only a copied directory at first, which takes
a fraction of a second; it becomes a file later.
"""

import shutil
import time
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path

import anyio.to_thread
from pydantic import ValidationError

from durable_workflows.database import tables
from durable_workflows.errors import DurableWorkflowsError, NoSpaceLeft
from durable_workflows.models import BackupContents
from durable_workflows.processes import backing_up, databases
from durable_workflows.settings import Database, Settings
from durable_workflows.system import backups, files, locks, places

DAILY = "daily"
UPGRADE = "upgrade"
_WHYS = (DAILY, UPGRADE)
_DATA = "pgdata"
_ABOUT = "backup.json"
_OPENED = "opened"  # what had opened the database before the upgrade
_BUSY = timedelta(hours=1)  # for so long a backup waits for a moment without active runs
_AGAIN_SECONDS = 3600.0  # after a failure

_logger = getLogger(__name__)


class Ring:
    """The automatic backups of one project."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._not_before = 0.0
        self._problem = ""

    async def copy_before_upgrade(self) -> None:
        """Copy the data directory if other software has opened it last, before this one does. A failure is told by `look`."""
        data = places.data(self._settings)
        if (
            self._is_off
            or not (data / "PG_VERSION").is_file()
            or self._opened == databases.software(self._settings)
        ):
            return
        if self._is_copied:  # a start after the upgrade has failed, perhaps many have
            return
        try:
            await anyio.to_thread.run_sync(self._copy_now)
        except (DurableWorkflowsError, OSError, locks.LockHeld) as error:
            self._fail(f"There is no backup from before the upgrade: {error}")

    async def look(self, database: Database, *, busy: bool) -> str:
        """Make the backup that is due, and remove the oldest. Return the last problem; empty: there is none."""
        if self._is_off or time.monotonic() < self._not_before:
            return self._problem
        try:
            async with backing_up.only_one(self._settings):
                await anyio.to_thread.run_sync(self._make_files)
                if self._is_due(busy=busy):
                    await self._make(database)
                    self._problem = ""
        except (DurableWorkflowsError, tables.Error, OSError, ValidationError) as error:
            self._fail(str(error))
        return self._problem

    @property
    def _is_off(self) -> bool:
        return self._settings.backups == 0

    @property
    def _opened(self) -> str:
        return files.read_text(places.opened(self._settings))

    @property
    def _is_copied(self) -> bool:
        copies = places.backups(self._settings).glob(f"*-{UPGRADE}")
        return any(files.read_text(copy / _OPENED) == self._opened for copy in copies)

    def _copy_now(self) -> None:
        """Copy the data directory, which no process has open yet. A copy has its own name when it is complete."""
        settings = self._settings
        with (
            locks.held_lock(places.backup_lock(settings)),
            backing_up.staged(settings) as staged,
        ):
            contents = backing_up.offline(settings, staged / _DATA)
            contents = contents.model_copy(update=_versions(self._opened))
            files.write_file(staged / _ABOUT, contents.model_dump_json())
            files.write_file(staged / _OPENED, self._opened)
            staged.rename(places.backups(settings) / f"{backups.stamp(contents.at)}-{UPGRADE}")
        _logger.info("The data directory was copied before the upgrade.")

    def _make_files(self) -> None:
        """Make files of copied directories."""
        for folder in sorted(places.backups(self._settings).glob(f"*-{UPGRADE}")):
            about = files.read_text(folder / _ABOUT)
            contents = BackupContents.model_validate_json(about)
            path = backups.place(self._settings, contents.at, UPGRADE)
            if not path.exists():  # else only the removal was missed
                backups.write(folder / _DATA, contents, path)
            shutil.rmtree(folder)
            self._trim()

    def _is_due(self, *, busy: bool) -> bool:
        settings = self._settings
        last = next(iter(backups.kept(settings, *_WHYS)), None)
        at = last.at if last else _changed_at(places.made(settings))
        wait = timedelta(hours=settings.backup_hours) + (_BUSY if busy else timedelta())
        return abs(datetime.now(UTC) - at) >= wait  # the clock may have been wrong, then

    async def _make(self, database: Database) -> None:
        with backing_up.staged(self._settings) as staged:
            contents, paused = await backing_up.online(self._settings, database, staged / _DATA)
            path = backups.place(self._settings, contents.at, DAILY)
            await anyio.to_thread.run_sync(backups.write, staged / _DATA, contents, path)
        _logger.info("The database was backed up; runs waited %.0f ms.", paused * 1000)
        self._trim()

    def _trim(self) -> None:
        """Remove the oldest automatic backups beyond the number, and beyond the space, that the settings allow."""
        room = self._settings.backup_megabytes * 1_000_000
        for number, one in enumerate(backups.kept(self._settings, *_WHYS)):
            room -= one.bytes
            if number >= self._settings.backups or room < 0:
                Path(one.file).unlink()
            if number == 0 and room < 0:
                raise NoSpaceLeft(
                    f"A backup takes {one.bytes / 1_000_000:,.0f} MB, more than is allowed.",
                    hint="Allow more with --backup-megabytes, or delete old runs (`durable-workflows prune`).",
                )

    def _fail(self, problem: str) -> None:
        _logger.warning("%s", problem)
        self._problem = problem
        self._not_before = time.monotonic() + _AGAIN_SECONDS


def _versions(opened: str) -> dict[str, object]:
    """The versions of the software that had opened the database; it can restore the backup."""
    package, _, rest = opened.partition(" ")
    number = rest.partition(" ")[0]
    if not number.isdecimal():  # a release before this one, or a damaged file
        return {"package": "0", "schema_version": 0}
    return {"package": package, "schema_version": int(number)}


def _changed_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
