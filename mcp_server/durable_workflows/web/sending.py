"""Answers as JSON that every browser can read."""

import json
from datetime import datetime
from typing import Any, cast

from starlette.responses import Response

from durable_workflows import fitting
from durable_workflows.models import Model


def response(value: object) -> Response:
    """The response that has this as its body."""
    return Response(text(value), media_type="application/json")


def text(value: object) -> str:
    """A model, what a field of one may be, or a list of these, as JSON."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> object:
    """Values of others, which a model may hold, are made fit one by one: only what is too deep itself is given as a text."""
    match value:
        case Model():
            return {name: _plain(part) for name, part in value}
        case list():
            return [_plain(part) for part in cast("list[object]", value)]
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return fitting.answer(value)
