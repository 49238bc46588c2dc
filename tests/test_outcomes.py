"""A run ends whatever its code raises, and takes the same way on a replay."""

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.models import Ended, StartRequest
from requirements import proves

pytestmark = pytest.mark.anyio

BASE_EXCEPTIONS = [
    "KeyboardInterrupt",
    "GeneratorExit",
    "Panic",
    "BaseExceptionGroup",
    "CancelledError",
]


async def ended(engine: Engine, requests: list[StartRequest]) -> list[Ended]:
    started = [one.workflow_id for one in await engine.start_all(requests)]
    return (await engine.reader.wait(started, timeout_seconds=30)).done


@proves("replay:same-error")
async def test_a_fork_past_an_error_takes_the_way_of_the_first_run(shared: Engine) -> None:
    kinds = ["os", "called", "http", "invalid", "group", "keywords", "some key"]
    first = await ended(shared, [StartRequest(name="handles", args={"kind": one}) for one in kinds])
    forks = [(await shared.fork(one.workflow_id, 2)).workflow_id for one in first]
    again = (await shared.reader.wait(forks, timeout_seconds=30)).done
    assert [one.output for one in again] == [one.output for one in first]
    assert first[0].output == "not there"
    assert first[3].output == "invalid int_parsing"


@proves("replay:same-error")
async def test_the_error_of_an_enqueued_child_that_failed_in_all_attempts_has_those_of_the_attempts(
    shared: Engine,
) -> None:
    request = StartRequest(name="awaits_divides", args={"by": 0})
    [first] = await ended(shared, [request])
    assert first.output == ["DBOSMaxStepRetriesExceeded", "division by zero", "division by zero"]


@proves("outcome:whatever-is-raised")
@pytest.mark.parametrize("where", ["step", "body", "async_step", "async_body"])
async def test_a_run_fails_whatever_its_code_raises(shared: Engine, where: str) -> None:
    requests = [
        StartRequest(name=f"raises_in_{where}", args={"kind": kind}) for kind in BASE_EXCEPTIONS
    ]
    for kind, one in zip(BASE_EXCEPTIONS, await ended(shared, requests), strict=True):
        assert one.status == "ERROR"
        assert one.error is not None
        assert one.error.startswith(f"RuntimeError: The code raised {kind}")


@proves("outcome:whatever-is-raised")
@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("task in a step", "CancelledError"),
        ("itself", "CancelledError"),
        ("nothing", "StopIteration"),
    ],
)
async def test_a_run_fails_that_awaits_what_was_cancelled(
    shared: Engine, kind: str, raised: str
) -> None:
    [one] = await ended(shared, [StartRequest(name="awaits_cancelled", args={"kind": kind})])
    assert one.error == f"RuntimeError: The code raised {raised}."


@proves("outcome:whatever-is-raised")
async def test_a_child_that_its_parent_gave_up_has_failed(shared: Engine) -> None:
    [one] = await ended(shared, [StartRequest(name="gives_up")])
    assert one.output == "gave up"
    [child] = (await shared.reader.run(one.workflow_id)).children
    assert child.status == "ERROR"
