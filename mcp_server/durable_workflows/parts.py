"""A report in parts: one that cannot be told is said to be so, and the others are told."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from durable_workflows.errors import DatabaseUnavailable, DurableWorkflowsError

logger = logging.getLogger(__name__)


class Parts:
    """The parts of a report. `problems` says of those that failed why; with `away` the database does not answer, and all that ask it would fail."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.away = False

    @contextmanager
    def part(self, what: str) -> Generator[None]:
        """Around what one part needs; an error in it ends that part only."""
        try:
            yield
        except DatabaseUnavailable as error:
            self.away = True
            self.problems.append(str(error))
        except DurableWorkflowsError as error:
            self.problems.append(f"{what}: {error}")
        except (
            Exception
        ) as error:  # whatever is broken, the rest of the report is wanted all the more
            logger.exception("This part of a report failed: %s", what)
            self.problems.append(
                f"{what}: not available because of an error ({type(error).__name__}), which is in the log."
            )
