"""What a worker offers to the workflow code in its process, and other processes do not."""

from typing import Generic, TypeVar

from durable_workflows.errors import UsageError

T = TypeVar("T")


class Offer(Generic[T]):
    """Something that workflow code takes, once its process has made it."""

    def __init__(self, user: str) -> None:
        """`user` is the code that needs it, in the words of an error."""
        self._user = user
        self._made: T | None = None

    def make(self, made: T) -> None:
        """Offer it. Call it once, before workflow files are imported."""
        self._made = made

    def there(self) -> T | None:
        """What this process offers; None: it executes no runs of this software."""
        return self._made

    def taken(self) -> T:
        """What this process offers.

        Raises:
            UsageError: it executes no runs of this software.
        """
        if self._made is None:
            raise UsageError(
                f"{self._user} needs a worker of durable-workflows.",
                hint="Start the workflow through durable-workflows, not with DBOS.launch() in a process of your own.",
            )
        return self._made
