"""A process that rehearses recorded runs: it imports the files of a version, and calls the runs' workflows with what is recorded.

Nothing is executed: no step begins, nothing is written. For each run it prints a line of JSON, a `Rehearsal`, in the order asked for.
It ends after the first run whose code does not come to an end.
"""

import argparse
import asyncio
import contextlib
import copy
import faulthandler
import functools
import json
import os
import random
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, TextIO

from durable_workflows.code import catalog, copies, environments
from durable_workflows.database import tables
from durable_workflows.errors import DatabaseUnavailable
from durable_workflows.host import conditions, earlier, loading
from durable_workflows.host.importing import isolated
from durable_workflows.models import Connection, Rehearsal
from durable_workflows.schemas.signatures import Signature
from durable_workflows.seam import datasources, dbos_calls
from durable_workflows.seam.datasources import Datasources
from durable_workflows.seam.own_classes import OwnClasses
from durable_workflows.seam.patches import (
    recording,
    registering,
    typed_arguments,
)
from durable_workflows.seam.records import Awaited, Record, Step, Verdict
from durable_workflows.seam.rehearsed import Stage, status_of
from durable_workflows.settings import APPLICATION, Settings
from durable_workflows.system import processes, state

_FINISHED = ("SUCCESS", "ERROR")
_IMPORT_SECONDS = 60.0
_REST_SECONDS = 10.0  # for what is not the code of a run


@dataclass(frozen=True)
class Asked:
    """What the process is asked for."""

    settings: Settings
    version: str
    workflow_ids: Sequence[str]
    folder: Path  # for the code, to be made
    seconds: float  # for each run
    times: int = 1  # each run is rehearsed
    seed: int | None = None  # of random numbers


class Recorded:
    """A run with its record."""

    def __init__(
        self, row: tables.Row, steps: Sequence[tables.Row], awaited: Sequence[tables.Row]
    ) -> None:
        self.name: str = row["name"]
        self.status = status_of(row)
        outcome = row["status"] if row["status"] in _FINISHED else None
        recorded = {step.pop("step"): Step(**step) for step in steps}
        waits = [Awaited(**one) for one in awaited]
        self._record = Record(row["workflow_uuid"], recorded, waits, outcome)

    def record(self) -> Record:
        """The record, of which nothing is replayed yet."""
        record = self._record
        return Record(record.workflow_id, record.steps, record.awaited, record.outcome)


class Rehearsing:
    """The rehearsal of runs on one version's code."""

    def __init__(self, asked: Asked, faults: Mapping[str, str] | None) -> None:
        self._asked = asked
        self._faults = faults
        connection = state.read_connection(asked.settings)
        if connection is None:
            raise DatabaseUnavailable("The supervisor of the project is gone.")
        self._connection: Connection = connection
        self._classes = OwnClasses()
        self._errors: dict[str, str] = {}  # of names whose file does not load

    def results(self) -> Iterator[Rehearsal]:
        """What the runs do, one after the other."""
        files, runs = asyncio.run(self._read())
        faults = self._move_in(files)
        _limit(_IMPORT_SECONDS)
        stage = self._prepare_dbos(is_current=catalog.version_of(files) == self._asked.version)
        self._load(files, faults)
        self._classes.note_loaded()
        stage.open()
        conditions.forbid_effects(self._refuse)
        for workflow_id in self._asked.workflow_ids:
            _limit(self._asked.seconds * self._asked.times + _REST_SECONDS)
            yield self._rehearsed(stage, workflow_id, runs.get(workflow_id))

    async def _read(self) -> tuple[dict[str, bytes], dict[str, Recorded]]:
        async with await tables.connect(self._connection.database, role="rehearsal") as connection:
            fetch = functools.partial(tables.fetch, connection)
            rows = await fetch("version_files", version=self._asked.version)
            files = {row["path"]: bytes(row["content"]) for row in rows}
            found = await fetch("runs_to_rehearse", workflow_ids=list(self._asked.workflow_ids))
            runs: dict[str, Recorded] = {}
            for row in found:
                about = {"workflow_id": row["workflow_uuid"]}
                steps = await fetch("steps_to_rehearse", **about)
                awaited = await fetch("waits_to_rehearse", **about)
                runs[row["workflow_uuid"]] = Recorded(row, steps, awaited)
        return files, runs

    def _move_in(self, files: Mapping[str, bytes]) -> Mapping[str, str]:
        """As a worker: continue in the environment that the files need."""
        if self._faults is not None:
            return self._faults
        prepared = environments.prepare(self._asked.settings, files, lambda _line: None)
        if prepared.python != Path(sys.executable):
            again = [str(prepared.python), *sys.orig_argv[1:]]
            faults = json.dumps(dict(prepared.errors))
            processes.become([*again, "--faults", faults], prepared.environment, [])
        return prepared.errors

    def _prepare_dbos(self, *, is_current: bool) -> Stage:
        serializer = recording.install(self._classes, is_current=is_current)
        datasources.offer.make(Datasources(self._connection.database, serializer))
        stage = Stage(APPLICATION, self._asked.version, serializer)
        registering.run_methods_by_name()
        if is_current:
            typed_arguments.convert_arguments(Signature)
        return stage

    def _load(self, files: Mapping[str, bytes], faults: Mapping[str, str]) -> None:
        earlier.offer()
        folder = self._asked.folder
        copies.write(files, folder)
        self._classes.look_in([*{folder / PurePosixPath(path).parts[0] for path in files}])
        names = loading.Names(folder, dbos_calls.unregister)
        registering.before_registering(names.claim)
        project = self._asked.settings.project
        for loaded in loading.load(files, folder, faults, names, _around, project):
            if loaded.error is not None:
                self._errors |= dict.fromkeys(loaded.names, f"{loaded.path}: {loaded.error}")

    def _rehearsed(self, stage: Stage, workflow_id: str, run: Recorded | None) -> Rehearsal:
        if run is None:
            return _unknown(workflow_id, "", "The run has gone.")
        if run.name in self._errors:
            note = f"Its file does not load: {self._errors[run.name]}"
            return _unknown(workflow_id, run.name, note)
        if run.name not in dbos_calls.registered_workflows():
            return _unknown(workflow_id, run.name, f"The code has no workflow {run.name!r}.")
        verdict = self._played(stage, run)
        about = {"workflow_id": workflow_id, "name": run.name, "steps": self._record.replayed}
        return Rehearsal.model_validate({**about, **asdict(verdict)})

    def _played(self, stage: Stage, run: Recorded) -> Verdict:
        """The first verdict that is not safe, if there is one."""
        verdict = Verdict("safe")
        for number in range(self._asked.times):
            if self._asked.seed is not None:
                random.seed(self._asked.seed + number)
            self._record = run.record()
            verdict = stage.play(copy.deepcopy(run.status), self._record, self._asked.seconds)
            if verdict.verdict != "safe":
                break
        return verdict

    def _refuse(self, problem: str) -> NoReturn:
        self._record.refuse(problem)


@contextlib.contextmanager
def _around(_path: str) -> Generator[None]:
    with isolated():
        yield


def _limit(seconds: float) -> None:
    """End this process after so many seconds, whatever its code does, even if the process that started it is gone."""
    faulthandler.dump_traceback_later(seconds, exit=True)


def _unknown(workflow_id: str, name: str, note: str) -> Rehearsal:
    return Rehearsal(workflow_id=workflow_id, name=name, verdict="unknown", note=note)


def _own_output() -> TextIO:
    """The standard output for the results alone; what workflow code prints is dropped."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return output


def main() -> None:
    """The process's entry: `python -m durable_workflows.entry durable_workflows.host.rehearsal --project DIR --version V --runs JSON --folder DIR`."""
    parser = argparse.ArgumentParser(prog="rehearsal")
    parser.add_argument("--project", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--runs", required=True, type=json.loads, help="workflow_ids")
    parser.add_argument("--folder", required=True, type=Path, help="for the code, to be made")
    parser.add_argument("--seconds", required=True, type=float, help="for each run")
    parser.add_argument("--times", type=int, default=1, help="that each run is rehearsed")
    parser.add_argument("--seed", type=int, help="of random numbers")
    parser.add_argument("--clock", type=float, default=0.0, help="seconds by which it is wrong")
    parser.add_argument("--faults", type=json.loads, help="in an environment made before")
    given = parser.parse_args()
    sys.dont_write_bytecode = True
    asked = Asked(
        Settings(project=given.project),
        given.version,
        given.runs,
        given.folder,
        given.seconds,
        given.times,
        given.seed,
    )
    output = _own_output()
    conditions.shift_clock(given.clock)
    with contextlib.suppress(TimeoutError):
        for result in Rehearsing(asked, given.faults).results():
            output.write(f"{result.model_dump_json()}\n")
            output.flush()
    os._exit(0)  # threads of the runs may wait for long
