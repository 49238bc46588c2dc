"""The scenarios, played by their scripts: the goals are reached, and a change of what a model reads shows in `surface.json`."""

import json

import pytest

from evals.play import RECORD, SURFACE, play, surface
from evals.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.anyio

TOLERANCE = 0.15  # ids and times differ in length
RENEW = "Run `make evals` and look at what has changed in tests/evals."


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_scripted_player_reaches_the_goal_at_the_recorded_cost(scenario: Scenario) -> None:
    played = await play(scenario, with_model=False)
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))[scenario.name]
    assert played["calls"] == recorded["calls"], RENEW
    assert played["characters"] == pytest.approx(recorded["characters"], rel=TOLERANCE), RENEW


def test_repairs_take_four_calls_at_most() -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    for name in ("other_arguments", "doubt"):
        assert len(recorded[name]["calls"]) <= 4


async def test_what_a_model_reads_first_is_what_was_reviewed() -> None:
    assert await surface() == SURFACE.read_text(encoding="utf-8").strip(), RENEW
