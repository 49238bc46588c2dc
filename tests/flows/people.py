"""Questions to people."""

import json
from pathlib import Path
from typing import Literal

import anyio
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, SendMessage
from pydantic import BaseModel

from durable_workflows import ask_human, step
from durable_workflows.engine.project import Project
from durable_workflows.errors import PeopleOnly
from durable_workflows.settings import Settings


class Order(BaseModel):
    amount: int
    unit: Literal["kg", "t"] = "kg"
    express: bool = False


@DBOS.workflow()
def ask_order(timeout: float | None = None) -> dict[str, object] | None:
    """Ask a person for an order."""
    order = ask_human("What shall be ordered?", schema=Order, topic="order", timeout=timeout)
    return order.model_dump() if order else None


@DBOS.workflow()
def ask_parts() -> list[str]:
    """Ask a person for something that fits into no form."""
    return ask_human("Which parts?", schema=list[str])


@DBOS.workflow()
def ask_anything() -> str:
    """Ask a person without a schema."""
    return ask_human("What is it?")


def _client() -> DBOSClient:
    url = json.loads(Path(".dbos/connection.json").read_text(encoding="utf-8"))["url"]
    return DBOSClient(system_database_url=url, serializer=DBOSPortableJSONSerializer())


@step(effect="repeatable")
def send_in_step(to: str, topic: str) -> None:
    DBOS.send(to, {"amount": 7}, topic)


@step(effect="repeatable")
def send_as_client(to: str, topic: str) -> None:
    client = _client()
    try:
        client.send(to, {"amount": 7}, topic)
    finally:
        client.destroy()


@DBOS.step()
def answer_by_engine(to: str, _topic: str) -> None:
    async def answer() -> None:
        project = Project(Settings())
        try:
            engine = await project.engine()
            [wait] = await engine.reader.waits(to)
            await engine.answer(wait, {"amount": 7}, who="ann", how="terminal")
        finally:
            await project.aclose()

    anyio.run(answer)


def _send_bulk(to: str, topic: str) -> None:
    DBOS.send_bulk([SendMessage(to, {"amount": 7}, topic)])


def _send(to: str, topic: str) -> None:
    DBOS.send(to, {"amount": 7}, topic)


WAYS = {
    "send": _send,
    "bulk": _send_bulk,
    "step": send_in_step,
    "client": send_as_client,
    "engine": answer_by_engine,
}


@DBOS.workflow()
def impersonate(to: str, topic: str, way: str) -> str:
    """Try to answer in a person's place."""
    try:
        WAYS[way](to, topic)
    except PeopleOnly as error:
        return f"PeopleOnly: {error}"
    return "sent"


@DBOS.workflow()
async def impersonate_async(to: str, topic: str) -> str:
    """The same, in an async workflow, and without a catch."""
    await DBOS.send_async(to, {"amount": 7}, topic)
    return "sent"


@DBOS.workflow()
def send_and_ask(to: str, topic: str) -> str:
    """Send on a topic for people, as a release before let it pass, and ask."""
    _send(to, topic)
    return ask_human("Was it sent?")
