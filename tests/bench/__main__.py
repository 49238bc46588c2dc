"""How fast this project is, beside what one would use instead: `make bench`, or `python -m tests.bench [--quick] [--peers]`.

Contenders take turns in short rounds, so that the noise of a shared machine falls on all of them. Prints tables, with the figures of the last
line of `history.jsonl` beside them, and writes `bench.json` into the current directory; a whole one adds a line to that history. All processes are ended, also after Ctrl-C.
"""

import argparse
import dataclasses
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import psutil
from rich.console import Console
from tests import native
from tests.native import Cluster

from . import contenders, measures, report
from .contenders import Contender, Kind, Ours
from .measures import Effort, Samples
from .peers import npm
from .peers.absurd import absurd
from .peers.openworkflow import openworkflow
from .peers.restate import restate

_WIDTH = 180
_INTERRUPTED = 130  # as a shell says it
_HISTORY = Path(__file__).with_name("history.jsonl")

Measure = Callable[[Contender], Awaitable[Samples]]


class Bench:
    """One run of all measurements; `folder` gets all files, and must be empty."""

    def __init__(self, effort: Effort, folder: Path, console: Console, *, peers: bool) -> None:
        self.results = report.Results()
        self.kinds: list[Kind] = []
        self._effort = effort
        self._folder = folder
        self._console = console
        self._peers = peers
        self._running: dict[str, Contender] = {}

    async def run(self) -> None:
        """Start all contenders, measure, end them."""
        async with AsyncExitStack() as stack:
            self.kinds = await self._available(stack)
            for kind in self.kinds:
                self._say(f"starting {kind.title}")
                (self._folder / kind.key).mkdir()
                contender = await stack.enter_async_context(kind.open(self._folder / kind.key))
                self._running[kind.key] = contender
            for number in range(self._effort.rounds):
                await self._round(number)
            await self._idle()
            await self._look()

    async def _available(self, stack: AsyncExitStack) -> list[Kind]:
        programs = native.programs()
        if self._peers:
            assert programs is not None, "the peers need a native Postgres"
            self._say("installing what comes from npm")
            await npm.install()
            return _beside_peers(*(stack.enter_context(native.cluster(programs)) for _ in range(3)))
        kinds = [contenders.embedded(), contenders.rung(), contenders.sqlite()]
        if programs is None:
            self._console.print(
                "There is no native Postgres on this machine: ratios are not known."
            )
            return kinds
        # Each its own server, so that the cost of one is not counted for the other.
        plain, ours = (stack.enter_context(native.cluster(programs)) for _ in range(2))
        return [*kinds, contenders.native(plain), contenders.external(ours)]

    async def _round(self, number: int) -> None:
        turned = number % len(self.kinds)
        order = [*self.kinds[turned:], *self.kinds[:turned]]
        for name, measure in self._measures().items():
            for kind in order:
                self._say(f"round {number + 1} of {self._effort.rounds}: {name}, {kind.title}")
                await measures.warm_up(self._running[kind.key])
                self.results.add(kind.key, await measure(self._running[kind.key]))
        for kind in order:
            self._say(f"round {number + 1}: cold and warm start, {kind.title}")
            folder = self._folder / f"{kind.key}_{number}"
            self.results.add(kind.key, await measures.start_times(kind, folder))
        self._say(f"round {number + 1}: initialize")
        spawned = await measures.initialize(self._ours, self._log, self._effort.spawns)
        self.results.add("ours", spawned)

    def _measures(self) -> dict[str, Measure]:
        effort = self._effort
        log = self._folder / "messages"
        return {
            "steps": lambda contender: measures.one_workflow(contender, effort),
            "parallel steps": lambda contender: measures.many_workflows(contender, effort),
            "starts": lambda contender: measures.starts(contender, effort),
            "batches": lambda contender: measures.batches(contender, effort),
            "first step": lambda contender: measures.first_step(contender, effort),
            "messages": lambda contender: measures.messages(contender, effort, log),
        }

    async def _idle(self) -> None:
        """With a server connected to ours, as in a session; what the work before has left to do, like vacuum, is done by then."""
        self._say("idle")
        async with measures.serving(self._ours, self._log) as server:
            await anyio.sleep(self._effort.settle_seconds)
            groups = {key: one.processes() for key, one in self._running.items()}
            groups["ours"].append(psutil.Process(server.pid))
            self.results.add_idle(await measures.idle(groups, self._effort.idle_seconds))

    async def _look(self) -> None:
        for key, contender in self._running.items():
            if isinstance(contender, Ours):
                self._say(f"replays, many runs, waiting runs: {key}")
                self.results.add(key, await measures.replays(contender))
                await contender.fill(self._effort.filled)
                self.results.add(key, await measures.looks(contender))
                if key == "ours":
                    self.results.add(key, await measures.waits(contender, self._effort))
                    self.results.add(key, await measures.looks(contender, "_beside"))
                self.results.add(key, await measures.prunes(contender, self._effort))

    @property
    def _ours(self) -> Path:
        return self._folder / "ours"

    @property
    def _log(self) -> Path:
        return self._folder / "serve.log"

    def _say(self, text: str) -> None:
        self._console.log(text)


def _beside_peers(plain: Cluster, first: Cluster, second: Cluster) -> list[Kind]:
    """The two that the ratio is of, and the peers."""
    ours = [contenders.embedded(), contenders.native(plain)]
    return [*ours, restate(), absurd(first), openworkflow(second)]


@asynccontextmanager
async def _until_signalled() -> AsyncGenerator[None]:
    """A block that Ctrl-C and SIGTERM leave in good order."""
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    group.cancel_scope.cancel()

        group.start_soon(watch)
        yield
        group.cancel_scope.cancel()


async def _finished(bench: Bench) -> bool:
    """Run the bench; False if it was interrupted."""
    async with _until_signalled():
        await bench.run()
        return True
    return False


def _run(effort: Effort, output: Path, *, peers: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="dw-bench-", ignore_cleanup_errors=True) as folder:
        root = Path(folder).resolve()
        root.chmod(0o711)  # Postgres runs as another user where this is root
        bench = Bench(effort, root, Console(stderr=True), peers=peers)
        if not anyio.run(_finished, bench):
            return _INTERRUPTED
    report.show(_wide(Console()), bench.results, bench.kinds, report.last(_HISTORY))
    report.write(output, bench.results, dataclasses.asdict(effort))
    if effort is measures.FULL and not peers:
        report.remember(_HISTORY, bench.results, _commit())
    return 0


def _commit() -> str:
    """The commit that is checked out, with + if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+"]
    found = subprocess.run(
        command, cwd=_HISTORY.parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def _wide(console: Console) -> Console:
    """In a file or a pipe the table is as wide as it wants to be."""
    return console if console.is_terminal else Console(width=_WIDTH)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: about a minute")
    parser.add_argument("--peers", action="store_true", help="beside Restate, absurd, openworkflow")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    effort = measures.QUICK if arguments.quick else measures.FULL
    sys.exit(_run(effort, arguments.output, peers=arguments.peers))


if __name__ == "__main__":
    main()
