"""Models as JSON that every client and every browser can read."""

from datetime import datetime
from typing import Any, cast

from durable_workflows import fitting
from durable_workflows.models import Model


def plain(value: Any) -> object:
    """A model, a field's value, or a list of these, as JSON.

    Foreign values in a model are made fit one by one: only a value that is itself too deep becomes text.
    """
    match value:
        case Model():
            # An example follows the author's schema, however deep.
            return {n: fitting.answer(part) if n == "example" else plain(part) for n, part in value}
        case list():
            return [plain(part) for part in cast("list[object]", value)]
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return fitting.answer(value)
