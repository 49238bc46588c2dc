"""A report in parts: a part that fails is reported as such, and the other parts are told."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from durable_workflows.errors import DatabaseUnavailable, DurableWorkflowsError

logger = logging.getLogger(__name__)


class Parts:
    """The parts of a report.

    `problems` gives the reason for each failed part. With `away` the database does not answer, so all parts that ask it would fail.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.away = False

    @contextmanager
    def part(self, what: str) -> Generator[None]:
        """Surrounds the work for one part; an error in it ends only that part."""
        try:
            yield
        except DatabaseUnavailable as error:
            self.away = True
            self.problems.append(str(error))
        except DurableWorkflowsError as error:
            self.problems.append(f"{what}: {error}")
        except (
            Exception
        ) as error:  # whatever is broken, the reader wants the rest of the report all the more
            logger.exception("This part of a report failed: %s", what)
            self.problems.append(
                f"{what}: not available because of an error ({type(error).__name__}), which is in the log."
            )
