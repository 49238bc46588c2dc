"""Use when one thing is done for many items, only so many at the same time: a queue with limits, failures collected.

Each item is a run of its own, which can be inspected and forked alone. Here it finds the smallest prime factor of a
number. What to change first: `work`, the type of the items, and the limits of the queue.
"""

from dbos import DBOS, SetWorkflowID, WorkflowHandle

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

QUEUE = "queue_parallel_items"
CONCURRENCY = 5  # items running at the same time, over all runs of this workflow
STARTS, SECONDS = 25, 1.0  # at most STARTS items begin within SECONDS


class Failure(TypedDict):
    """An item that failed, and why; `workflow_id` is its run."""

    item: int
    workflow_id: str
    error: str


class Summary(TypedDict):
    """The results in the order of the items, null where an item failed."""

    results: list[int | None]
    succeeded: int
    failures: list[Failure]


@DBOS.workflow()
def queue_parallel(items: list[int] | None = None) -> Summary:
    """Find the smallest prime factor of each number, by default of 0 to 49, of which two have none and fail."""
    # The queue is a row in the database, which this file cannot reach while it is imported; so it is registered here.
    # The call is not recorded: each run and each replay sets the limits again, which changes nothing.
    DBOS.register_queue(
        QUEUE, global_concurrency=CONCURRENCY, limiter={"limit": STARTS, "period": SECONDS}
    )
    items = list(range(50)) if items is None else items
    handles = [enqueue(number, item) for number, item in enumerate(items)]
    results: list[int | None] = []
    failures: list[Failure] = []
    # In the order of the items, not of their ends: an order that depends on time would differ after a crash.
    for item, handle in zip(items, handles, strict=True):
        try:
            results.append(handle.get_result())
        except Exception as error:  # noqa: BLE001 - whatever an item fails with is its result
            results.append(None)
            text = f"{type(error).__name__}: {error}"
            failures.append({"item": item, "workflow_id": handle.workflow_id, "error": text})
        DBOS.set_event("progress", {"done": len(results), "of": len(items)})
    return {"results": results, "succeeded": len(items) - len(failures), "failures": failures}


def enqueue(number: int, item: int) -> WorkflowHandle[int]:
    """Put an item into the queue under an id that is the same on a replay, so no item is started twice."""
    with SetWorkflowID(f"{DBOS.workflow_id}-{number}"):
        return DBOS.enqueue_workflow(QUEUE, queue_parallel_item, item)


@DBOS.workflow()
def queue_parallel_item(item: int) -> int:
    """Do the work for one item. More steps may follow: a crash repeats only the step in which it happened."""
    return work(item)


# For work that calls other services, allow retries: @DBOS.step(retries_allowed=True, max_attempts=4).
@DBOS.step()
def work(item: int) -> int:
    """Return the smallest prime factor. A step runs at least once, so its work must be safe to repeat."""
    if item < 2:
        raise ValueError(f"{item} has no prime factor")
    candidates = range(2, int(item**0.5) + 1)
    return next((factor for factor in candidates if item % factor == 0), item)
