"""A decision that a person takes, as a durable workflow."""

import math
import time
from datetime import UTC, datetime
from typing import Any, Literal, cast

from dbos import DBOS

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
# DBOS itself needs typing_extensions, so it is there wherever a workflow runs.
from typing_extensions import TypedDict

from durable_workflows.authoring import ask_human_async, receive_async

_WEEK_SECONDS = 7 * 24 * 3600.0
_TIMED_OUT = "timed_out"
_ANSWER_FIELDS = ("decision", "by", "comment")
# By another clock, or by the same clock later, a wait may end this much before the deadline.
_CLOCK_SECONDS = 1.0
_QUOTE_CHARACTERS = 200


class Decision(TypedDict):
    """The result of the workflow."""

    decision: str
    by: str | None
    comment: str | None
    decided_at: str


class Answer(TypedDict):
    """A message that fits."""

    decision: str
    by: str | None
    comment: str | None


@DBOS.workflow(name="approval")
async def approval(
    request: str,
    topic: str = "approval",
    timeout_seconds: float = _WEEK_SECONDS,
    choices: list[str] | None = None,
    by: Literal["person", "anyone"] = "person",
) -> Decision:
    """Ask a person to approve or reject a request, and wait for the decision, for days if need be.

    The person decides in a terminal (`durable-workflows approve`) or in the form of a client: one of the
    choices and, optionally, a comment. A message that a tool sends is not accepted.

    With `by` "anyone" an agent or a program may decide, with a message on the topic: `{"decision": "approve",
    "by": "Ada", "comment": "…"}`, where `by` and `comment` are optional, or only `"approve"`. With the
    default choices `true` and `false` also work. Case does not matter. A message that does not fit ends
    nothing: the event `rejected_messages` says `{"count": 1, "last_problem": "…"}`, and the wait continues
    until the same deadline.

    Args:
        request: What to decide, in words for the person who decides. The event `request` shows it:
            `{"request", "topic", "choices", "deadline"}`.
        topic: The topic of the messages; for a person, with `person:` in front.
        timeout_seconds: How long to wait. Default: seven days.
        choices: The possible decisions. Default: "approve" and "reject".
        by: Who may decide: only a "person", or "anyone" who sends a message, including an agent.

    Returns:
        `{"decision", "by", "comment", "decided_at"}`. `decision` is one of the choices, or "timed_out".
        `comment` is null if there is none; `decided_at` is an ISO time in UTC. `by` is the claim of a
        message, otherwise null: the person who answered is noted with the run, and `inspect` shows it.

    Raises:
        ValueError: An argument does not fit, for example "timed_out" among the choices.

    On a crash: the wait continues until its original deadline; a message that came meanwhile is read.
    """
    choices = ["approve", "reject"] if choices is None else choices
    _check_arguments(request, topic, timeout_seconds, choices, by)
    if by == "person":
        topic = f"person:{topic}"
    # The clock is read in steps: a replay gets the recorded times, and so the same deadline.
    deadline = await _read_clock() + timeout_seconds
    await DBOS.set_event_async("request", _question(request, topic, choices, deadline))
    if by == "person":
        return await _ask_person(request, topic, timeout_seconds, choices)
    return await _take_message(request, topic, timeout_seconds, choices, deadline)


async def _ask_person(
    request: str, topic: str, timeout_seconds: float, choices: list[str]
) -> Decision:
    answer = await ask_human_async(
        request,
        schema=_form(choices),
        topic=topic.removeprefix("person:"),
        timeout=timeout_seconds,
    )
    decided_at = _iso(await _read_clock())
    if answer is None:
        return {"decision": _TIMED_OUT, "by": None, "comment": None, "decided_at": decided_at}
    return {
        "decision": answer["decision"],
        "by": None,
        "comment": answer.get("comment"),
        "decided_at": decided_at,
    }


def _form(choices: list[str]) -> dict[str, Any]:
    """The JSON schema of a person's answer."""
    comment = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    return {
        "type": "object",
        "properties": {"decision": {"type": "string", "enum": choices}, "comment": comment},
        "required": ["decision"],
        "additionalProperties": False,
    }


async def _take_message(
    request: str, topic: str, timeout_seconds: float, choices: list[str], deadline: float
) -> Decision:
    prompt = f"{request} ({', '.join(choices)})"
    remaining, rejected = timeout_seconds, 0
    while True:
        message: object = await receive_async(topic, prompt=prompt, timeout=remaining)
        now = await _read_clock()
        # DBOS answers None when the time is over; an earlier None is a message that says null.
        if message is None and now >= deadline - _CLOCK_SECONDS:
            return {"decision": _TIMED_OUT, "by": None, "comment": None, "decided_at": _iso(now)}
        try:
            return {**_read_answer(message, choices), "decided_at": _iso(now)}
        except ValueError as problem:
            rejected += 1
            news = {"count": rejected, "last_problem": str(problem)}
        await DBOS.set_event_async("rejected_messages", news)
        remaining = max(deadline - now, 0.0)


async def _read_clock() -> float:
    return await DBOS.run_step_async({"name": "read_clock"}, time.time)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _question(request: str, topic: str, choices: list[str], deadline: float) -> dict[str, object]:
    return {"request": request, "topic": topic, "choices": choices, "deadline": _iso(deadline)}


# --- The message


def _read_answer(message: object, choices: list[str]) -> Answer:
    """The decision in a message. A message that does not fit raises a ValueError that says why."""
    if not isinstance(message, dict):
        return {"decision": _read_choice(message, choices), "by": None, "comment": None}
    fields = cast(dict[str, object], message)
    unknown = [field for field in fields if field not in _ANSWER_FIELDS]
    if unknown:
        raise ValueError(f"unknown fields {_quote(unknown)}; known: {', '.join(_ANSWER_FIELDS)}")
    return {
        "decision": _read_choice(fields.get("decision"), choices),
        "by": _read_text(fields, "by"),
        "comment": _read_text(fields, "comment"),
    }


def _read_choice(given: object, choices: list[str]) -> str:
    if isinstance(given, bool):
        given = "approve" if given else "reject"
    if isinstance(given, str):
        for choice in choices:
            if choice.casefold() == given.strip().casefold():
                return choice
    raise ValueError(f"the decision must be one of {', '.join(choices)}, not {_quote(given)}")


def _read_text(fields: dict[str, object], field: str) -> str | None:
    value = fields.get(field)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{field} must be a text, not {_quote(value)}")


def _quote(value: object) -> str:
    quoted = repr(value)
    return quoted if len(quoted) <= _QUOTE_CHARACTERS else quoted[:_QUOTE_CHARACTERS] + "…"


# --- The arguments


def _check_arguments(
    request: object, topic: object, seconds: object, choices: object, by: object
) -> None:
    if by not in ("person", "anyone"):
        raise ValueError(f'by must be "person" or "anyone", not {_quote(by)}')
    for name, value in {"request": request, "topic": topic}.items():
        if not _is_text(value):
            raise ValueError(f"{name} must be a text that is not empty, not {_quote(value)}")
    if not _is_duration(seconds):
        raise ValueError(f"timeout_seconds must be a number above 0, not {_quote(seconds)}")
    if choices == [] or not isinstance(choices, list):
        raise ValueError("choices must be a list with at least one text")
    seen: set[str] = set()
    for choice in cast(list[object], choices):
        key = choice.strip().casefold() if isinstance(choice, str) else ""
        if key in ("", _TIMED_OUT) or key in seen:
            raise ValueError(f'choices: {_quote(choice)} is empty, double, "timed_out" or no text')
        seen.add(key)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_duration(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )
