"""Several directories that run one project: each has a supervisor, a worker, and an engine as a server has it."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psycopg

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from external.machines import identity, workers
from helpers import copy_flow, until_found


@asynccontextmanager
async def directories(
    count: int, root: Path, url: str, *, concurrency: int = 500
) -> AsyncGenerator[list[Engine]]:
    """The engines of that many directories, when the worker of each is ready; all is ended afterwards."""
    projects: list[Project] = []
    for number in range(count):
        folder = root / f"machine-{number}"
        folder.mkdir(parents=True)
        copy_flow("wide", folder)
        settings = Settings(
            project=folder, database_url=url, application="project", concurrency=concurrency
        )
        projects.append(Project(settings))
    try:
        engines = [await project.engine() for project in projects]
        for engine in engines:
            await engine.catalog()
        await _until_ready(engines, projects)
        yield engines
    finally:
        with anyio.CancelScope(shield=True):
            for project in projects:
                await project.aclose()
                await lifecycle.shut_down(project.settings)


async def _until_ready(engines: list[Engine], projects: list[Project]) -> None:
    async def all_are_there() -> bool:
        return {identity(one.settings.project) for one in projects} <= await workers(
            engines[0].connection
        )

    await until_found(all_are_there, "each directory has its worker", seconds=90)


def connections(url: str) -> Counter[str]:
    """The connections to the database by what they are for. Those of workflow code and of strangers have names of their own."""
    with psycopg.connect(url, autocommit=True, application_name="the test") as connection:
        rows = connection.execute(
            "select application_name, count(*) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() group by 1"
        ).fetchall()
    return Counter({name.removeprefix("durable-workflows "): count for name, count in rows})


class Most:
    """The largest number of connections seen; those of a test itself do not count in `at_once`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.seen: Counter[str] = Counter()
        self.at_once = 0

    async def watch(self) -> None:
        """Look ten times a second, forever."""
        while True:
            now = await anyio.to_thread.run_sync(connections, self._url)
            self.seen |= now
            self.at_once = max(self.at_once, now.total() - now["test"])
            await anyio.sleep(0.1)
