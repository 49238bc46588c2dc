# pyright: reportPrivateUsage=false
"""A replay reads what is recorded in windows: what its code gets and what is raised is as by dbos, in few statements."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from dbos import _context as dbos_context
from dbos._error import DBOSUnexpectedStepError, DBOSWorkflowCancelledError

from durable_workflows.seam import statements
from durable_workflows.seam.patches import bodies, replaying, step_statements
from test_step_statements import OURS, OWNER, SCENARIOS, THEIRS, Way, a_run, a_step, outcome
from test_step_statements import database as database

pytestmark = pytest.mark.anyio

LOOK_UP: Any = replaying.looking_up_in_windows(OURS.look_up, "durable_workflows")


@contextmanager
def replay_of(workflow_id: str) -> Generator[bodies.Recorded]:
    body = bodies.Body("work", dbos_context.DBOSContext(), None, workflow_id, 0)
    token = bodies._BODY.set(body)
    try:
        yield body.recorded
    finally:
        bodies._BODY.reset(token)


def in_windows(database: Any, workflow_id: str, *rest: Any) -> object:
    with replay_of(workflow_id):
        return LOOK_UP(database, workflow_id, *rest)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement brings."""
    counts: list[int] = []

    def counted(*given: Any) -> Any:
        rows = statements.run(*given)
        counts.append(len(rows))
        return rows

    for module in (replaying, step_statements):
        monkeypatch.setattr(module, "statements", Spied(counted))
    return counts


class Spied:
    """The module `statements`, its `run` replaced."""

    Row = statements.Row

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run = run


def record(database: Any, run: str, steps: dict[int, str]) -> None:
    """Record outputs, by the number of the step."""
    rows = [a_step(run, function_id=number, output=text) for number, text in steps.items()]
    with database.engine.begin() as connection:
        connection.execute(database.tables.operation_outputs.insert(), rows)


def numbered(count: int) -> dict[int, str]:
    return {number: str(number) for number in range(1, count + 1)}


@pytest.mark.parametrize("status", ["PENDING", "CANCELLED"])
@pytest.mark.parametrize("play", SCENARIOS)
async def test_a_step_is_looked_up_in_a_window_as_by_dbos(
    play: Callable[..., object], status: str, database: Any
) -> None:
    owner = OWNER if status == "PENDING" else None
    theirs, ours = (
        outcome(database, way, a_run(database, status, owner), play)
        for way in (THEIRS, Way(in_windows, OURS.record))
    )
    assert ours == theirs


async def test_a_replay_of_450_steps_takes_four_statements(database: Any, read: list[int]) -> None:
    run = a_run(database)
    record(database, run, numbered(450))
    with replay_of(run):
        results = [LOOK_UP(database, run, number, "work") for number in range(1, 452)]
    assert [result["output"] for result in results[:-1]] == list(numbered(450).values())
    assert results[-1] is None
    assert read == [200, 200, 50, 1]


async def test_a_run_that_begins_looks_up_each_step_in_one_statement(
    database: Any, read: list[int]
) -> None:
    run = a_run(database)
    with replay_of(run):
        for number in (1, 2, 3):
            assert LOOK_UP(database, run, number, "work") is None
            step = a_step(run, function_id=number)
            OURS.record(database, step, owner_xid=OWNER)
    assert read == [1, 1, 1, 1, 1, 1]


async def test_a_window_is_bounded_in_bytes(database: Any, read: list[int]) -> None:
    run = a_run(database)
    large = '"' + "x" * 900_000 + '"'
    record(database, run, dict.fromkeys(range(1, 8), large))
    with replay_of(run) as recorded:
        for number in range(1, 8):
            assert LOOK_UP(database, run, number, "work")["output"] == large
            assert len(recorded.steps) <= 3
    assert read == [3, 3, 1]


async def test_what_is_missing_between_recorded_steps_is_looked_up_when_it_is_its_turn(
    database: Any,
) -> None:
    """Branches of a `gather`: the second one had ended, the first had not."""
    run = a_run(database)
    record(database, run, {1: "1", 3: "3"})
    with replay_of(run):
        assert LOOK_UP(database, run, 1, "work")["output"] == "1"
        record(database, run, {2: "2"})  # as another execution may
        assert LOOK_UP(database, run, 3, "work")["output"] == "3"
        assert LOOK_UP(database, run, 2, "work")["output"] == "2"
        assert LOOK_UP(database, run, 4, "work") is None


async def test_another_name_than_the_recorded_one_is_an_error_in_the_middle_of_a_window(
    database: Any,
) -> None:
    run = a_run(database)
    record(database, run, numbered(3))
    with replay_of(run):
        LOOK_UP(database, run, 1, "work")
        with pytest.raises(DBOSUnexpectedStepError):
            LOOK_UP(database, run, 2, "other work")


async def test_a_cancelled_replay_ends_at_its_next_window(database: Any) -> None:
    run = a_run(database)
    record(database, run, numbered(replaying.WINDOW + 1))
    runs = database.tables.workflow_status
    with replay_of(run):
        LOOK_UP(database, run, 1, "work")
        with database.engine.begin() as connection:
            cancelled = runs.update().where(runs.c.workflow_uuid == run).values(status="CANCELLED")
            connection.execute(cancelled)
        with pytest.raises(DBOSWorkflowCancelledError):
            LOOK_UP(database, run, replaying.WINDOW + 1, "work")
