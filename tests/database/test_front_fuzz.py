"""Random clients for a while; a longer run by hand is `python -m database.fuzz URL SECONDS SEED` in `tests/`."""

import time
from pathlib import Path

import pytest

from database.fronts import Front, copy_of_pristine, own_front
from database.fuzz import look, prepare, round_of
from requirements import proves

SECONDS = 60.0
SEEDS = 1000  # a slow machine tries fewer


@pytest.mark.long
@proves("database:one-client-cannot-end-it")
def test_whatever_clients_send_others_find_the_database_as_it_was(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    with own_front(data, idle_transaction_seconds=2) as (own, process):
        prepare(own)
        end = time.monotonic() + SECONDS
        for seed in range(SEEDS):
            round_of(seed, own)
            assert process.poll() is None, f"seed {seed} ended the process"
            if time.monotonic() > end:
                break
        look(own)
    assert process.returncode == 0
