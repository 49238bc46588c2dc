"""`python -m tests.evals`: play all scenarios, by a model where ANTHROPIC_API_KEY is set, else by their scripts.

The scripts' record is written to `record.json`, whose difference shows what a change of the surface costs.
"""

import json
import sys

import anyio

from .play import RECORD, Played, play, surface_characters
from .players import has_model
from .scenarios import SCENARIOS


async def _main() -> int:
    with_model = has_model()
    record: dict[str, Played] = {}
    failed = 0
    for scenario in SCENARIOS:
        try:
            played = record[scenario.name] = await play(scenario, with_model=with_model)
        except AssertionError as error:
            failed += 1
            _say(f"{scenario.name:12} failed: {error}")
        else:
            _say(f"{scenario.name:12} {played['characters']:6} characters  {played['calls']}")
    surface = await surface_characters()
    _say(f"{'surface':12} {surface:6} characters")
    if not with_model and not failed:
        written = {"surface": surface, "scenarios": record}
        RECORD.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


sys.exit(anyio.run(_main))
