"""Asking the person at the client, by elicitation, in both protocol eras: the question, its form for the client, and the answer.

Clients show flat forms only. Anything else is asked for as JSON in a text field.
"""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, cast

from mcp.server.mcpserver import Context
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity
from mcp.types import (
    ClientCapabilities,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import JsonValue

from durable_workflows import fitting, wording
from durable_workflows.errors import InvalidArguments
from durable_workflows.models import OpenWait, Schema
from durable_workflows.processes import http_access
from durable_workflows.schemas.schemas import read_json, resolved
from durable_workflows.settings import Settings

_FIELD = "answer"  # the form's only field, if the answer is not an object
_KEPT = (
    "type",
    "title",
    "description",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "format",
)
_FORMATS = ("email", "uri", "date", "date-time")  # possible in a form
_PRIMITIVES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
# Conditions on an object beyond its fields, which a form cannot show.
_BEYOND_FIELDS = {
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "const", "enum"),
    *("patternProperties", "propertyNames", "minProperties", "maxProperties"),
    *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
}
_SCHEMA_SHOWN = 1500
_OPEN_SECONDS = 30 * 24 * 3600.0  # the time for which a person may leave a question open


def security(settings: Settings) -> RequestStateSecurity:
    """How a newer client keeps a question until its person has answered: for a month, and for whichever server it calls then."""
    return RequestStateSecurity(codec=_ProjectSeal(settings), ttl=_OPEN_SECONDS)


def can_ask(capabilities: ClientCapabilities | None) -> bool:
    """Whether a client with these capabilities can show a form to its person."""
    asking = capabilities.elicitation if capabilities else None
    return asking is not None and (asking.form is not None or asking.url is None)


async def ask(ctx: Context[Any], wait: OpenWait) -> ElicitResult | InputRequiredResult:
    """Ask for what a run waits for.

    The tool's answer may be an InputRequiredResult: then the client calls again with the person's answer.
    """
    params = ElicitRequestFormParams(message=message(wait), requested_schema=form(wait))
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return await ctx.session.elicit_form(params.message, params.requested_schema)
    response = (ctx.input_responses or {}).get(_FIELD)
    if response is None or ctx.request_state != _state(wait):  # asked now, or about another one
        request = ElicitRequest(params=params)
        return InputRequiredResult(input_requests={_FIELD: request}, request_state=_state(wait))
    return ElicitResult.model_validate(response, from_attributes=True)


def message(wait: OpenWait) -> str:
    """The text above the form: who asks, then the author's text with each line marked, so that it cannot pass for ours."""
    until = f", until {wording.time(wait.deadline)}" if wait.deadline else ""
    who = fitting.shown_line(wait.workflow_id)
    about = (
        f"the workflow run {who} (topic {wait.topic!r}, since {wording.time(wait.since)}{until})"
    )
    if not wait.prompt:
        return f"A message is needed by {about}."
    lines = fitting.shown(wait.prompt).split("\n")
    return "\n".join([f"A question from {about}:", "", *(f"> {line}".rstrip() for line in lines)])


def in_terminal(settings: Settings, wait: OpenWait) -> str:
    """The command with which the person answers from any directory, even if our command is not on the PATH."""
    name = "durable-workflows"
    program = shutil.which(name) or os.fspath(Path(sys.executable).with_name(name))
    given = ["--topic", wait.topic, "--project", os.fspath(settings.project)]
    return shlex.join([program, "approve", wait.workflow_id, *given])


def form(wait: OpenWait) -> Schema:
    """The answer's schema in a form that clients can show: an object of primitives."""
    schema = wait.message_schema
    if schema is None:
        return _one_field({"type": "string", "title": "Answer"})
    if fields := _flat(schema):
        return {
            "type": "object",
            "properties": fields,
            "required": [name for name in schema.get("required", []) if name in fields],
        }
    if (primitive := _primitive(schema, schema)) is not None:
        return _one_field(primitive)
    wanted = wording.short(json.dumps(schema, ensure_ascii=False), _SCHEMA_SHOWN)
    return _one_field({"type": "string", "title": "Answer", "description": f"As JSON: {wanted}"})


def value(wait: OpenWait, content: Any) -> JsonValue:
    """The person's answer in the form of `form`.

    Raises:
        InvalidArguments: it should be JSON and is not.
    """
    schema = wait.message_schema
    fields = cast("dict[str, JsonValue]", content or {})
    if schema is not None and _flat(schema):
        return {name: given for name, given in fields.items() if given is not None}
    answer = fields.get(_FIELD)
    if schema is None or _primitive(schema, schema) is not None:
        return answer
    try:
        return read_json(str(answer))
    except ValueError as error:
        raise InvalidArguments(
            f"The person's answer is not JSON ({error}).",
            hint="Call again to ask once more. Nothing was sent.",
        ) from error


def _one_field(field: Schema) -> Schema:
    return {"type": "object", "properties": {_FIELD: field}, "required": [_FIELD]}


def _flat(schema: Schema) -> dict[str, Schema]:
    """The fields of an object of primitives; empty for any other schema."""
    if schema.get("type") != "object" or schema.keys() & _BEYOND_FIELDS:
        return {}
    properties: dict[str, Schema | bool] = schema.get("properties", {})
    fields = {name: _primitive(part, schema) for name, part in properties.items()}
    found = {name: field for name, field in fields.items() if field is not None}
    return found if all(name in found for name in schema.get("required", [])) else {}


def _primitive(schema: Schema | bool, root: Schema) -> Schema | None:
    """A schema of one text, number or boolean, with the keywords that clients know; None for other schemas."""
    found, _nullable = resolved(schema, root)
    if "const" in found:
        found = Schema(enum=[found["const"]]) | found
    if "enum" in found:
        found = Schema(type="string") | found
        if found["type"] != "string" or not _are_texts(found["enum"]):
            return None
    kind = found.get("type")
    if kind not in [*_PRIMITIVES]:  # it may be a list
        return None
    kept = {key: found[key] for key in _KEPT if _can_show(key, found.get(key), kind)}
    said = {key: fitting.shown(str(kept[key])) for key in ("title", "description") if key in kept}
    return kept | said


def _are_texts(choices: list[JsonValue]) -> bool:
    return bool(choices) and all(isinstance(choice, str) for choice in choices)


def _can_show(key: str, value: object, kind: str) -> bool:
    """Whether a form can have this: clients refuse a form if its default has another type, or if they do not know its format."""
    if key == "default":
        return isinstance(value, _PRIMITIVES[kind]) and isinstance(value, bool) == (kind == "boolean")  # fmt: skip
    return value in _FORMATS if key == "format" else value is not None


def _state(wait: OpenWait) -> str:
    """The question: an answer to another question must not count."""
    return json.dumps([wait.workflow_id, wait.step, wait.prompt, wait.message_schema])


class _ProjectSeal:
    """Seals with the project's token, which outlasts this process and does not exist before the project."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def seal(self, payload: bytes) -> str:
        return self._codec().seal(payload)

    def unseal(self, token: str) -> bytes:
        return self._codec().unseal(token)

    def _codec(self) -> AESGCMRequestStateCodec:
        return AESGCMRequestStateCodec([http_access.token(self._settings)])
