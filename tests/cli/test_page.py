"""`dashboard --web`: a link to the page, of a server that runs or of one of its own."""

import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import httpx2
import pytest

from durable_workflows.processes import http_access
from durable_workflows.settings import Settings
from helpers import until
from transports import serving

from .command import begin, run, succeed

pytestmark = pytest.mark.anyio
LINK = re.compile(r"http://127\.0\.0\.1:\d+/\?code=\S+")
SECONDS = 60


@contextmanager
def dashboard(folder: Path, *more: str, **environment: str) -> Generator[Popen[str]]:
    with begin("dashboard", "--web", *more, folder=folder, **environment) as command:
        try:
            yield command
        finally:
            command.kill()


def link_of(command: Popen[str]) -> str:
    """The link that it prints."""
    assert command.stdout is not None
    line = command.stdout.readline().strip()
    assert LINK.fullmatch(line), line
    return line


async def opens(link: str) -> None:
    """The link leads to the page, once."""
    async with httpx2.AsyncClient(timeout=SECONDS, follow_redirects=True) as http:
        page = await http.get(link)
        assert (page.status_code, str(page.url)) == (200, link.partition("?")[0])
        assert "<script" in page.text
    async with httpx2.AsyncClient(timeout=SECONDS, follow_redirects=True) as other:
        assert (await other.get(link)).status_code == 401


@pytest.mark.long
async def test_without_a_server_it_serves_the_page_itself_until_it_is_interrupted(
    running: Path,
) -> None:
    with dashboard(running, "--no-open") as command:
        link = link_of(command)
        await opens(link)
        assert len(http_access.urls(Settings(project=running))) == 1
        command.send_signal(signal.SIGINT)
        assert command.wait(SECONDS) == 0
        assert command.stderr is not None
        assert "code=" not in command.stderr.read()
    assert not http_access.urls(Settings(project=running))


@pytest.mark.long
async def test_with_a_server_it_prints_a_link_to_that_and_ends(running: Path) -> None:
    with serving(Settings(project=running)) as served:
        links = [
            succeed("dashboard", "--web", "--no-open", folder=running).strip() for _ in range(2)
        ]
        assert {link.partition("/?")[0] for link in links} == {served.url.removesuffix("/mcp")}
        for link in links:  # each its own
            await opens(link)


@pytest.mark.long
async def test_it_opens_the_link_in_the_browser_of_the_user(running: Path, tmp_path: Path) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}.new && mv {seen}.new {seen}\n')
    browser.chmod(0o755)
    with serving(Settings(project=running)):
        printed = succeed("dashboard", "--web", folder=running, BROWSER=str(browser)).strip()
        await until(seen.exists, "the browser was started")
        assert seen.read_text().strip() == printed
    seen.unlink()
    with dashboard(running, BROWSER=str(browser)) as command:
        link = link_of(command)
        await until(seen.exists, "the browser was started")
        assert seen.read_text().strip() == link


@pytest.mark.parametrize("words", [["--no-open"], ["--web", "--watch"], ["--web", "--json"]])
def test_what_does_not_go_together_is_refused(running: Path, words: list[str]) -> None:
    result = run("dashboard", *words, folder=running)
    assert result.status == 2
    assert "--web" in result.errors
