"""Runs with every kind of wait, and what they wait for, sent until it has surely arrived."""

import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
import anyio.abc
from pydantic import JsonValue

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import (
    DurableWorkflowsError,
    NotWaiting,
    UnknownWorkflowId,
    UsageError,
    WorkflowFinished,
)
from durable_workflows.models import Delivered, StartRequest
from kills.killing import LAST
from mcp import Client, StdioServerParameters

T = TypeVar("T")

SLEEP_SECONDS = 11.0  # so long that a run is parked meanwhile, while places are short
_EXPIRES_SECONDS = 13.0
_PAUSE_SECONDS = 4.0  # between two messages for a run, at most
_AGAIN_SECONDS = 0.2
_CALL_SECONDS = 50.0


class Message(NamedTuple):
    """A message for a run."""

    run: str
    topic: str
    value: int
    key: str


def _itself(run: str, _number: int) -> tuple[str, str]:
    return run, "go"


def _either(run: str, number: int) -> tuple[str, str]:
    return run, ("one", "two")[(number - 1) % 2]


def _child(run: str, number: int) -> tuple[str, str]:
    return f"{run}-{number}", "go"


@dataclass
class Talk:
    """A run, and the messages that it gets: `address` says to which run each is sent, by its number, and on which topic."""

    run: str
    address: Callable[[str, int], tuple[str, str]] = _itself
    at_once: int = 1  # so many before it goes on
    sent: list[int] = field(default_factory=list[int])
    _next: Message | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has the last ones."""
        return self.sent[-self.at_once :] == [LAST] * self.at_once

    def next(self, *, is_last: bool) -> Message:
        """The message to send now, the same one until it is known to have arrived.

        Messages that belong together are all the last ones, or none is.
        """
        if self._next is None:
            number = len(self.sent) + 1
            begun = len(self.sent) % self.at_once
            ends = self.sent[-1] == LAST if begun else is_last
            run, topic = self.address(self.run, number)
            self._next = Message(run, topic, LAST if ends else number, f"key {number}")
        return self._next

    def has_come(self) -> None:
        """It is known now."""
        assert self._next is not None
        self.sent.append(self._next.value)
        self._next = None


# How often there is a run of each workflow, and how it gets its messages.
_TALKS: dict[str, tuple[int, Callable[[str], Talk]]] = {
    "receives": (3, Talk),
    "receives_async": (3, Talk),
    "branches": (1, lambda run: Talk(run, _either, 2)),
    "calls": (1, lambda run: Talk(run, _child)),
    "starts": (1, lambda run: Talk(run, _child)),
    "gathers": (1, lambda run: Talk(run, _child, 2)),
    "sets": (2, Talk),
}
_ASKING = ("asks", "asks_async")
_GETTING = ("gets", "gets_async")
_RESTING = ("sleeps", "sleeps_async", "times_out")
_OF_EACH = 2
_BY_SERVER = ("receives", 0)  # gets its messages from an MCP server


class Traffic:
    """All that goes on, from `begin` to `end`, in the task group of `begin`: that ends when the last messages have surely come."""

    def __init__(
        self, projects: Sequence[Project], folder: Path, seed: int, prefix: str = ""
    ) -> None:
        self._projects = projects
        self._folder = folder
        self._seed = seed
        self._prefix = prefix  # of the ids of all runs
        self._is_over = anyio.Event()
        self.calling = anyio.Event()  # is set while the MCP server is in a call
        self.refused: list[str] = []  # what it said of messages that were not delivered
        self.talks: dict[str, Talk] = {}
        self.expected: dict[str, Sequence[int]] = {}  # by run: what it shall return
        self.resting: list[str] = []
        self.expiring: list[str] = []

    def chance(self, name: str) -> random.Random:
        """A source of chance for each part, so that the parts do not disturb each other."""
        return random.Random(f"{self._seed} {name}")

    async def surely(self, call: Callable[[Engine], Awaitable[T]], at: Project | None = None) -> T:
        """The result of a call that may be repeated, made at any of the machines or at this one; whatever is killed meanwhile."""
        while True:
            try:
                return await call(await (at or random.choice(self._projects)).engine())
            except UsageError as error:
                if not isinstance(error, UnknownWorkflowId):  # of a child that is still to come
                    raise
            except DurableWorkflowsError:
                pass
            await anyio.sleep(_AGAIN_SECONDS)

    # Runs

    async def begin(self, group: anyio.abc.TaskGroup) -> None:
        """Start the runs, and what brings them what they wait for."""
        for name, (count, made) in _TALKS.items():
            for number in range(count):
                talk = await self._talk(name, made(self._id(name, number)))
                by_server = talk.run == self._id(*_BY_SERVER)
                send = self._send_by_server if by_server else self._send
                group.start_soon(send, talk)
        for number in range(_OF_EACH):
            for name in _ASKING:
                group.start_soon(self._answer, await self._talk(name, Talk(self._id(name, number))))
            for name in _GETTING:
                of = self._id("sets", number)
                run = await self._start(name, self._id(name, number), of=of)
                self.expected[run] = self.talks[of].sent
            for name in _RESTING:
                run = await self._start(name, self._id(name, number), seconds=SLEEP_SECONDS)
                self.resting.append(run)
        group.start_soon(self._let_expire)

    async def end(self) -> None:
        """Send the end of all runs, from all machines; missing runs are started."""
        (self._folder / "over").touch()
        self._is_over.set()
        for project in self._projects:
            await self.surely(lambda engine: engine.reader.counts(), project)

    def _id(self, name: str, number: int) -> str:
        return f"{self._prefix}{name}-{number}"

    async def _talk(self, name: str, talk: Talk) -> Talk:
        await self._start(name, talk.run)
        self.talks[talk.run] = talk
        self.expected[talk.run] = talk.sent
        return talk

    async def _start(self, name: str, run: str, **args: JsonValue) -> str:
        args = {"folder": str(self._folder), **args}
        request = StartRequest(name=f"kept_{name}", args=args, workflow_id=run)
        await self.surely(lambda engine: engine.start(request))
        return run

    async def _let_expire(self) -> None:
        """Start runs whose own time is over while they are parked."""
        chance = self.chance("expires")
        while not self._is_over.is_set():
            run = self._id("expires", len(self.expiring))
            request = StartRequest(
                name="kept_expires", workflow_id=run, timeout_seconds=_EXPIRES_SECONDS
            )
            await self.surely(lambda engine, request=request: engine.start(request))
            self.expiring.append(run)
            await self._pause(chance, 15.0)

    # Messages

    def _next(self, talk: Talk) -> Message:
        return talk.next(is_last=self._is_over.is_set())

    async def _send(self, talk: Talk) -> None:
        chance = self.chance(talk.run)
        while not talk.is_over:
            await self._pause(chance)
            one = self._next(talk)
            delivered = await self.surely(
                lambda engine, one=one: engine.send(one.run, one.topic, one.value, one.key)
            )
            assert delivered.delivered, delivered
            talk.has_come()

    async def _send_by_server(self, talk: Talk) -> None:
        """By an MCP server, and by another one once that is gone."""
        chance = self.chance(talk.run)
        while not talk.is_over:
            settings = chance.choice(self._projects).settings
            parameters = StdioServerParameters(
                command=sys.executable,
                args=["-m", "durable_workflows", "serve", "--project", str(settings.project)],
                env=settings.as_environment(),
            )
            with suppress(Exception):  # a client notices in several ways that its server is gone
                async with Client(parameters) as client:
                    while not talk.is_over:
                        await self._call(client, talk)
                        await self._pause(chance, 1.0)

    async def _call(self, client: Client, talk: Talk) -> None:
        run, topic, value, key = self._next(talk)
        args = {"workflow_id": run, "topic": topic, "message": value, "idempotency_key": key}
        self.calling.set()
        try:
            with anyio.fail_after(_CALL_SECONDS):
                result = await client.call_tool("send_message", args)
        finally:
            self.calling = anyio.Event()
        if not result.is_error:
            if not Delivered.model_validate(result.structured_content).delivered:
                self.refused.append(str(result))
            talk.has_come()

    async def _answer(self, talk: Talk) -> None:
        """As a person in a terminal."""
        chance = self.chance(talk.run)
        answered = 0  # the step
        while not talk.is_over:
            await self._pause(chance, 1.0)
            for wait in await self.surely(lambda engine: engine.reader.waits(talk.run)):
                if wait.step <= answered:
                    continue
                value = self._next(talk).value
                try:
                    await self.surely(
                        lambda engine, wait=wait, value=value: engine.answer(
                            wait, value, who="somebody", how="terminal"
                        )
                    )
                except NotWaiting:  # what was published of it is old
                    continue
                except WorkflowFinished:  # it has had the last answer, of which we did not hear
                    assert value == LAST
                answered = wait.step
                talk.has_come()

    async def _pause(self, chance: random.Random, most: float = _PAUSE_SECONDS) -> None:
        with anyio.move_on_after(chance.uniform(0, most)):
            await self._is_over.wait()
