"""The pictures of the page in the README: `make screenshots` takes them in Chromium, of the runs of a real project, and a person answers in it."""

import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.processes import http_access, lifecycle
from durable_workflows.settings import Settings
from durable_workflows.web import access, building
from helpers import until_found
from npm_packages import installed
from transports import Served, serving
from web.browser import Page, Theme, running_browser

HERE = Path(__file__).parent
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SIZE = (1200, 740)
SHARPNESS = 2  # pixels of the picture for each of the page
QUALITY = 90  # of 100
MOST_BYTES = 150_000  # of a picture
THEMES: tuple[Theme, ...] = ("light", "dark")
FAILED, ASKS, GOES_ON = "order-1042", "order-1045", "order-1046"
WAIT_SECONDS = 4.0  # so long that the timeline shortens it
ITEMS: Mapping[str, float] = {"Desk lamp": 89.0, "Standing desk": 649.0, "Office chair": 429.0}


def main() -> None:
    """Take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(take_all, Settings(project=Path(folder).resolve() / "shop"))


async def take_all(settings: Settings) -> None:
    await building.page(settings)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(story(settings))
        served = stack.enter_context(serving(settings))
        browser = await stack.enter_async_context(running_browser(await installed(HERE)))
        page = await stack.enter_async_context(browser.page(size=SIZE, sharpness=SHARPNESS))
        await page.goto(access.link(http_access.token(settings), served.url))
        await play(engine, page, served)
        await look(page, served)


@asynccontextmanager
async def story(settings: Settings) -> AsyncGenerator[Engine]:
    """The engine of the shop. Also after an error nothing is left running."""
    shutil.copytree(HERE / "story", settings.project / "workflows")
    project = Project(settings)
    try:
        yield await project.engine()
    finally:
        await project.aclose()
        await lifecycle.shut_down(settings)


async def play(engine: Engine, page: Page, served: Served) -> None:
    """Orders of all kinds: done, failed after a person has agreed, waiting for a person, and under way."""
    done = await start(engine, 1041, "20095", {"Desk lamp": 1})
    failed = await start(engine, 1042, "14109", {"Standing desk": 1, "Office chair": 2})
    await engine.reader.wait([done], timeout_seconds=60)
    await agree(engine, page, served, failed)
    await engine.reader.wait([failed], timeout_seconds=60)
    more = [
        await start(engine, number, "50667", {"Office chair": 1, "Desk lamp": lamps})
        for number, lamps in ((1043, 1), (1044, 2))
    ]
    await engine.reader.wait(more, timeout_seconds=60)
    await waiting(engine, await start(engine, 1045, "80331", {"Standing desk": 2}))
    await start(engine, 1046, "01067", {"Desk lamp": 4, "Office chair": 1})


async def start(engine: Engine, number: int, post_code: str, items: Mapping[str, int]) -> str:
    lines: list[JsonValue] = [
        {"name": name, "amount": amount, "price": ITEMS[name]} for name, amount in items.items()
    ]
    order: JsonValue = {
        "number": number,
        "customer": "Grace" if number % 2 else "Linus",
        "post_code": post_code,
        "items": lines,
    }
    request = StartRequest(name="ship_order", args={"order": order}, workflow_id=f"order-{number}")
    return (await engine.start(request)).workflow_id


async def waiting(engine: Engine, workflow_id: str) -> None:
    """Return when the run asks a person."""

    async def asked() -> object:
        return await engine.reader.waits(workflow_id)

    await until_found(asked, f"{workflow_id} asks a person")


async def agree(engine: Engine, page: Page, served: Served, workflow_id: str) -> None:
    """Answer on the page that the order is shipped, after a moment's thought."""
    await waiting(engine, workflow_id)
    await anyio.sleep(WAIT_SECONDS)
    await page.goto(address(served, f"inbox?run={workflow_id}"))
    await page.click("text=ship it")
    await page.click('role=button[name="Send answer"]')


def address(served: Served, view: str) -> str:
    return f"{served.url.removesuffix('/mcp')}/#/{view}"


async def look(page: Page, served: Served) -> None:
    """Take pictures of the run that failed, the question that is open, and the list of runs."""
    await page.goto("about:blank")  # so that nothing is left of what was seen before
    await page.goto(address(served, f"run/{FAILED}?step=10"))
    await page.click(f'role=button[name="Steps of {FAILED}-parcel-2"]')
    await page.sees_text("weigh")
    await take(page, "run")
    await page.goto(address(served, f"inbox?run={ASKS}"))
    await page.click("text=ship it")
    await take(page, "inbox")
    await page.goto(address(served, "runs"))
    await page.sees_text(GOES_ON)
    await page.see("text=Success >> nth=3")
    await take(page, "runs")


async def take(page: Page, name: str) -> None:
    """A picture of what is seen, in each theme."""
    await page.hover("main h1")  # away from what lights up under the mouse
    for theme in THEMES:
        await page.theme(theme)
        path = PICTURES / f"{name}-{theme}.webp"
        await page.photograph(path, quality=QUALITY)
        size = path.stat().st_size
        assert size <= MOST_BYTES, f"{path} has {size} bytes"
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
