"""The worker of absurd, which does what is in `flow.py`: `python -m tests.bench.peers.absurd_host URL`.

Writes `ready` when it is, and ends when its standard input does.
"""

import os
import sys
import threading
import time
from typing import Any

from absurd_sdk import Absurd, TaskContext

from .times import note


def steps(params: dict[str, Any], ctx: TaskContext) -> list[float]:
    time.sleep(max(0.0, params.get("not_before", 0.0) - time.time()))
    stamps = [ctx.step("bench_stamp", time.time) for _ in range(params["count"])]
    return [stamps[0], stamps[-1]]


def nothing(_params: dict[str, Any], _ctx: TaskContext) -> float:
    return time.time()


def receive(params: dict[str, Any], ctx: TaskContext) -> None:
    for number in range(params["count"]):
        ctx.await_event(f"{ctx.task_id}:{number}", timeout=60)
        ctx.step("bench_note", lambda: note(params["log"]))


def main() -> None:
    """Do the tasks of the database of the first argument."""
    app = Absurd(sys.argv[1])
    for task in (steps, nothing, receive):
        app.register_task(f"bench_{task.__name__}")(task)

    def stop() -> None:
        sys.stdin.read()
        app.stop_worker()

    threading.Thread(target=stop).start()
    os.write(1, b"ready\n")
    app.start_worker()
    app.close()


if __name__ == "__main__":
    main()
