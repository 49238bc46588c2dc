"""Runs the examples of the references in one project: each once, then its replay, with the world changed in between.

A replay is a fork from one step after the last: nothing runs, all is returned as recorded.
"""

import functools
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import anyio.to_thread

from documents.blocks import Block, blocks
from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, Run, StartRequest
from helpers import until_found

_SECONDS = 60.0


@dataclass(frozen=True)
class Example:
    """A workflow file, and what its info string says of it."""

    name: str
    block: Block

    @property
    def right(self) -> bool:
        return "run" in self.block.options

    def option(self, name: str) -> str | None:
        return self.block.options.get(name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Played:
    """The outcome of an example: its run, the end of its replay, and its file."""

    run: Run
    ended: Ended
    replay: Ended
    file: str


def examples() -> list[Example]:
    """The examples that run: marked `run=name`, or `wrong=name` where the harm can be shown."""
    found = blocks("python")
    named = [(block.options.get("run") or block.options.get("wrong"), block) for block in found]
    return [Example(name, block) for name, block in named if name]


def write_files(folder: Path) -> None:
    """Make a project of all examples."""
    (folder / "workflows").mkdir(parents=True)
    for example in examples():
        path = folder / "workflows" / f"{example.name}.py"
        path.write_text(example.block.text, encoding="utf-8")
    (folder / "names.txt").write_text("ada bob", encoding="utf-8")


async def play(engine: Engine, folder: Path) -> dict[str, Played]:
    """Run all examples and their replays."""
    async with a_web_server() as url:
        player = _Player(engine, {"$FOLDER": str(folder), "$URL": url})
        found = examples()
        first = await player.run_all(found)
        (folder / "names.txt").write_text("zoe ada bob", encoding="utf-8")
        replayed = await player.replay_all(found, first)
        return {
            one.name: Played(
                run=await engine.reader.run(first[one.name].workflow_id),
                ended=first[one.name],
                replay=replayed[one.name],
                file=_text_of(player.args(one).get("path")),
            )
            for one in found
        }


class _Player:
    def __init__(self, engine: Engine, places: dict[str, str]) -> None:
        self._engine = engine
        self._places = places

    def args(self, example: Example) -> dict[str, Any]:
        text = example.option("args") or "{}"
        for name, value in self._places.items():
            text = text.replace(name, value)
        return json.loads(text)

    async def run_all(self, found: list[Example]) -> dict[str, Ended]:
        ids: dict[str, str] = {}
        for example in found:
            request = StartRequest(name=example.name, args=self.args(example))
            ids[example.name] = (await self._engine.start(request)).workflow_id
            await self._tell(example, ids[example.name])
        return await self._ends(ids)

    async def _tell(self, example: Example, workflow_id: str) -> None:
        """Give the run what its info string says: messages, which wait until they are received, the answer to a callback, or a person's answer."""
        for sent in json.loads(example.option("send") or "[]"):
            await self._engine.send(workflow_id, sent["topic"], sent["message"])
        back = example.option("back")
        if back is not None:
            waits = await until_found(lambda: self._engine.reader.waits(workflow_id), "it waits")
            await self._engine.send(workflow_id, waits[0].topic, json.loads(back))
        answer = example.option("answer")
        if answer is not None:
            waits = await until_found(lambda: self._engine.reader.waits(workflow_id), "it asks")
            await self._engine.answer(waits[0], json.loads(answer), who="reader", how="test")

    async def replay_all(self, found: list[Example], first: dict[str, Ended]) -> dict[str, Ended]:
        ids: dict[str, str] = {}
        for example in found:
            original = await self._engine.reader.run(first[example.name].workflow_id)
            step = int(example.option("fork") or original.total_steps + 1)
            ids[example.name] = (await self._engine.fork(original.workflow_id, step)).workflow_id
        return await self._ends(ids)

    async def _ends(self, ids: dict[str, str]) -> dict[str, Ended]:
        result = await self._engine.reader.wait(list(ids.values()), timeout_seconds=_SECONDS)
        assert not result.timed_out, result
        assert not result.waiting, result.waiting
        ended = {one.workflow_id: one for one in result.done}
        return {name: ended[workflow_id] for name, workflow_id in ids.items()}


def _text_of(path: str | None) -> str:
    return Path(path).read_text(encoding="utf-8") if path else ""


@asynccontextmanager
async def a_web_server() -> AsyncGenerator[str]:
    """Its pages answer with the number of their visit; those called `/flaky…` fail at the first and then answer 3."""
    visits: Counter[str] = Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Pages, visits))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        await anyio.to_thread.run_sync(server.shutdown)
        server.server_close()
        thread.join()


class _Pages(BaseHTTPRequestHandler):
    def __init__(self, visits: Counter[str], *rest: Any) -> None:
        self._visits = visits
        super().__init__(*rest)

    def do_GET(self) -> None:
        self._visits[self.path] += 1
        visit = self._visits[self.path]
        flaky = self.path.startswith("/flaky")
        self.send_response(503 if flaky and visit == 1 else 200)
        self.end_headers()
        self.wfile.write(b"3" if flaky else str(visit).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
