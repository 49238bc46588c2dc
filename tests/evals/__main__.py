"""`python -m tests.evals`: play all scenarios, by a model where ANTHROPIC_API_KEY is set, else by their scripts.

The scripts' record is written to `record.json`, and what a model reads before it does anything to `surface.json`: their differences show
what a change costs.
"""

import json
import sys

import anyio

from .play import RECORD, SURFACE, Played, play, surface
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
    shown = await surface()
    _say(f"{'surface':12} {len(shown):6} characters")
    if not with_model and not failed:
        RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        SURFACE.write_text(shown + "\n", encoding="utf-8")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


sys.exit(anyio.run(_main))
