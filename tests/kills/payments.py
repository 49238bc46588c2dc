"""Runs of steps that happen at most once, one after the other, and somebody who resolves their doubts by the truth."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.abc
from pydantic import JsonValue

from durable_workflows import topics
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import NotInDoubt
from durable_workflows.models import Ended, OpenWait, Resolution, StartRequest
from kills.traffic import Traffic

_STEPS = 6  # of a run: its body is short, so that it may be replayed often
_LOOK_SECONDS = 0.5
_SLOTS = {  # by name, the workflow and whether its steps look up what they have done
    "pays-told": ("kept_pays", False),
    "pays-found": ("kept_pays", True),
    "pays-told-async": ("kept_pays_async", False),
    "pays-found-async": ("kept_pays_async", True),
}


class Payments:
    """Some such runs at a time, until the end."""

    def __init__(self, traffic: Traffic, folder: Path, prefix: str) -> None:
        folder.mkdir()
        (folder / "effects").touch()
        self._traffic = traffic
        self._folder = folder
        self._prefix = prefix
        self.outputs: dict[str, Sequence[JsonValue]] = {}
        self.resolved: Counter[bool] = Counter()

    def begin(self, group: anyio.abc.TaskGroup) -> None:
        """Start the runs."""
        for slot in _SLOTS:
            group.start_soon(self._pay, slot)

    def end(self) -> None:
        """Let the runs end after their current step."""
        (self._folder / "over").touch()

    def check(self) -> None:
        """Each step of each run has had its effect once."""
        lines = (self._folder / "effects").read_text(encoding="utf-8").splitlines()
        effects = Counter(line.rpartition(" ")[0] for line in lines)
        steps = {
            f"{run} {number}": 1
            for run, hows in self.outputs.items()
            for number in range(1, len(hows) + 1)
        }
        assert effects == steps

    async def _pay(self, slot: str) -> None:
        workflow, finds = _SLOTS[slot]
        number = 0
        while not (self._folder / "over").exists():
            run = f"{self._prefix}{slot}-{number}"
            args: dict[str, JsonValue] = {
                "folder": str(self._folder),
                "finds": finds,
                "most": _STEPS,
            }
            request = StartRequest(name=workflow, args=args, workflow_id=run)
            await self._traffic.surely(lambda engine, request=request: engine.start(request))
            self.outputs[run] = await self._output(run)
            number += 1

    async def _output(self, run: str) -> Sequence[JsonValue]:
        """What the run returns in the end; its doubts are resolved."""

        async def ended(engine: Engine) -> Sequence[Ended]:
            return (await engine.reader.wait([run], timeout_seconds=_LOOK_SECONDS)).done

        while not (found := await self._traffic.surely(ended)):
            for wait in await self._traffic.surely(lambda engine: engine.reader.waits(run)):
                await self._resolve(run, wait)
        assert found[0].status == "SUCCESS", found
        assert isinstance(found[0].output, list)
        return found[0].output

    async def _resolve(self, run: str, wait: OpenWait) -> None:
        step = topics.doubted_step(wait.topic)
        if step is None:
            return
        effects = (self._folder / "effects").read_text(encoding="utf-8").splitlines()
        happened = f"{run} {step}" in {line.rpartition(" ")[0] for line in effects}
        result: JsonValue = {"how": "said", "is_over": False} if happened else None
        said = Resolution(happened=happened, result=result)
        try:
            await self._traffic.surely(
                lambda engine: engine.resolve_step(run, step, said, who="the test", how="tool")
            )
        except NotInDoubt:  # the call before this one had arrived
            return
        self.resolved[happened] += 1
