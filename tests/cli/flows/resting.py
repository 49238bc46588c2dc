"""Runs that do nothing for a while: one sleeps, one waits for its next attempt."""

from dbos import DBOS


@DBOS.step(retries_allowed=True, interval_seconds=600, max_attempts=3)
def never_works() -> None:
    raise ConnectionError("the shop is closed")


@DBOS.workflow()
def tries_again() -> None:
    """Fail, and wait for the next attempt."""
    never_works()


@DBOS.workflow()
def sleeps_long() -> None:
    """Sleep for an hour."""
    DBOS.sleep(3600)


@DBOS.workflow()
def chatters(lines: int) -> None:
    """Print so many lines."""
    for number in range(lines):
        print(f"chatter {number}")  # noqa: T201
