"""Callbacks of runs that this process executes: they are rows of our tables, which others answer."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from durable_workflows.database import callback_tokens
from durable_workflows.seam import dbos_calls, statements
from durable_workflows.seam.offers import Offer

_SECRET = """
INSERT INTO {own}.secrets (name, secret) VALUES ('callbacks', %(made)s)
ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING secret
"""
# A step that runs again makes the callback anew: no program has the earlier one.
_MAKE = """
INSERT INTO {own}.callbacks (workflow_id, function_id, id, topic, schema, ends_at, silence)
VALUES (
    %(run)s, %(step)s, %(id)s, %(topic)s, %(schema)s::json,
    clock_timestamp() + %(timeout)s::double precision * interval '1 second', %(heartbeat)s::double precision
)
ON CONFLICT (workflow_id, function_id) DO UPDATE
SET id = excluded.id, topic = excluded.topic, schema = excluded.schema, made_at = excluded.made_at, ends_at = excluded.ends_at,
    silence = excluded.silence, beat_at = excluded.beat_at, answer = NULL, answer_key = NULL, answered_at = NULL, closed = NULL
RETURNING 1
"""
# It is given up here and nowhere else, so an answer comes before that, or is refused.
_SETTLE = """
UPDATE {own}.callbacks SET closed = CASE
    WHEN answer IS NOT NULL OR closed IS NOT NULL THEN closed
    WHEN ends_at <= clock_timestamp() THEN 'timeout'
    WHEN beat_at + silence * interval '1 second' <= clock_timestamp() THEN 'heartbeat'
END
WHERE workflow_id = %(run)s AND function_id = %(step)s
RETURNING answer, closed, extract(epoch FROM least(ends_at, beat_at + silence * interval '1 second'))::double precision
"""


@dataclass(frozen=True)
class Asked:
    """A callback to be made: the topic of its messages, the JSON schema of a result as text, and its limits in seconds."""

    topic: str
    schema: str | None
    timeout: float | None
    heartbeat: float | None


class Settled(NamedTuple):
    """How a callback stands: its answer as JSON, or why it was given up, or, if it is open, until when (in seconds since 1970; None: no limit)."""

    answer: str | None
    closed: str | None
    until: float | None


class Callbacks:
    """The callbacks of one project."""

    def __init__(self, schema: str, servers: Callable[[], str | None]) -> None:
        """`servers` finds the address of a running HTTP server of the project, without a path."""
        own = statements.quoted(schema)
        self._ask_secret = _SECRET.replace("{own}", own)
        self._make = _MAKE.replace("{own}", own)
        self._settle = _SETTLE.replace("{own}", own)
        self.server = servers

    def token(self, callback_id: str) -> str:
        """The token of a callback."""
        return callback_tokens.token(self._secret, callback_id)

    def make(self, workflow_id: str, step: int, asked: Asked) -> str:
        """Make a callback, and return its id."""
        callback_id = callback_tokens.new_id()
        values = {
            "run": workflow_id,
            "step": step,
            "id": callback_id,
            "topic": asked.topic,
            "schema": asked.schema,
            "timeout": asked.timeout,
            "heartbeat": asked.heartbeat,
        }
        statements.certainly(dbos_calls.system_database(), self._make, values)
        return callback_id

    def settle(self, workflow_id: str, step: int) -> Settled:
        """How a callback stands. Once this says that its time is over, it takes no answer."""
        values = {"run": workflow_id, "step": step}
        [row] = statements.certainly(dbos_calls.system_database(), self._settle, values)
        return Settled(*row)

    @functools.cached_property
    def _secret(self) -> str:
        made = {"made": callback_tokens.new_secret()}
        return statements.certainly(dbos_calls.system_database(), self._ask_secret, made)[0][0]


offer: Offer[Callbacks] = Offer("A callback")
