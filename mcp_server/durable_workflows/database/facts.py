"""Facts about root runs (those that no other run started): which have ended, which ask something, which are unfinished."""

from datetime import UTC, datetime

from durable_workflows.database.tables import Fetch, Row
from durable_workflows.models import Asking, Fact, Going, News, Preview
from durable_workflows.settings import APPLICATION

CONNECTED_SECONDS = 90.0  # servers report every 30 seconds that their clients are connected
_MOST = 1000  # facts in one look
_NEWEST = 20
_FAILED = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_FIRST = datetime.fromtimestamp(0, UTC)


async def since(fetch: Fetch, after: datetime) -> list[Fact]:
    """The ends and questions since that moment, the oldest first."""
    ends = await _ended(fetch, after, _MOST)
    return sorted([*ends, *await _asking(fetch, after)], key=lambda one: one.at)


async def news(fetch: Fetch) -> News:
    """The state of the project, for a returning user."""
    going = await fetch("unfinished_roots", application=APPLICATION, count=_NEWEST)
    here = await fetch("last_here", seconds=CONNECTED_SECONDS)
    return News(
        unfinished=going[0]["runs"] if going else 0,
        going=[Going.model_validate(row) for row in going],
        asks=await _asking(fetch, _FIRST),
        ended=await _ended(fetch, _FIRST, _NEWEST),
        last_here={row["client"]: row["at"] for row in here},
    )


async def _ended(fetch: Fetch, after: datetime, count: int) -> list[Fact]:
    milliseconds = int(after.timestamp() * 1000)
    about = {"application": APPLICATION, "seconds": CONNECTED_SECONDS, "count": count}
    return [_end(row) for row in await fetch("ended_roots", after=milliseconds, **about)]


async def _asking(fetch: Fetch, after: datetime) -> list[Fact]:
    about = {"application": APPLICATION, "seconds": CONNECTED_SECONDS, "count": _MOST}
    return [_question(row) for row in await fetch("asking_since", after=after, **about)]


def _end(row: Row) -> Fact:
    return Fact(
        event="failed" if row["status"] in _FAILED else "ended",
        workflow_id=row["workflow_id"],
        name=row["name"],
        status=row["status"],
        at=datetime.fromtimestamp(row["at"] / 1000, UTC),
        error=Preview.recorded(row["error"], row["error_length"], row["serialization"]),
        output_start=row["output_start"],
        told=row["told"],
    )


def _question(row: Row) -> Fact:
    return Fact(
        event="asks",
        workflow_id=row["root_id"],
        name=row["name"],
        status=row["status"],
        at=row["since"],
        asking=Asking.model_validate(row),
        told=row["told"],
    )
