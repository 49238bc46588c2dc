"""Runs that fail, that are large, and that say too much."""

import os
import sys
import time

from dbos import DBOS


@DBOS.step()
def large(size: int) -> str:
    return "x" * size


@DBOS.workflow()
def large_outputs(steps: int, size: int) -> int:
    """Steps with large outputs."""
    return sum(len(large(size)) for _ in range(steps))


@DBOS.step()
def noise(size: int) -> str:
    return os.urandom(size // 2).hex()  # so that it cannot be compressed


@DBOS.workflow()
def much_noise(steps: int, size: int) -> int:
    """Steps whose outputs take their full size on the disk."""
    return sum(len(noise(size)) for _ in range(steps))


@DBOS.step()
def fail(message: str) -> None:
    raise ValueError(message)


@DBOS.step(retries_allowed=True, interval_seconds=0.2, max_attempts=20)
def fail_slowly() -> None:
    time.sleep(0.5)
    raise ValueError("again")


@DBOS.workflow()
def retries() -> None:
    """Fail in a step that is tried again and again."""
    fail_slowly()


@DBOS.step()
def fine() -> str:
    return "fine"


@DBOS.workflow()
def fails(message: str) -> None:
    """Fail in the second step."""
    fine()
    fail(message)


@DBOS.workflow()
def catches(file: str, seconds: float) -> str:
    """Catch a step's error by its class, then take a while: a replay must take the same way."""
    try:
        fail("caught")
    except ValueError:
        slow(file, seconds)
        return "as a ValueError"
    return "not at all"


@DBOS.step()
def slow(file: str, seconds: float) -> None:
    with open(file, "a", encoding="utf-8") as lines:
        lines.write("begun\n")
    time.sleep(seconds)


@DBOS.workflow()
def one_slow_step(file: str, seconds: float) -> None:
    """One step that takes its time."""
    slow(file, seconds)


@DBOS.workflow()
def noisy() -> str:
    """Print to where the protocol would be."""
    print("printed")
    sys.stdout.flush()
    os.write(1, b"written\n")
    return "said"


@DBOS.step()
def leave(status: str) -> None:
    sys.exit(status)


@DBOS.step()
async def leave_async(status: str) -> None:
    sys.exit(status)


@DBOS.workflow()
def exits_in_step(status: str) -> None:
    """Call sys.exit in a step."""
    leave(status)


@DBOS.workflow()
async def exits_in_async_step(status: str) -> None:
    """Call sys.exit in an async step."""
    await leave_async(status)


@DBOS.workflow()
def exits_in_body(status: str) -> None:
    """Call sys.exit in the workflow's own code."""
    fine()
    sys.exit(status)


@DBOS.step()
def work_slowly(begun: str, go_on: str) -> str:
    with open(begun, "a") as file:
        file.write("begun\n")
    while not os.path.exists(go_on):
        time.sleep(0.05)
    return "done"


@DBOS.workflow()
def slow_step(begun: str, go_on: str) -> str:
    """A step that takes until a file is there."""
    return work_slowly(begun, go_on)
