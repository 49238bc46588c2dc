"""Chromium in tests: pages of it, driven by `browser.mjs`, the Node script beside this file.

What a page is asked for is named by a selector of Playwright, such as `role=button[name="Fork"]` or `text=Done`.
"""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from durable_workflows.pglite.node import environment, node
from durable_workflows.settings import Settings

SCREENSHOTS = Path(__file__).with_name("screenshots")  # kept to be looked at; git ignores them
_FAILED = str(SCREENSHOTS / "failed.png")  # the last time that something did not come about
WIDE = (1440, 900)
NARROW = (360, 740)

Theme = Literal["dark", "light"]
State = Literal["visible", "hidden", "attached", "detached"]

_SCRIPT = Path(__file__).with_name("browser.mjs")
_LONGEST = 64 * 1024 * 1024  # of an answer
_SECONDS = 40.0  # for an answer: the script gives up earlier
_IN_PAGE_SECONDS = 10.0


class BrowserError(AssertionError):
    """A request to a page failed."""


class Browser:
    """A running Chromium."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests = process.stdin
        self._answers = BufferedByteReceiveStream(process.stdout)
        self._turn = anyio.Lock()
        self._numbers = count(1)

    async def ask(self, do: str, **arguments: object) -> Any:
        """The script's answer to a request."""
        async with self._turn:
            request = {"id": next(self._numbers), "do": do, **arguments}
            with anyio.fail_after(_SECONDS):
                await self._requests.send(json.dumps(request).encode() + b"\n")
                answer = json.loads(await self._answers.receive_until(b"\n", _LONGEST))
        if "error" in answer:
            raise BrowserError(f"{do} {arguments}: {answer['error']}")
        return answer["result"]

    @asynccontextmanager
    async def page(
        self, *, size: tuple[int, int] = WIDE, theme: Theme = "light", sharpness: float = 1
    ) -> AsyncGenerator["Page"]:
        """A page with cookies of its own. Fails at the end if the page wrote an error, or did what its policy forbids."""
        page = Page(self, next(self._numbers))
        look = {"width": size[0], "height": size[1], "theme": theme, "sharpness": sharpness}
        await self.ask("open", page=page.number, **look)
        try:
            yield page
            wrong = await page.wrong()
            assert not wrong, "\n".join(wrong)
        finally:
            await page.ask("close")


@asynccontextmanager
async def running_browser(modules: Path) -> AsyncGenerator[Browser]:
    """A Chromium of the packages in `modules`; it is gone when the block ends."""
    command = [str(node()), str(_SCRIPT), str(modules)]
    given = environment(Settings(project=_SCRIPT.parent)) | {"HOME": os.environ["HOME"]}
    async with await anyio.open_process(command, env=given, stderr=None) as process:
        try:
            yield Browser(process)
        finally:
            if process.stdin is not None:
                await process.stdin.aclose()  # which ends it
            with anyio.move_on_after(_SECONDS):
                await process.wait()


@dataclass(frozen=True)
class Page:
    """A page of the browser."""

    browser: Browser
    number: int

    async def ask(self, do: str, **arguments: object) -> Any:
        """The script's answer to a request about this page."""
        try:
            return await self.browser.ask(do, page=self.number, **arguments)
        except BrowserError:
            await self.browser.ask("screenshot", page=self.number, path=_FAILED, whole=False)
            raise

    async def goto(self, url: str) -> int | None:
        """Load a page; return the status of the answer, None if only the part after # is another."""
        return await self.ask("goto", url=url)

    async def click(self, at: str) -> None:
        await self.ask("click", at=at)

    async def fill(self, at: str, text: str) -> None:
        await self.ask("fill", at=at, text=text)

    async def choose(self, at: str, text: str) -> None:
        """Choose an entry of a select."""
        await self.ask("choose", at=at, text=text)

    async def press(self, *keys: str) -> None:
        """Press keys, as `j`, `Enter`, `Control+k`."""
        for key in keys:
            await self.ask("press", key=key)

    async def type(self, text: str) -> None:
        """Type where the focus is."""
        await self.ask("type", text=text)

    async def hover(self, at: str) -> None:
        await self.ask("hover", at=at)

    async def see(self, at: str, state: State = "visible") -> None:
        """Wait until it is seen, or until it is not."""
        await self.ask("wait", at=at, state=state)

    async def sees_text(self, text: str) -> None:
        """Wait until a text is seen."""
        await self.see(f"text={text}")

    async def text(self, at: str) -> str:
        return await self.ask("text", at=at)

    async def texts(self, at: str) -> list[str]:
        """The texts of all that the selector names."""
        return await self.ask("texts", at=at)

    async def count(self, at: str) -> int:
        return await self.ask("count", at=at)

    async def value(self, at: str) -> str:
        """The text in a field."""
        return await self.ask("value", at=at)

    async def attribute(self, at: str, name: str) -> str | None:
        return await self.ask("attribute", at=at, name=name)

    async def scroll(self, at: str, by: int) -> None:
        await self.ask("scroll", at=at, by=by)

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return await self.ask("evaluate", script=script)

    async def clipboard(self) -> str:
        return await self.ask("clipboard")

    async def downloaded(self, at: str) -> tuple[str, str]:
        """Name and text of the file that a click brings."""
        found = await self.ask("downloaded", at=at)
        return found["name"], found["text"]

    async def resize(self, size: tuple[int, int]) -> None:
        await self.ask("size", width=size[0], height=size[1])

    async def theme(self, theme: Theme) -> None:
        """Have the system prefer dark or light."""
        await self.ask("theme", theme=theme)

    async def offline(self, *, offline: bool) -> None:
        """Cut the page off from the server, or connect it again."""
        await self.ask("offline", offline=offline)

    async def url(self) -> str:
        return await self.ask("url")

    async def wrong(self) -> list[str]:
        """The errors that the page wrote, and what its policy refused."""
        return await self.ask("wrong")

    async def forgive_failed_requests(self) -> None:
        """From now on, take no note of answers that say no, for a test that provokes them."""
        await self.forgive("Failed to load resource")

    async def forgive(self, text: str) -> None:
        """From now on, take no note of errors that begin so, for a test that provokes them."""
        await self.ask("forgive", text=text)

    async def findings(self) -> list[str]:
        """The problems for people with disabilities that axe finds."""
        return [
            f"{one['rule']}: {one['help']}\n  " + "\n  ".join(one["where"])
            for one in await self.ask("findings")
        ]

    async def screenshot(self, name: str, *, whole: bool = False) -> None:
        """Keep a picture of what is seen, or of the whole page, in `screenshots/`."""
        SCREENSHOTS.mkdir(exist_ok=True)
        await self.ask("screenshot", path=str(SCREENSHOTS / f"{name}.png"), whole=whole)

    async def photograph(self, path: Path, *, quality: int) -> None:
        """Keep a picture of what is seen in a file, as WebP."""
        await self.ask("photograph", path=str(path), quality=quality)

    async def fits(self) -> None:
        """Check that nothing is wider than the window."""
        assert await self.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), "the page scrolls sideways"
