"""Messages to runs, and the answers of people to their questions."""

import json
import uuid
from collections.abc import Sequence

from pydantic import JsonValue

from durable_workflows import actions, fitting, topics
from durable_workflows.engine import records
from durable_workflows.engine.calling_back import CallbackAnswers
from durable_workflows.engine.reading import Reader
from durable_workflows.engine.rows import Rows
from durable_workflows.errors import (
    AlreadyAnswered,
    InvalidArguments,
    NotInDoubt,
    NotWaiting,
    PeopleOnly,
    UsageError,
    WorkflowFinished,
)
from durable_workflows.models import (
    PEOPLES_WAYS,
    STOPPED,
    UNFINISHED,
    Delivered,
    OpenWait,
    Question,
    Resolution,
    Unanswered,
)
from durable_workflows.schemas import arguments
from durable_workflows.settings import PERSON
from durable_workflows.system import processes


class Messenger:
    """Sends messages and answers."""

    def __init__(self, rows: Rows, reader: Reader, callbacks: CallbackAnswers) -> None:
        self._rows = rows
        self._reader = reader
        self._callbacks = callbacks

    async def send(
        self, workflow_id: str, topic: str, message: JsonValue, idempotency_key: str | None = None
    ) -> Delivered:
        """As `Engine.send`."""
        arguments.check_texts(topic=topic, idempotency_key=idempotency_key)
        if topic.startswith(PERSON):
            raise PeopleOnly(f"The topic {topic!r} accepts answers from people only.")
        if (doubted := topics.doubted_step(topic)) is not None:
            raise UsageError(
                f"No message resolves a doubt about step {doubted}.",
                hint=f"Call {topics.answering(workflow_id, topic)}.",
            )
        if (step := topics.callback_step(topic)) is not None:
            answered = await self._callbacks.by_message(
                workflow_id, step, topic, message, idempotency_key
            )
            if answered is not None:
                return answered
        if idempotency_key is not None:
            earlier = await self._sent_before(workflow_id, topic, message, idempotency_key)
            if earlier is not None:
                return earlier
        waits = await self._awaited(workflow_id, message)
        for wait in waits:
            if wait.topic == topic:
                message = arguments.meant(wait, message)
                arguments.check_message(wait, message)
        sent = await self._send(workflow_id, topic, message, idempotency_key or str(uuid.uuid4()))
        note = await self._not_awaited(workflow_id, topic, [wait.topic for wait in waits])
        return sent.model_copy(update={"note": note})

    async def _sent_before(
        self, workflow_id: str, topic: str, message: JsonValue, key: str
    ) -> Delivered | None:
        """The fate of the message that was sent with this key; the run may have ended since."""
        rows = await self._rows.fetch("message_of_key", workflow_id=workflow_id, key=key)
        if not rows:
            return None
        row = rows[0]
        same = (records.topic(row["topic"]), json.loads(row["message"])) == (topic, message)
        read = row["consumed_by_step"]
        received = (
            f"step {read} has received it" if read is not None else "it has not been received yet"
        )
        note = f"A message with this key was already sent: {received}. Nothing new was sent."
        if not same:
            note = f"A different message was already sent with this key: {received}. This one was not sent; give it its own key."
        return Delivered(workflow_id=workflow_id, topic=topic, delivered=same, note=note)

    async def _not_awaited(
        self, workflow_id: str, topic: str, awaited: Sequence[str]
    ) -> str | None:
        """The note about a message for which the run does not wait now."""
        if topic in awaited:
            return None
        kept = f"{workflow_id} gets this message when it receives on {topic!r}"
        if awaited:
            return f"{kept}. Now it waits on {' and '.join(map(repr, awaited))}."
        children = await self._rows.fetch(
            "descendant_waiting_on", workflow_id=workflow_id, topic=topic
        )
        if children:
            return f"{kept}. Now {children[0]['workflow_id']}, which it started, waits on that topic: if you meant that run, send it there too."
        return f"{kept}; it does not wait for a message now."

    async def answer(
        self, wait: OpenWait, value: JsonValue, *, who: str, how: str, shown: str | None = None
    ) -> Delivered:
        """As `Engine.answer`."""
        processes.refuse_in_worker()
        open_waits = await self._awaited(wait.workflow_id, value)
        earlier = await self._rows.fetch(
            "find_answer", workflow_id=wait.workflow_id, step=wait.step
        )
        if not earlier and wait.step not in [one.step for one in open_waits]:
            raise NotWaiting(f"{wait.workflow_id} no longer waits for {wait.topic!r}.")
        arguments.check_message(wait, value)
        if topics.doubted_step(wait.topic) is not None:
            said = Resolution.model_validate(value)
            return await self.resolve(wait.workflow_id, wait.step, said, who=who, how=how)
        rows = await self._rows.fetch(
            "note_answer",
            workflow_id=wait.workflow_id,
            step=wait.step,
            topic=wait.topic,
            who=who,
            how=how,
            shown=fitting.json_text(
                {**wait.model_dump(mode="json"), "text": shown or wait.prompt or ""}
            ),
            answer=fitting.json_text(value),
        )
        # The note and the message are two transactions. Each process that finds a note sends the message; its key makes it count once.
        noted = rows[0]
        sent = await self._send(wait.workflow_id, wait.topic, noted["answer"], noted["message_key"])
        if (noted["who"], noted["answer"]) != (who, value):
            at = noted["answered_at"].isoformat(timespec="seconds")
            raise AlreadyAnswered(f"{noted['who']} already answered this at {at}.")
        return sent

    async def resolve(
        self, workflow_id: str, step: int, said: Resolution, *, who: str, how: str
    ) -> Delivered:
        """As `Engine.resolve_step`."""
        if not said.happened and said.result is not None:
            raise InvalidArguments(
                "A step that has not happened has no result.",
                hint="Leave `result` out, or say that it has happened.",
            )
        arguments.check_size(said.result, "result")
        await self._rows.head(workflow_id)
        rows = await self._rows.change(
            "resolve_doubt",
            workflow_id=workflow_id,
            step=step,
            happened=said.happened,
            result=None if said.result is None else fitting.recorded_json(said.result),
            about=fitting.json_text({"who": who, "how": how}),
            person=how in PEOPLES_WAYS,
        )
        verdict = rows[0]["verdict"] if rows else "none"
        if verdict == "person":
            raise PeopleOnly(f"Only a person may say whether step {step} has happened.")
        if verdict == "earlier":
            raise AlreadyAnswered(f"It was already said whether step {step} has happened.")
        if verdict == "none":
            raise NotInDoubt(f"Step {step} of {workflow_id} is not in doubt.")
        return Delivered(
            workflow_id=workflow_id, topic=topics.of_doubt(step, person_only=False), delivered=True
        )

    async def questions(self, workflow_ids: Sequence[str]) -> list[Question]:
        """As `Engine.questions`."""
        waits = await self._reader.asked_of_people(workflow_ids)
        if not waits:
            return []
        keys = [{"workflow_id": one.workflow_id, "step": one.step} for one in waits]
        rows = await self._rows.fetch("question_states", questions=json.dumps(keys))
        states = {(row["workflow_id"], row["step"]): row for row in rows}
        found: list[Question] = []
        for wait in waits:
            state = states[wait.workflow_id, wait.step]
            if state["answered_by"] is None:
                found.append(records.question(wait, state))
            else:  # its process was killed after the note and before the message
                await self._send(
                    wait.workflow_id, wait.topic, state["answer"], state["message_key"]
                )
        return found

    async def leave_open(
        self, wait: OpenWait, action: Unanswered, *, who: str, how: str, why: str | None = None
    ) -> None:
        """As `Engine.leave_open`."""
        await self._rows.run(
            "note_unanswered",
            workflow_id=wait.workflow_id,
            step=wait.step,
            action=action,
            why=fitting.text(why) if why else None,
            who=fitting.text(who),
            how=how,
        )

    async def _awaited(self, workflow_id: str, message: JsonValue) -> list[OpenWait]:
        """The wait of an unfinished run."""
        arguments.check_size(message, "message")
        head = await self._rows.head(workflow_id)
        if head["status"] not in UNFINISHED:
            said = f"{workflow_id} has ended with status {head['status']}."
            raise WorkflowFinished(said, hint=_receiving_again(workflow_id, head["status"]))
        return await self._reader.open_waits(workflow_id)

    async def _send(self, workflow_id: str, topic: str, message: JsonValue, key: str) -> Delivered:
        found = await self._rows.change(
            "send_message",
            workflow_id=workflow_id,
            topic=records.recorded_topic(topic),
            message=fitting.recorded_json(message),
            key=key,
        )
        if not found:
            raise await self._rows.unknown(workflow_id)
        return Delivered(workflow_id=workflow_id, topic=topic, delivered=True)


def _receiving_again(workflow_id: str, status: str) -> str:
    """How an ended run, or a run in its place, can still take a message."""
    if status in STOPPED:
        resumed = actions.call("resume", workflow_ids=[workflow_id])
        return f"{resumed} lets it go on; then send again. Nothing was sent."
    found = actions.inspect(workflow_id, detail="messages")
    again = actions.call("fork", workflow_id=workflow_id, from_step=actions.NUMBER)
    return f"{found} shows which step received a message on which topic; then {again} from that step, and send the message to the fork. If no step received one, start a new run. Nothing was sent."
