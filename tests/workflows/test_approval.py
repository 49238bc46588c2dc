"""The workflow `approval`, in a real host: whom it asks, what it accepts, and that its deadline outlives a crash."""

from datetime import datetime
from typing import Any

import pytest

from .host import Host, wait_until

APPROVED = {"decision": "approve", "by": None, "comment": None}
REJECTED = {"decision": "reject", "by": None, "comment": None}


def ask(host: Host, **arguments: object) -> str:
    """Start an approval by a message; its id, when it has published what it asks."""
    workflow_id = host.begin("approval", {"request": "Deploy?", "by": "anyone", **arguments})
    wait_until(lambda: host.event(workflow_id, "request"), "the event `request`")
    return workflow_id


def rejected(host: Host, workflow_id: str, count: int = 1) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        event = host.event(workflow_id, "rejected_messages")
        return event if event and event["count"] == count else None

    event = wait_until(look, f"{count} rejected messages")
    assert event is not None
    return event


def seconds_after_deadline(host: Host, workflow_id: str, decided_at: str) -> float:
    request = host.event(workflow_id, "request")
    assert request is not None
    late = datetime.fromisoformat(decided_at) - datetime.fromisoformat(request["deadline"])
    return late.total_seconds()


def test_it_publishes_what_it_asks_and_until_when(host: Host) -> None:
    workflow_id = ask(host, topic="go", timeout_seconds=60)
    event = host.event(workflow_id, "request")
    assert event is not None
    deadline = datetime.fromisoformat(event.pop("deadline"))
    assert event == {"request": "Deploy?", "topic": "go", "choices": ["approve", "reject"]}
    wait = deadline.timestamp() - (host.look(workflow_id).created_at or 0) / 1000
    assert 60 <= wait < 90
    host.client.send(workflow_id, "approve", "go")
    host.result(workflow_id)


def test_it_returns_the_decision_with_its_author_and_comment(host: Host) -> None:
    workflow_id = ask(host)
    host.client.send(
        workflow_id, {"decision": "reject", "by": "Ada", "comment": "not today"}, "approval"
    )
    result = host.result(workflow_id)
    decided_at = datetime.fromisoformat(result.pop("decided_at"))
    assert result == {"decision": "reject", "by": "Ada", "comment": "not today"}
    assert decided_at.utcoffset() is not None


@pytest.mark.parametrize(
    ("message", "decision"),
    [
        (True, APPROVED),
        (False, REJECTED),
        ("approve", APPROVED),
        (" Reject\n", REJECTED),
        ({"decision": True}, APPROVED),
        ({"decision": "REJECT", "by": None}, REJECTED),
    ],
)
def test_short_forms_of_a_decision_do_as_well(
    host: Host, message: object, decision: dict[str, object]
) -> None:
    workflow_id = ask(host)
    host.client.send(workflow_id, message, "approval")
    result = host.result(workflow_id)
    del result["decided_at"]
    assert result == decision


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("maybe", "the decision must be one of approve, reject, not 'maybe'"),
        (None, "the decision must be one of approve, reject, not None"),
        (1, "the decision must be one of approve, reject, not 1"),
        (["approve"], "the decision must be one of approve, reject, not ['approve']"),
        ({"by": "Ada"}, "the decision must be one of approve, reject, not None"),
        ({"decision": "approve", "by": 7}, "by must be a text, not 7"),
        ({"decision": "approve", "comment": []}, "comment must be a text, not []"),
        (
            {"decision": "approve", "why": "x"},
            "unknown fields ['why']; known: decision, by, comment",
        ),
        ("x" * 1000, "the decision must be one of approve, reject, not '" + "x" * 199 + "…"),
    ],
)
def test_a_message_that_does_not_fit_is_answered_and_the_wait_goes_on(
    host: Host, message: object, problem: str
) -> None:
    workflow_id = ask(host)
    host.client.send(workflow_id, message, "approval")
    assert rejected(host, workflow_id) == {"count": 1, "last_problem": problem}
    host.client.send(workflow_id, "approve", "approval")
    assert host.result(workflow_id)["decision"] == "approve"


def test_the_choices_may_be_others_and_then_true_is_no_decision(host: Host) -> None:
    workflow_id = ask(host, choices=["Ship", "Wait"])
    host.client.send(workflow_id, True, "approval")
    assert "one of Ship, Wait" in rejected(host, workflow_id)["last_problem"]
    host.client.send(workflow_id, "ship", "approval")
    assert host.result(workflow_id)["decision"] == "Ship"


def test_without_a_decision_it_times_out(host: Host) -> None:
    workflow_id = ask(host, timeout_seconds=0.5)
    result = host.result(workflow_id)
    assert -1 <= seconds_after_deadline(host, workflow_id, result.pop("decided_at")) < 5
    assert result == {"decision": "timed_out", "by": None, "comment": None}


def test_messages_that_do_not_fit_do_not_put_off_the_deadline(host: Host) -> None:
    workflow_id = ask(host, timeout_seconds=8)
    wait_until(lambda: seconds_to(host.event(workflow_id, "request")) < 6, "a part of the time")
    host.client.send(workflow_id, "maybe", "approval")
    rejected(host, workflow_id)
    result = host.result(workflow_id)
    assert result["decision"] == "timed_out"
    # A second wait of eight seconds would end at least two seconds late, and as late as the message came.
    assert seconds_after_deadline(host, workflow_id, result["decided_at"]) < 2


def test_a_decision_in_the_last_second_counts(own_host: Host) -> None:
    own_host.kill()  # the decision is there when the run begins
    arguments = {"request": "Deploy?", "timeout_seconds": 0.9, "by": "anyone"}
    workflow_id = own_host.begin("approval", arguments)
    own_host.client.send(workflow_id, "approve", "approval")
    own_host.start()
    assert own_host.result(workflow_id)["decision"] == "approve"


def test_a_decision_that_came_while_no_process_ran_is_read_at_the_restart(own_host: Host) -> None:
    workflow_id = ask(own_host)
    own_host.client.send(workflow_id, "maybe", "approval")
    rejected(own_host, workflow_id)
    own_host.kill()
    own_host.client.send(workflow_id, "approve", "approval")
    own_host.start()
    assert own_host.result(workflow_id)["decision"] == "approve"
    assert own_host.event(workflow_id, "rejected_messages") == {
        "count": 1,
        "last_problem": "the decision must be one of approve, reject, not 'maybe'",
    }


@pytest.mark.long
def test_the_deadline_is_that_of_the_start_also_after_a_crash(own_host: Host) -> None:
    workflow_id = ask(own_host, timeout_seconds=10)
    before = own_host.event(workflow_id, "request")
    own_host.client.send(workflow_id, "maybe", "approval")
    rejected(own_host, workflow_id)
    wait_until(lambda: seconds_to(before) < 5, "the last five seconds")
    own_host.kill()
    own_host.start()
    restart = max(0.0, -seconds_to(before))
    result = own_host.result(workflow_id)
    assert own_host.event(workflow_id, "request") == before
    assert result["decision"] == "timed_out"
    # A wait that began anew at the restart would end more than five seconds late.
    late = seconds_after_deadline(own_host, workflow_id, result["decided_at"])
    assert -1 <= late < restart + 5


def seconds_to(request: dict[str, Any] | None) -> float:
    assert request is not None
    deadline = datetime.fromisoformat(request["deadline"])
    return (deadline - datetime.now(deadline.tzinfo)).total_seconds()


def test_when_no_person_decides_in_time_it_times_out_too(host: Host) -> None:
    workflow_id = ask(host, by="person", timeout_seconds=0.5)
    result = host.result(workflow_id)
    assert -1 <= seconds_after_deadline(host, workflow_id, result.pop("decided_at")) < 5
    assert result == {"decision": "timed_out", "by": None, "comment": None}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"request": " "}, "request must be a text that is not empty"),
        ({"request": 3}, "request must be a text that is not empty, not 3"),
        ({"topic": ""}, "topic must be a text that is not empty"),
        ({"timeout_seconds": 0}, "timeout_seconds must be a number above 0, not 0"),
        ({"timeout_seconds": True}, "timeout_seconds must be a number above 0, not True"),
        ({"timeout_seconds": "1 h"}, "timeout_seconds must be a number above 0, not '1 h'"),
        ({"choices": []}, "choices must be a list with at least one text"),
        ({"choices": "yes"}, "choices must be a list with at least one text"),
        ({"choices": ["yes", "YES"]}, "choices: 'YES' is"),
        ({"choices": ["yes", "timed_out"]}, "choices: 'timed_out' is"),
        ({"choices": [1]}, "choices: 1 is"),
        ({"by": "agent"}, 'by must be "person" or "anyone", not \'agent\''),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    host: Host, arguments: dict[str, object], problem: str
) -> None:
    workflow_id = host.begin("approval", {"request": "Deploy?", **arguments})
    assert problem in host.problem(workflow_id)
    assert not host.steps(workflow_id)
