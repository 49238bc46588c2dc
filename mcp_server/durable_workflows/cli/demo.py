"""The demo: an agent's session, played by a real MCP client with a real server, on a real directory.

It has a project of its own in a temporary folder; the directory is only read. Whatever happens, no process remains. Each event is a
line; an event that does not come within `_DEADLINE_SECONDS` fails the demo.
"""

import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import psutil
from mcp.client.stdio import stdio_client
from mcp.types import TextContent
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from durable_workflows import fitting, wording
from durable_workflows.cli import printing
from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.models import (
    Catalog,
    Ended,
    Forked,
    RunList,
    ServerStatus,
    Started,
    WaitResult,
    WorkerInfo,
)
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system import places, processes
from mcp import Client, MCPError, StdioServerParameters

_DEADLINE_SECONDS = 90.0  # for each event; a slow machine takes its time to start a worker
_POLL_SECONDS = 0.02
_WORKFLOWS = Path(__file__).with_name("demo_workflow.py")
_TOPIC = "approval"  # the topic of demo_workflow.py
_FORK_STEP = 3

Step = tuple[str, str]  # workflow_id, number


class DemoFailed(Exception):
    """A promised event did not come."""


async def play(settings: Settings, directory: Path, keep: bool) -> bool:
    """Play the demo on a directory; return whether all events came. With `keep` the demo's project stays.

    After a failure it stays as well: its logs say more.
    """
    folder = _new_folder()
    own = settings.model_copy(update={"project": folder, "workflows": Path("workflows")})
    stage = _Stage()
    passed = False
    try:
        await _play(_Demo(own, _something_in(directory), stage))
        passed = True
    except* _FAILURES as group:
        stage.failed(_first(group))
    finally:
        with anyio.CancelScope(shield=True):
            passed = await _clean_up(own, stage) and passed
    if passed and not keep:
        shutil.rmtree(folder)
    else:
        stage.say(f"The demo's project: {folder}")
    return passed


_FAILURES = (DemoFailed, DurableWorkflowsError, MCPError, OSError, TimeoutError, ValidationError)


class _Stage:
    """The place of the events: a line each, with the time since the beginning."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        self._console.print(Text(fitting.shown(text)), soft_wrap=True)

    def event(self, text: str) -> None:
        self._line("✓", "green", text)

    def failed(self, error: BaseException) -> None:
        self._line("✗", "red", str(error) or f"It took more than {_DEADLINE_SECONDS:.0f} seconds.")

    def working(self, text: str) -> Any:
        """Show, on a terminal, that work is in progress."""
        return self._console.status(text) if self._console.is_terminal else nullcontext()

    def _line(self, mark: str, style: str, text: str) -> None:
        seconds = time.monotonic() - self._began
        line = Text.assemble((mark, style), (f" {seconds:5.1f} s  ", "dim"), text)
        self._console.print(line, soft_wrap=True)


@dataclass
class _Demo:
    """The parts shared by the acts of the demo."""

    settings: Settings
    directory: Path
    stage: _Stage
    client: Client = field(init=False)

    @property
    def effects(self) -> Path:
        return self.settings.project / "effects.txt"

    def steps_begun(self) -> list[Step]:
        """The steps that have begun, in order; a step that ran twice appears twice."""
        if not self.effects.exists():
            return []
        lines = self.effects.read_text(encoding="utf-8").splitlines()
        return [(one, step) for one, _, step in (line.partition(" ") for line in lines)]

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Call a tool; return its result."""
        with anyio.fail_after(_DEADLINE_SECONDS):
            result = await self.client.call_tool(tool, arguments)
        text = "\n".join(one.text for one in result.content if isinstance(one, TextContent))
        if result.is_error:
            raise DemoFailed(f"{tool} failed: {text}")
        return result.structured_content or {"result": text}

    async def wait(self, *workflow_ids: str) -> WaitResult:
        """Wait until the runs have ended or wait for a message."""
        with anyio.fail_after(_DEADLINE_SECONDS):
            while True:
                found = await self.call(
                    "wait_for_workflows", workflow_ids=workflow_ids, timeout_seconds=20
                )
                result = WaitResult.model_validate(found)
                if not result.timed_out:
                    return result

    async def ended(self, workflow_id: str) -> Ended:
        """Wait until a run has ended, and check its end."""
        result = await self.wait(workflow_id)
        if not result.done or result.done[0].status != "SUCCESS":
            raise DemoFailed(f"{workflow_id} did not succeed: {result.model_dump_json()}")
        return result.done[0]

    async def worker(self) -> WorkerInfo:
        """The worker of the newest version, when it exists."""
        with anyio.fail_after(_DEADLINE_SECONDS):
            while True:
                status = ServerStatus.model_validate(await self.call("server_status"))
                ours = [one for one in status.workers if one.version == status.version]
                if ours and processes.is_ours(ours[0].pid, "worker", str(self.settings.project)):
                    return ours[0]
                await anyio.sleep(_POLL_SECONDS)


async def _play(demo: _Demo) -> None:
    demo.stage.say(f"Durable workflows read {demo.directory}")
    await _prepare(demo)
    settings = demo.settings
    server = StdioServerParameters(
        command=processes.python("")[0],
        args=["-P", "-m", "durable_workflows", "serve", "--project", str(settings.project)],
        env=processes.without_marker(settings.as_environment()),
        cwd=settings.project,
    )
    with places.log_file(settings, "serve").open("a", encoding="utf-8") as log:
        async with Client(stdio_client(server, errlog=log)) as demo.client:
            await _look_around(demo)
            survey = await _start(demo)
            await _kill_worker(demo)
            await _see_the_rest(demo, survey)
            await _approve(demo, survey)
            await _fork(demo, survey)
            demo.stage.event("inspect: what the run recorded")
            trace = await demo.call("inspect", workflow_id=survey)
            printing.print_trace(trace["result"])


async def _prepare(demo: _Demo) -> None:
    """Write the workflow file, and start the database and the supervisor: the slow part of a first start."""
    folder = demo.settings.workflow_folder
    folder.mkdir()
    shutil.copy(_WORKFLOWS, folder / "survey.py")
    with demo.stage.working("Starting the database") as line:

        def progress(text: str) -> None:
            if line is None:
                demo.stage.say(f"           {text}")
            else:
                line.update(Text(text))

        connection = await lifecycle.ensure_running(demo.settings, progress)
    demo.stage.event(f"The supervisor and the {connection.mode} Postgres are running.")


async def _look_around(demo: _Demo) -> None:
    tools = await demo.client.list_tools()
    demo.stage.event(
        f"An MCP client is connected on stdio; the server has {len(tools.tools)} tools."
    )
    catalog = Catalog.model_validate(await demo.call("workflow_catalog"))
    names = [entry.name for entry in catalog.workflows]
    _check("survey" in names, f"The catalog does not name survey: {names}")
    demo.stage.event(f"workflow_catalog: {', '.join(names)}")


async def _start(demo: _Demo) -> str:
    args = {"directory": str(demo.directory), "effects": str(demo.effects)}
    found = await demo.call("start_workflow", name="survey", args=args)
    survey = Started.model_validate(found).workflow_id
    demo.stage.event(f"start_workflow: survey runs as {survey}")
    with anyio.fail_after(_DEADLINE_SECONDS):
        while len(_children(demo, survey)) < 3:
            found = await demo.call(
                "wait_for_workflows", workflow_ids=[survey], timeout_seconds=0.1
            )
            done = WaitResult.model_validate(found).done
            _check(not done, f"survey has ended early: {done}")
    demo.stage.event("survey started 3 sub-workflows, one for each part of the directory.")
    return survey


async def _kill_worker(demo: _Demo) -> None:
    """Kill the worker just after a step began, when each sub-workflow has finished one."""
    worker = await demo.worker()

    def far_enough() -> bool:
        begun = Counter(one for one, _ in demo.steps_begun())
        return sum(number >= 2 for number in begun.values()) >= 3

    await _until(far_enough)
    begun = len(demo.steps_begun())
    await _until(lambda: len(demo.steps_begun()) > begun)
    os.kill(worker.pid, signal.SIGKILL)
    await _until(lambda: not processes.is_alive(worker.pid))
    demo.stage.event(f"SIGKILL to the worker, process {worker.pid}, in the middle of its steps.")


async def _see_the_rest(demo: _Demo, survey: str) -> None:
    """All runs end, and no finished step ran again."""
    killed = (
        demo.steps_begun()
    )  # the killed worker writes no more, and the next needs a second to start
    in_flight = {
        (one, step) for one, step in dict(killed).items() if one != survey
    }  # their last steps
    finished = set(killed) - in_flight
    result = await demo.wait(survey)
    _check(bool(result.waiting), f"survey should wait for a message: {result.model_dump_json()}")
    worker = await demo.worker()
    demo.stage.event(f"Another worker, process {worker.pid}, took over automatically.")
    runs = RunList.model_validate(await demo.call("list_workflows", name="measure"))
    ended = [run.workflow_id for run in runs.workflows if run.status == "SUCCESS"]
    _check(len(ended) == 3, f"Not all of measure succeeded: {runs.model_dump_json()}")
    times = Counter(demo.steps_begun())
    again = sorted(step for step in finished if times[step] != 1)
    _check(not again, f"Finished steps ran again: {again}")
    _check(max(times.values()) <= 2, f"A step ran more than twice: {times}")
    twice = sum(times[step] == 2 for step in in_flight)
    demo.stage.event(
        f"All 3 finished. {wording.counted(len(finished), 'step')} had finished before the kill: none ran again."
        f" {twice} that were in flight ran again."
    )


async def _approve(demo: _Demo, survey: str) -> None:
    waiting = RunList.model_validate(await demo.call("list_workflows", waiting=True))
    topics = {run.workflow_id: run.waiting_on for run in waiting.workflows}
    _check(topics.get(survey) == _TOPIC, f"survey should wait on {_TOPIC}: {topics}")
    demo.stage.event(f"list_workflows: survey waits for a message on the topic {_TOPIC!r}.")
    message = {"approved": True, "by": "the demo"}
    await demo.call("send_message", workflow_id=survey, topic=_TOPIC, message=message)
    output = (await demo.ended(survey)).output
    if not isinstance(output, dict) or output.get("answer") != message:
        raise DemoFailed(f"survey did not get the message: {output}")
    demo.stage.event(f"send_message: survey finished. {_counts(output)}.")


async def _fork(demo: _Demo, survey: str) -> None:
    original = _children(demo, survey)[0]
    found = await demo.call("fork", workflow_id=original, from_step=_FORK_STEP)
    forked = Forked.model_validate(found).workflow_id
    await demo.ended(forked)
    ran = [int(step) for one, step in demo.steps_begun() if one == forked]
    all_steps = {int(step) for one, step in demo.steps_begun() if one == original}
    expected = sorted(step for step in all_steps if step >= _FORK_STEP)
    _check(ran == expected, f"The fork ran the steps {ran}, not {expected}.")
    demo.stage.event(
        f"fork: from step {_FORK_STEP} a new run; it ran steps {expected[0]} to {expected[-1]} and took the others over."
    )


async def _clean_up(settings: Settings, stage: _Stage) -> bool:
    """End everything that the demo started, and check that it is gone."""
    try:
        await lifecycle.shut_down(settings)
        left = await anyio.to_thread.run_sync(_left, settings)
        _check(not left, f"Processes are left: {left}")
    except (DemoFailed, DurableWorkflowsError, OSError) as error:
        stage.failed(error)
        return False
    stage.event("shutdown: no process is left.")
    return True


def _left(settings: Settings) -> list[int]:
    """The processes that have the demo's folder on their command line."""
    folder = str(settings.project)
    lines = psutil.process_iter(["pid", "cmdline"])
    return [one.pid for one in lines if folder in " ".join(one.info["cmdline"] or [])]


def _children(demo: _Demo, survey: str) -> list[str]:
    begun = (one for one, _ in demo.steps_begun())
    return [one for one in dict.fromkeys(begun) if one.startswith(f"{survey}-")]


async def _until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(_DEADLINE_SECONDS):
        while True:
            if fact():
                return
            await anyio.sleep(_POLL_SECONDS)


def _counts(output: Mapping[str, Any]) -> str:
    """The findings of the survey: `3 files, 120 lines, 900 words`."""
    found = (
        wording.counted(output[name], name.removesuffix("s"))
        for name in ("files", "lines", "words")
    )
    return ", ".join(found)


def _check(true: bool, otherwise: str) -> None:
    if not true:
        raise DemoFailed(otherwise)


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="durable-workflows-demo-")).resolve()


def _something_in(directory: Path) -> Path:
    """The directory, or this package's own if it is empty."""
    empty = next(directory.glob("[!.]*"), None) is None
    return _WORKFLOWS.parent if empty else directory.resolve()


def _first(error: BaseException) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        return _first(cast(BaseExceptionGroup[BaseException], error).exceptions[0])
    return error
