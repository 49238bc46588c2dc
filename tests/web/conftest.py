"""A browser on the page of a real project, which a real server serves."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, StartRequest
from durable_workflows.processes import http_access
from durable_workflows.settings import Settings
from durable_workflows.web import access, building
from helpers import running_project, until_found
from npm_packages import installed
from transports import Served, serving
from visiting import Visitor, visiting
from web.browser import NARROW, WIDE, Browser, Page, Theme, running_browser

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser(await installed(HERE)) as browser:
        yield browser


@dataclass(frozen=True)
class Site:
    """The page of a project with all of `flows/`, for tests that change nothing but runs of their own."""

    engine: Engine
    served: Served

    @property
    def root(self) -> str:
        return f"http://{urlsplit(self.served.url).netloc}/"

    def link(self) -> str:
        """A link that lets a browser in, once."""
        return access.link(http_access.token(self.served.settings), self.served.url)

    def at(self, path: str) -> str:
        """The address of a view."""
        return f"{self.root}#/{path}"

    def run(self, workflow_id: str, query: str = "") -> str:
        """The address of a run."""
        return f"{self.root}#/run/{quote(workflow_id, safe='')}{query}"

    async def start(self, name: str, workflow_id: str, **args: JsonValue) -> str:
        """Start a run; return its workflow_id."""
        request = StartRequest(name=name, args=args, workflow_id=workflow_id)
        return (await self.engine.start(request)).workflow_id

    async def ended(self, name: str, workflow_id: str, **args: JsonValue) -> str:
        """A run that has ended."""
        await self.start(name, workflow_id, **args)
        await self.engine.reader.wait([workflow_id], timeout_seconds=150.0)
        return workflow_id

    async def output(self, workflow_id: str) -> JsonValue:
        """The output of a run, when it has ended; until then it may wait for what the page sends."""

        async def ended() -> list[Ended]:
            return (await self.engine.reader.wait([workflow_id])).done

        return (await until_found(ended, f"{workflow_id} has ended"))[0].output

    async def waits(self, name: str, workflow_id: str, **args: JsonValue) -> str:
        """A run that waits for a message."""
        await self.start(name, workflow_id, **args)

        async def found() -> object:
            return await self.engine.reader.waits(workflow_id)

        await until_found(found, f"{workflow_id} waits")
        return workflow_id


@pytest.fixture(scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    settings = Settings(project=(tmp_path_factory.mktemp("page") / "shop").resolve())
    await building.page(settings)  # which takes its time where it is not built yet
    async with running_project(settings, []) as engine:
        shutil.copytree(HERE / "flows", settings.project / "workflows")
        with serving(settings) as served:
            yield Site(engine, served)


@pytest.fixture(scope="module")
async def served(shared: Engine) -> AsyncIterator[Served]:
    """A server of the shared project."""
    with serving(Settings(project=shared.project)) as served:
        yield served


@pytest.fixture
async def visitor(served: Served) -> AsyncIterator[Visitor]:
    """Requests of a browser with access to that server: for tests that need no page."""
    async with visiting(served) as visitor:
        yield visitor


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page of its own, let in."""
    async with browser.page() as page:
        await page.goto(site.link())
        yield page


LOOKS: tuple[tuple[Theme, tuple[int, int]], ...] = (
    ("light", WIDE),
    ("dark", WIDE),
    ("light", NARROW),
    ("dark", NARROW),
)


async def check_looks(page: Page, name: str) -> None:
    """Check a page in both themes and widths: axe finds nothing, and nothing is wider than the window. Pictures are kept."""
    for theme, size in LOOKS:
        await page.resize(size)
        await page.theme(theme)
        await page.screenshot(f"{name}-{theme}-{size[0]}")
        assert await page.findings() == [], f"{name}, {theme}, {size}"
        await page.fits()
