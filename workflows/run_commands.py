"""Shell commands with dependencies between them, as one durable workflow."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Literal, NotRequired, cast

from dbos import DBOS, StepReservation

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
# DBOS itself needs typing_extensions, so it is there wherever a workflow runs.
from typing_extensions import TypedDict

from durable_workflows import authoring

_TIMEOUT_SECONDS = 600.0
_OUTPUT_CHARACTERS = 4000
# One character takes at most four bytes of UTF-8; one more, as the first may be cut in two.
_OUTPUT_BYTES = 4 * (_OUTPUT_CHARACTERS + 1)
_LONGEST_BACKOFF_SECONDS = 60.0
_NAME_CHARACTERS = 100
_NOT_STARTED = 127  # what a shell answers for a command that it does not find


class Command(TypedDict):
    """One command.

    name: unique; the name of its step in the history.
    run: text for `/bin/sh -c`, or a list of texts: a program and its arguments, without a shell.
    needs: names of commands that must have succeeded before this one starts.
    cwd: where it runs, relative to the project directory and inside of it. Default: the project.
    timeout_seconds: the most that one attempt may take. Default 600.
    retries: how often a failed or timed-out command is tried again, after 1, 2, 4, … 60 seconds. Default 0.
    env: variables added to the environment.
    allow_failure: true if its failure neither stops those that need it nor makes `ok` false. Default false.
    """

    name: str
    run: str | list[str]
    needs: NotRequired[list[str]]
    cwd: NotRequired[str]
    timeout_seconds: NotRequired[float]
    retries: NotRequired[int]
    env: NotRequired[dict[str, str]]
    allow_failure: NotRequired[bool]


class Record(TypedDict):
    """The record of a command's step; if there were several attempts, of the last one."""

    exit_code: int
    seconds: float
    output: str
    truncated: bool
    attempts: int
    timed_out: bool


Status = Literal["ok", "failed", "timed_out", "skipped"]


class Outcome(TypedDict):
    """The outcome of a command: its status and, unless it was skipped, the record of its step."""

    status: Status
    because: NotRequired[list[str]]
    allowed: NotRequired[bool]
    exit_code: NotRequired[int]
    seconds: NotRequired[float]
    output: NotRequired[str]
    truncated: NotRequired[bool]
    attempts: NotRequired[int]
    timed_out: NotRequired[bool]


class Report(TypedDict):
    """The result of the workflow."""

    ok: bool
    failed: list[str]
    skipped: list[str]
    commands: dict[str, Outcome]


@DBOS.workflow(name="run_commands")
async def run_commands(commands: list[Command], parallel: int = 4) -> Report:
    """Run shell commands that depend on each other, as parallel as they can: for builds, tests, migrations.

    Args:
        commands: What to run. Each is an object with `name` and `run`, and where wanted `needs`, `cwd`,
            `timeout_seconds`, `retries`, `env`, `allow_failure`, as `Command` describes them.
        parallel: How many commands may run at once.

    Returns:
        `{ok, failed, skipped, commands}`. A failed command is a result, not an error of the workflow,
        which ends as SUCCESS with `ok` false. Commands that need the failed one are skipped; the rest run.
        - `ok`: no command failed, apart from those with `allow_failure`.
        - `failed`: names of commands that failed or timed out, without those with `allow_failure`.
        - `skipped`: names of commands that never started, since a command that they need failed or was skipped.
        - `commands`: for each name `status`, which is "ok", "failed", "timed_out" or "skipped".
          If skipped, `because` names the needs at fault. Otherwise there are `exit_code` (negative: the
          signal that ended it; 127: not found or not started), `seconds`, `output` (the last 4,000
          characters of stdout and stderr together), `truncated` (there was more), `attempts`,
          `timed_out`, and `allowed` (true) for a failure that `allow_failure` permits.

    Raises:
        ValueError: Before anything has started: no commands, a name twice, a need that does not exist,
            needs that form a circle, a `cwd` outside of the project, a field of the wrong shape.

    On a crash: each command is one step. An ended command does not run again; a running command
    is started anew, with all its attempts: at least once, so a command should be safe to repeat.

    A command runs in a process group of its own, with nothing on stdin. At its timeout, and when the
    workflow is cancelled, the whole group gets SIGTERM and five seconds later SIGKILL. After a normal
    end, processes that it left in the background continue; give them an output file of their own, since
    the command's output is no longer read.

    Secrets (values of `.env` and of variables named …KEY, …TOKEN, …PASSWORD; the database's password) are
    removed from `output`.
    """
    _check_arguments(commands, parallel)
    await _check_directories(commands)
    slots = asyncio.Semaphore(parallel)
    tasks: dict[str, asyncio.Task[Outcome]] = {}
    for command in commands:
        # The step ids are drawn here, in the order of the list. If they were drawn as commands start, they would
        # depend on which command ends first, and a replay would find different steps from those it expects.
        step = DBOS.reserve_step()
        turn = _run_in_turn(command, step, tasks, slots)
        tasks[command["name"]] = asyncio.create_task(turn)
    await _all(tasks.values())
    return _report({name: task.result() for name, task in tasks.items()})


# --- Which command runs when


async def _run_in_turn(
    command: Command,
    step: StepReservation,
    tasks: dict[str, asyncio.Task[Outcome]],
    slots: asyncio.Semaphore,
) -> Outcome:
    """Wait for what the command needs and for a free slot, then run it as a step; or skip it."""
    because = [need for need in command.get("needs", []) if _blocks(await tasks[need])]
    if because:
        return {"status": "skipped", "because": because}
    async with slots:
        # Preemptible: a cancelled workflow cancels the coroutine, and that ends the processes.
        record = await step.run_async(
            {"name": command["name"], "preemptible": True}, _run_with_retries, command
        )
    return _judge(record, allow_failure=command.get("allow_failure", False))


async def _all(tasks: Iterable[asyncio.Task[Outcome]]) -> None:
    """Wait for all tasks. If one raises, as on cancellation, end the others first."""
    tasks = list(tasks)
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _blocks(outcome: Outcome) -> bool:
    return outcome["status"] != "ok" and not outcome.get("allowed", False)


def _judge(record: Record, *, allow_failure: bool) -> Outcome:
    status: Status = "failed"
    if record["timed_out"]:
        status = "timed_out"
    elif record["exit_code"] == 0:
        status = "ok"
    outcome: Outcome = {"status": status, **record}
    if status != "ok" and allow_failure:
        outcome["allowed"] = True
    return outcome


def _report(outcomes: dict[str, Outcome]) -> Report:
    blocking = [name for name, outcome in outcomes.items() if _blocks(outcome)]
    skipped = [name for name in blocking if outcomes[name]["status"] == "skipped"]
    failed = [name for name in blocking if name not in skipped]
    return {"ok": not failed, "failed": failed, "skipped": skipped, "commands": outcomes}


# --- One command


async def _run_with_retries(command: Command) -> Record:
    """The body of a step. It raises nothing for a failed command, so the failure is recorded."""
    record = await _attempt(command, 1)
    for number in range(2, command.get("retries", 0) + 2):
        if record["exit_code"] == 0 and not record["timed_out"]:
            break
        await asyncio.sleep(min(2.0 ** (number - 2), _LONGEST_BACKOFF_SECONDS))
        record = await _attempt(command, number)
    return record


async def _attempt(command: Command, number: int) -> Record:
    started = time.monotonic()
    process = _Process()
    try:
        exit_code, timed_out = await _execute(command, process)
    except (OSError, ValueError) as problem:  # ValueError: a NUL character in an argument, say
        process.pipe_data_received(1, f"The command could not be started: {problem}".encode())
        exit_code, timed_out = _NOT_STARTED, False
    return {
        "exit_code": exit_code,
        "seconds": round(time.monotonic() - started, 3),
        "output": process.text(command.get("env", {})),
        "truncated": process.truncated,
        "attempts": number,
        "timed_out": timed_out,
    }


class _Process(authoring.CommandListener):
    """The end of a command's output, in bounded memory."""

    def __init__(self) -> None:
        super().__init__()
        self.truncated = False
        self._kept = bytearray()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > _OUTPUT_BYTES:
            self.truncated = True
            del self._kept[:-_OUTPUT_BYTES]

    def text(self, variables: dict[str, str]) -> str:
        """The last characters as text that JSON and Postgres can store: without NUL and secrets (also of the command's own variables)."""
        text = self._kept.decode("utf-8", errors="replace").replace("\0", "\ufffd")
        text = authoring.redacted(text, more=variables)
        self.truncated = self.truncated or len(text) > _OUTPUT_CHARACTERS
        return text[-_OUTPUT_CHARACTERS:]


async def _execute(command: Command, process: _Process) -> tuple[int, bool]:
    """Run the command to its end or its timeout. Returns its exit code, and whether it timed out."""
    run = command["run"]
    status, in_time = await authoring.run_command(
        ["/bin/sh", "-c", run] if isinstance(run, str) else run,
        process,
        folder=authoring.inside_project(command.get("cwd", ".")),
        environment={**os.environ, **command.get("env", {})},
        seconds=command.get("timeout_seconds", _TIMEOUT_SECONDS),
    )
    return status, not in_time


# --- Are the arguments right?


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_name(value: object) -> bool:
    # Histories name the steps of DBOS itself with this prefix.
    return (
        isinstance(value, str)
        and 0 < len(value) <= _NAME_CHARACTERS
        and value.isprintable()
        and not value.startswith("DBOS.")
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) for item in cast(list[object], value)
    )


def _is_run(value: object) -> bool:
    return _is_text(value) or (_is_texts(value) and value != [])


def _is_variables(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(item, str)
        for key, item in cast(dict[object, object], value).items()
    )


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_duration(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_name, f'a line of 1 to {_NAME_CHARACTERS} characters, not beginning with "DBOS."'),
    "run": (_is_run, "a text for the shell, or a list of texts: a program and its arguments"),
    "needs": (_is_texts, "a list of names"),
    "cwd": (_is_text, "a directory inside of the project, as a text"),
    "timeout_seconds": (_is_duration, "a number above 0"),
    "retries": (_is_count, "a whole number, 0 or more"),
    "env": (_is_variables, "an object whose values are texts"),
    "allow_failure": (lambda value: isinstance(value, bool), "true or false"),
}
_REQUIRED = ("name", "run")


def _check_arguments(commands: object, parallel: object) -> None:
    """Raise a ValueError that names the command and the field if something is wrong.

    It checks only the arguments, which are recorded, so a replay gets the same result.
    """
    if not _is_count(parallel, least=1):
        raise ValueError(f"parallel must be a whole number, 1 or more, not {parallel!r}")
    if not isinstance(commands, list) or not commands:
        raise ValueError("commands must be a list with at least one command")
    given = cast(list[object], commands)
    for position, command in enumerate(given):
        _check_command(f"commands[{position}]", command)
    _check_graph(cast(list[Command], given))


def _check_command(where: str, command: object) -> None:
    if not isinstance(command, dict):
        raise ValueError(f"{where} must be an object with name and run, not {command!r}")
    fields = cast(dict[str, object], command)
    if _is_name(fields.get("name")):
        where = f'{where} "{fields["name"]}"'
    for field in _REQUIRED:
        if field not in fields:
            raise ValueError(f"{where}: {field} is missing")
    for field, value in fields.items():
        if field not in _FIELDS:
            raise ValueError(f"{where}: unknown field {field!r}; known are {', '.join(_FIELDS)}")
        fits, wanted = _FIELDS[field]
        if not fits(value):
            raise ValueError(f"{where}: {field} must be {wanted}, not {value!r}")


def _check_graph(commands: list[Command]) -> None:
    graph: dict[str, list[str]] = {}
    for command in commands:
        if command["name"] in graph:
            raise ValueError(f'two commands have the name "{command["name"]}"')
        graph[command["name"]] = command.get("needs", [])
    for name, needs in graph.items():
        for need in needs:
            if need not in graph:
                raise ValueError(f'"{name}" needs "{need}", and no command has that name')
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # The error lists each command before the commands that need it; people read the list the other way.
        circle = reversed(cast(list[str], error.args[1]))
        raise ValueError(f"commands need each other in a circle: {' → '.join(circle)}") from None


async def _check_directories(commands: list[Command]) -> None:
    """Raise a ValueError if a command would leave the project.

    The target of a symbolic link is a fact of the machine and may change before a replay, so the
    check is a step. A link may also change before its command starts, so the command checks again.
    """
    if any("cwd" in command for command in commands):
        problems = await DBOS.run_step_async(
            {"name": "check_directories"}, _directory_problems, commands
        )
        if problems:
            raise ValueError("; ".join(problems))


def _directory_problems(commands: list[Command]) -> list[str]:
    problems: list[str] = []
    for command in commands:
        try:
            authoring.inside_project(command.get("cwd", "."))
        except (OSError, ValueError) as problem:
            problems.append(f'command "{command["name"]}": {problem}')
    return problems
