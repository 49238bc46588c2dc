"""Doubts in a native Postgres, whose statements run side by side."""

from collections.abc import AsyncIterator

import anyio
import psycopg
import pytest

import native
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import AlreadyAnswered
from helpers import parking_project, until
from requirements import proves
from test_doubts import *  # noqa: F403
from test_doubts import hold_all
from test_effects import (
    NOT_HAPPENED,
    effects_of,
    ended,
    file_of,
    hold,
    hold_and_kill,
    in_doubt,
    resolve,
    until_held,
)

pytestmark = [pytest.mark.anyio, pytest.mark.long]

# Said, but not committed yet.
SAY = """
select durable_workflows_project.resolve_doubt(%s, 2, true, '{"receipt": "seen"}', '{"who": "a client", "how": "tool"}', false)
"""
BLOCKED = "select from pg_stat_activity where query like %s and wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def url(postgres: native.Cluster) -> str:
    return postgres.database("doubts")


@pytest.fixture(scope="module")
async def doubting(tmp_path_factory: pytest.TempPathFactory, url: str) -> AsyncIterator[Engine]:
    """As `doubting` of the other tests."""
    async with parking_project(tmp_path_factory, "effects", url) as engine:
        await hold_all(engine)
        yield engine


@proves("effect:find")
async def test_what_is_said_while_a_look_up_ends_is_not_lost(doubting: Engine, url: str) -> None:
    hold(doubting, "says-late", "look")
    await hold_and_kill(doubting, {"says-late": ("pays_found", "before")})
    await until_held(doubting, "says-late")
    with psycopg.connect(url) as speaker, psycopg.connect(url, autocommit=True) as control:
        assert speaker.execute(SAY, ["says-late"]).fetchall() == [("resolved",)]
        file_of(doubting, "says-late.hold-look").unlink()
        await until_blocked(control, "%effect%")
        speaker.commit()
    assert (await ended(doubting, "says-late")).output == {"receipt": "seen"}
    assert effects_of(doubting, "says-late") == []


@proves("effect:once")
async def test_of_two_who_speak_at_the_same_moment_the_second_hears_of_the_first(
    doubting: Engine, url: str
) -> None:
    await hold_and_kill(doubting, {"two-say": ("pays", "after")})
    await in_doubt(doubting, "two-say")
    refused: list[AlreadyAnswered] = []

    async def speak() -> None:
        try:
            await resolve(doubting, "two-say", NOT_HAPPENED)
        except AlreadyAnswered as error:
            refused.append(error)

    with psycopg.connect(url) as first, psycopg.connect(url, autocommit=True) as control:
        assert first.execute(SAY, ["two-say"]).fetchall() == [("resolved",)]
        async with anyio.create_task_group() as group:
            group.start_soon(speak)
            await until_blocked(control, "%resolve_doubt%")
            first.commit()
    assert len(refused) == 1
    assert (await ended(doubting, "two-say")).output == {"receipt": "seen"}
    assert effects_of(doubting, "two-say") == ["paid"]


async def until_blocked(control: psycopg.Connection, statement: str) -> None:
    await until(lambda: control.execute(BLOCKED, [statement]).fetchall(), "it waits for a speaker")
