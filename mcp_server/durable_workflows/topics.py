"""Topics that are not the author's: what a run waits for on them, and the action that gives it."""

from pydantic import JsonValue

from durable_workflows.actions import REST, call
from durable_workflows.settings import CALLBACK, DOUBT, PERSON

_DIGITS = 10  # of a number of a step, which is an integer of the database


def doubted_step(topic: str) -> int | None:
    """The step whose doubt the topic is about; None: it is another topic."""
    rest = topic.removeprefix(PERSON).removeprefix(DOUBT)
    return (
        int(rest) if topic.removeprefix(PERSON) == f"{DOUBT}{rest}" and rest.isdecimal() else None
    )


def of_doubt(step: int, *, person_only: bool) -> str:
    """The topic of a doubt about a step."""
    return f"{PERSON if person_only else ''}{DOUBT}{step}"


def of_callback(step: int, name: str) -> str:
    """The topic of a callback that was made at a step."""
    return f"{CALLBACK}{step}:{name}"


def callback_step(topic: str) -> int | None:
    """The step that made the callback which the topic is about; None: it is another topic."""
    if not topic.startswith(CALLBACK):
        return None
    number, colon, _ = topic.removeprefix(CALLBACK).partition(":")
    return int(number) if colon and number.isdecimal() and len(number) < _DIGITS else None


def tool(topic: str) -> str:
    """The tool that gives a run what it waits for on the topic."""
    if topic.startswith(PERSON):
        return "answer_in_person"
    return "send_message" if doubted_step(topic) is None else "resolve_step"


def answering(workflow_id: str, topic: str, message: JsonValue = REST) -> str:
    """The action that gives a run what it waits for on the topic."""
    if (step := doubted_step(topic)) is not None and not topic.startswith(PERSON):
        return call("resolve_step", workflow_id=workflow_id, step=step, happened=REST)
    given: dict[str, JsonValue] = {} if topic.startswith(PERSON) else {"message": message}
    return call(tool(topic), workflow_id=workflow_id, topic=topic, **given)
