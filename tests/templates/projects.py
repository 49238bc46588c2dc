"""Projects with templates in their workflow folder, and what a test asks of their runs."""

import json
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from durable_workflows import content
from durable_workflows.code import writing
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import Ended, StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import processes_of, until_found

STEMS = sorted(path.stem for path in content.folder("templates").glob("*.py"))
WITH_LIBRARIES = ["openai_sdk_agent", "pydantic_ai_agent"]  # that are not installed here
ALONE = [stem for stem in STEMS if stem not in WITH_LIBRARIES]
_MODEL = ("AGENT_COMMAND", "AGENT_MODEL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL")


def new_folder(factory: pytest.TempPathFactory) -> Path:
    """An empty project directory."""
    folder = (factory.mktemp("templates") / "project").resolve()
    folder.mkdir()
    return folder


def copy_template(template: str, project: Path, name: str = "") -> None:
    """Put a template into a project, under its own name or another one."""
    settings = Settings(project=project)
    name = name or template
    writing.write_workflow(settings, name, writing.from_template(settings, template, name))


@dataclass(frozen=True)
class Running:
    """A project whose processes run."""

    folder: Path
    engine: Engine

    async def start(self, workflow: str, **args: Any) -> str:
        return (await self.engine.start(StartRequest(name=workflow, args=args))).workflow_id

    async def ended(self, workflow_id: str) -> Ended:
        """How a run has ended; it must within a minute."""

        async def look() -> Ended | None:  # a run that waits for a message is an end for `wait`
            result = await self.engine.reader.wait([workflow_id], timeout_seconds=5)
            return next(iter(result.done), None)

        return await until_found(look, f"{workflow_id} has ended", seconds=60)

    async def output(self, workflow_id: str) -> Any:
        """The result of a run, which must succeed."""
        done = await self.ended(workflow_id)
        assert done.status == "SUCCESS", done.error
        return done.output

    async def run(self, workflow: str, **args: Any) -> Any:
        """The result of a new run, which must succeed."""
        return await self.output(await self.start(workflow, **args))

    async def waits(self, workflow_id: str) -> str | None:
        """The prompt with which a run waits, as soon as it does."""

        async def look() -> str | None:
            return next(
                (w.prompt for w in (await self.engine.reader.run(workflow_id)).waiting), None
            )

        return await until_found(look, f"{workflow_id} waits")

    async def step_outputs(self, workflow_id: str) -> list[tuple[str, Any]]:
        """Name and output of each finished step; an output of more than 20,000 characters is too long for this."""
        run = await self.engine.reader.run(workflow_id, preview=20_000)
        return [(s.name, json.loads(s.output.text) if s.output else None) for s in run.steps]

    def events(self, workflow_id: str, key: str) -> list[Any]:
        """All values that an event of a run has had, in their order."""
        statement = "select value from dbos.workflow_events_history where workflow_uuid = %s and key = %s order by function_id"
        return [json.loads(value) for (value,) in self.query(statement, workflow_id, key)]

    def query(self, statement: str, *values: object) -> list[Any]:
        with psycopg.connect(self.engine.connection.url) as connection:
            return connection.execute(statement.encode(), values).fetchall()


@asynccontextmanager
async def running(folder: Path, environment: Mapping[str, str]) -> AsyncGenerator[Running]:
    """Run the project; its workers see these variables, and none that would choose another model."""
    project = Project(Settings(project=folder))
    try:
        with pytest.MonkeyPatch.context() as changed:
            for name in _MODEL:
                changed.delenv(name, raising=False)
            for name, value in environment.items():
                changed.setenv(name, value)
            engine = await project.engine()
        yield Running(folder, engine)
    finally:
        await project.aclose()
        await lifecycle.shut_down(project.settings)
    left = processes_of(folder)
    assert not left, f"left behind: {left}"


class Site(ThreadingHTTPServer):
    """A web site on the loopback interface. Each GET is noted, and answered by what `pages` has for the path.

    A page is a text, a status, or an iterator of both: one for each request.
    """

    daemon_threads = True

    def __init__(self, pages: Mapping[str, str | int | Iterator[str | int]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = pages
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def answer(self, path: str) -> str | int:
        self.asked.append(path)
        page = self.pages[path]
        return page if isinstance(page, str | int) else next(page)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Site)
        answer = self.server.answer(self.path)
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        self.wfile.write(b"" if isinstance(answer, int) else answer.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: what was asked is in `Site.asked`."""


@contextmanager
def site(**pages: str | int | Iterator[str | int]) -> Generator[Site]:
    """A web site with these pages, for as long as the block lasts."""
    with Site({f"/{name}": page for name, page in pages.items()}) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
