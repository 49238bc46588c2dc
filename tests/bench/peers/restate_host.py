"""The worker of Restate, which does what is in `flow.py`: `python -m tests.bench.peers.restate_host`.

Writes its URL when it has one, and ends when its standard input does.
"""

import asyncio
import os
import socket
import sys
import time
from typing import Any

from hypercorn import Config
from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]
from restate import Workflow, WorkflowContext, WorkflowSharedContext
from restate import app as application

from .times import note

steps = Workflow("bench_steps")
nothing = Workflow("bench_nothing")
receive = Workflow("bench_receive")


def stamp() -> float:
    return time.time()


@steps.main("run")
async def do_steps(ctx: WorkflowContext, arguments: dict[str, Any]) -> list[float]:
    await asyncio.sleep(max(0.0, arguments.get("not_before", 0.0) - time.time()))
    stamps = [await ctx.run_typed("bench_stamp", stamp) for _ in range(arguments["count"])]
    return [stamps[0], stamps[-1]]


@nothing.main("run")
async def do_nothing(_ctx: WorkflowContext, _arguments: dict[str, Any]) -> float:
    return time.time()


@receive.main("run")
async def do_receive(ctx: WorkflowContext, arguments: dict[str, Any]) -> None:
    for number in range(arguments["count"]):
        await ctx.promise(str(number), type_hint=str)
        await ctx.run_typed("bench_note", lambda: note(arguments["log"]))


@receive.handler()
async def deliver(ctx: WorkflowSharedContext, message: dict[str, Any]) -> None:
    await ctx.promise(str(message["number"]), type_hint=str).resolve(message["text"])


async def main() -> None:
    """Serve the workflows at a free port of this machine only."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = Config()
        config.bind = [f"fd://{listener.fileno()}"]
        os.write(1, f"http://127.0.0.1:{listener.getsockname()[1]}\n".encode())
        await serve(
            application([steps, nothing, receive]),
            config,
            shutdown_trigger=lambda: asyncio.to_thread(sys.stdin.read),
        )


if __name__ == "__main__":
    asyncio.run(main())
