"""Values as in `values`, from our own kinds of steps and of children."""

from typing import Any

from dbos import DBOS
from values import child_of_values, made, same

from durable_workflows import Retry, map_runs, receive, step, wait_until
from durable_workflows.authoring import project_datasource

datasource = project_datasource()


@step(effect="once")
def happens_once(seed: int) -> Any:
    return made(seed)


@step(retry=Retry(attempts=2, initial=0.001))
def retried(seed: int) -> Any:
    return made(seed)


@datasource.transaction
def transactional(seed: int) -> Any:
    return made(seed)


@DBOS.workflow()
def values_of_helpers(seeds: list[int]) -> list[str]:
    """Say which values of our kinds of steps, and of children by the dozen, did not come as they were."""
    wrong: list[str] = []
    for seed in seeds:
        found = [happens_once(seed), retried(seed), transactional(seed)]
        wrong += [f"{seed}: {one!r}" for one in found if not same(one, made(seed))]
        if not same(wait_until(lambda seed=seed: [made(seed)], every=1), [made(seed)]):
            wrong.append(f"wait_until {seed}")
    outputs = map_runs(child_of_values, seeds).outputs
    wrong += [
        f"run {seed}" for seed, one in zip(seeds, outputs, strict=True) if not same(one, made(seed))
    ]
    receive("go")
    return wrong
