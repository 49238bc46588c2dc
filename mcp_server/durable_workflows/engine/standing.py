"""The state of a project, as far as it can be known, whatever is broken."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from durable_workflows.models import Catalog, ServerStatus
from durable_workflows.parts import Parts
from durable_workflows.processes import problems
from durable_workflows.settings import Settings

if TYPE_CHECKING:  # importing it imports psycopg, which takes a fifth of a second
    from durable_workflows.engine.engine import Engine

_CATALOG_SECONDS = 10.0  # until a version that is being loaded is reported as a problem


async def status(settings: Settings, engine: "Callable[[], Awaitable[Engine]]") -> ServerStatus:
    """What runs, and any problems. It always answers: a part that fails is a problem."""
    parts = Parts()
    found = problems.unavailable(settings)
    with parts.part("processes"):
        parts.problems += problems.of_processes(settings, running=True)
    with parts.part("engine"):
        running = await engine()
        with parts.part("catalog"):
            catalog: Catalog | None = None
            with anyio.move_on_after(_CATALOG_SECONDS):
                catalog = await running.catalog()
            parts.problems += problems.of_code(catalog)
        found = await running.reader.status()
    return found.model_copy(update={"problems": [*parts.problems, *found.problems]})
