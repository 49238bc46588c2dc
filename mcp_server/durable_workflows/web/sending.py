"""Answers as JSON that every browser can read."""

import json

from starlette.responses import Response

from durable_workflows.telling.plain import plain


def response(value: object) -> Response:
    """The response with this as its body."""
    return Response(text(value), media_type="application/json")


def text(value: object) -> str:
    """A model, what a field of one may be, or a list of these, as JSON."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))
