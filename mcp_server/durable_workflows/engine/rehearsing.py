"""Rehearsals: recorded runs are replayed on other code, in processes of their own that execute nothing."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream

from durable_workflows.engine.rows import Rows
from durable_workflows.models import Rehearsal
from durable_workflows.system import processes

REHEARSAL_SECONDS = 30.0  # for the code of one run
_START_SECONDS = 60.0  # for the environment, and the import of the files
_AT_ONCE = 200  # runs in one process, which has all their records in memory
_SHAKES = (
    4  # an order of two words in a set that changes with the hash seed is found in 15 of 16 cases
)
_ROLLS = 5  # in each process, with other random numbers each time
_HOUR = 3600.0
_CLOCKS = (79 * _HOUR, -11 * _HOUR, 4800 * _HOUR)
_ZONES = ("Asia/Kolkata", "America/Los_Angeles", "Pacific/Auckland")
# The environment variables that remain of a bare environment.
_NEEDED = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "DBOS_DATABASE_URL")
_NEEDED_PREFIXES = ("DURABLE_WORKFLOWS_", "UV_", "XDG_", "LC_")


_ENDED = "The process of the rehearsal ended: the code ends it, or its files do."


@dataclass(frozen=True)
class Conditions:
    """The conditions under which runs are rehearsed; `said` in words."""

    said: str = ""
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    elsewhere: bool = False  # in another directory
    bare: bool = False  # only with the environment variables that a process needs


_AS_THEY_ARE = Conditions()


def _changes(number: int) -> list[Conditions]:
    """Single changes, which are other ones for another number."""
    clock, zone = _CLOCKS[number % len(_CLOCKS)], _ZONES[number % len(_ZONES)]
    rolls = ("--times", str(_ROLLS), "--seed", str(_ROLLS * number))
    return [
        Conditions("another clock", arguments=("--clock", str(clock))),
        Conditions("other random numbers", arguments=rolls),
        Conditions("another hash seed", environment={"PYTHONHASHSEED": str(number + 1)}),
        Conditions("another time zone", environment={"TZ": zone}),
        Conditions("another working directory", elsewhere=True),
        Conditions("other environment variables", bare=True),
    ]


def _all_changed(number: int) -> Conditions:
    changes = _changes(number)
    return Conditions(
        "all of these changed: " + ", ".join(one.said for one in changes),
        arguments=[word for one in changes for word in one.arguments],
        environment={key: value for one in changes for key, value in one.environment.items()},
        elsewhere=True,
        bare=True,
    )


class Rehearser:
    """Rehearses runs."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def rehearse(
        self,
        workflow_ids: Sequence[str],
        version: str,
        *,
        shaken: bool = False,
        seconds: float = REHEARSAL_SECONDS,
    ) -> list[Rehearsal]:
        """Replay the recorded steps of runs on the code of a version, whose files are saved; the answers are in the order of the ids.

        The code of each run has that many seconds. `shaken`: several times, each time under other conditions: hash seed, random numbers, clock, time zone, directory, environment.

        Raises:
            UnknownWorkflowId: there is no such run.
            DatabaseUnavailable: the database does not answer.
        """
        await self._rows.heads(workflow_ids)  # raises if there is none of that id
        rehearsing = _Rehearsing(self._rows, version, seconds)
        found = await rehearsing.all(workflow_ids)
        return await rehearsing.shaken(found) if shaken else found

    async def rehearse_last(
        self, names: Sequence[str], version: str, count: int, *, shaken: bool = False
    ) -> list[Rehearsal]:
        """As `rehearse`, of the last so many runs of each of these workflows, in whichever state they are."""
        rows = await self._rows.fetch("last_runs_of", names=list(names), count=count)
        runs = [row["workflow_id"] for row in rows]
        return await self.rehearse(runs, version, shaken=shaken)


class _Rehearsing:
    """Rehearsals on the code of one version."""

    def __init__(self, rows: Rows, version: str, seconds: float) -> None:
        self._rows = rows
        self._version = version
        self._seconds = seconds

    async def shaken(self, found: Sequence[Rehearsal]) -> list[Rehearsal]:
        """Rehearse again what is safe, under other conditions."""
        known = {one.workflow_id: one for one in found}
        first = SystemRandom().randrange(10_000)
        for number in range(first, first + _SHAKES):
            safe = [key for key, one in known.items() if one.verdict == "safe"]
            again = await self.all(safe, _all_changed(number))
            different = {one.workflow_id: one for one in again if one.verdict != "safe"}
            known |= await self._explained(different, number)
        return [known[one.workflow_id] for one in found]

    async def _explained(
        self, different: Mapping[str, Rehearsal], number: int
    ) -> dict[str, Rehearsal]:
        """Find out which of the changes makes the difference. That files do not load without their variables is none."""
        changed = _all_changed(number)
        unknown = [key for key, one in different.items() if one.verdict == "unknown"]
        if unknown:
            changed = replace(changed, bare=False)
        again = {one.workflow_id: one for one in await self.all(unknown, changed)}
        left = {key: one for key, one in {**different, **again}.items() if one.verdict != "safe"}
        explained: dict[str, Rehearsal] = {}
        for change in _changes(number):
            for one in await self.all(list(left), change):
                if one.verdict == "differs":
                    explained[one.workflow_id] = _with_note(one, change)
                    del left[one.workflow_id]
        return explained | {key: _with_note(one, changed) for key, one in left.items()}

    async def all(
        self, workflow_ids: Sequence[str], conditions: Conditions = _AS_THEY_ARE
    ) -> list[Rehearsal]:
        """Rehearse them in as many processes as it takes: a process ends at code that does not."""
        found: list[Rehearsal] = []
        while some := workflow_ids[len(found) : len(found) + _AT_ONCE]:
            made, why = await self._some(some, conditions)
            found += made
            if len(made) < len(some):
                found.append(await self._failed(some[len(made)], why))
        return found

    async def _failed(self, workflow_id: str, why: str) -> Rehearsal:
        head = await self._rows.head(workflow_id)
        return Rehearsal(workflow_id=workflow_id, name=head["name"], verdict="unknown", note=why)

    async def _some(
        self, workflow_ids: Sequence[str], conditions: Conditions
    ) -> tuple[list[Rehearsal], str]:
        """Rehearse in one process. Return what it has found, and why it ended before the rest."""
        settings = self._rows.settings
        with tempfile.TemporaryDirectory(prefix="rehearsal-", ignore_cleanup_errors=True) as place:
            folder = str(Path(place, "code"))
            command = processes.python(
                "host.rehearsal",
                *("--project", str(settings.project), "--version", self._version),
                *("--runs", json.dumps(list(workflow_ids)), "--folder", folder),
                *("--seconds", str(self._seconds), *conditions.arguments),
                interpreter=settings.python,
            )
            process = await anyio.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=place if conditions.elsewhere else settings.project,
                env=self._environment(conditions),
                start_new_session=True,
            )
            try:
                return await self._read(process, len(workflow_ids))
            finally:
                with anyio.CancelScope(shield=True):
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.aclose()

    async def _read(self, process: anyio.abc.Process, expected: int) -> tuple[list[Rehearsal], str]:
        assert process.stdout is not None
        found: list[Rehearsal] = []
        text = ""
        longest = _START_SECONDS + self._seconds * _ROLLS
        with anyio.move_on_after(longest) as scope:
            async for part in TextReceiveStream(process.stdout):
                *lines, text = f"{text}{part}".split("\n")
                found += [Rehearsal.model_validate_json(line) for line in lines]
                scope.deadline = anyio.current_time() + longest
                if len(found) == expected:
                    return found, ""
            if await process.wait() != 0:
                return found, _ENDED
        return found, f"The replay took more than {self._seconds:.0f} s."

    def _environment(self, conditions: Conditions) -> dict[str, str]:
        settings = self._rows.settings
        given = {**settings.dotenv(), **settings.as_environment()}
        if conditions.bare:
            given = {key: value for key, value in given.items() if _is_needed(key)}
        return {**given, **conditions.environment}


def _is_needed(name: str) -> bool:
    return name in _NEEDED or name.startswith(_NEEDED_PREFIXES)


def _with_note(found: Rehearsal, change: Conditions) -> Rehearsal:
    note = f"It is safe as it is, and not with {change.said}. {found.note or ''}".strip()
    return found.model_copy(update={"note": note})
