"""The times of a schedule, as dbos reckons them: by the same library.

Importing it takes a twelfth of a second, so that an engine does so only for a schedule.
"""

import itertools
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Protocol, cast

import croniter as library

from durable_workflows import wording
from durable_workflows.errors import InvalidArguments

_MOST_MISSED = 1000  # times of one schedule: more would keep its worker from other schedules
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_WITH_SECONDS = ("second", *_FIELDS)
_HINT = 'Pass a cron expression of five fields, such as "0 3 * * *" (each day at 3:00), or of six, the first of which is for seconds.'


class _Times(Protocol):
    def get_next(self, kind: type[datetime]) -> datetime: ...
    def get_prev(self, kind: type[datetime]) -> datetime: ...


def check(cron: str) -> None:
    """Check a cron expression.

    Raises:
        InvalidArguments: naming the wrong field.
    """
    fields = cron.split()
    names = {5: _FIELDS, 6: _WITH_SECONDS}.get(len(fields))
    if names is None and not (len(fields) == 1 and _is_valid(cron)):  # such as @daily
        said = f"The cron expression {wording.short(cron, 100)!r} has {wording.counted(len(fields), 'field')}. Nothing was done."
        raise InvalidArguments(said, hint=_HINT)
    for place, (name, field) in enumerate(zip(names or (), fields, strict=False)):
        alone = ["*"] * len(fields)
        alone[place] = field
        # A field "r" is drawn anew at each look, so that no two workers agree on a time.
        if field.lower().startswith("r") or not _is_valid(" ".join(alone)):
            said = f"Field {place + 1} of the cron expression {cron!r}, the {name}, is wrong: {wording.short(field, 50)!r}. Nothing was done."
            raise InvalidArguments(said, hint=_HINT)
    if not _is_valid(cron) or not _comes(cron):
        raise InvalidArguments(
            f"No time fits the cron expression {cron!r}. Nothing was done.", hint=_HINT
        )


def check_zone(name: str) -> None:
    """Check the name of a time zone.

    Raises:
        InvalidArguments: there is none, with the closest names.
    """
    known = zoneinfo.available_timezones()
    if name not in known:
        close = wording.closest(name, known)
        raise InvalidArguments(
            f"There is no time zone {wording.short(name, 100)!r}.{close} Nothing was done.",
            hint='Pass the name of an IANA time zone, such as "Europe/Berlin", or "UTC".',
        )


def next_times(cron: str, zone: str | None, number: int) -> list[datetime]:
    """The next times of a schedule, in its time zone; none, if its cron expression or its time zone is not known here."""
    try:
        times = _times(cron, datetime.now(_zone(zone)))
        return [times.get_next(datetime) for _ in range(number)]
    except (ValueError, LookupError, OSError):  # those of croniter are ValueErrors
        return []


def last_times(cron: str, zone: str | None, *, since: datetime) -> list[datetime]:
    """The times of a schedule that have passed since then, the first of them first: the newest thousand.

    Raises:
        ValueError, LookupError, OSError: its cron expression or its time zone is not known here.
    """
    past = _passed(_times(cron, datetime.now(_zone(zone))))
    newest = itertools.islice(past, _MOST_MISSED)
    return [*itertools.takewhile(lambda time: time > since, newest)][::-1]


def _passed(times: _Times) -> Iterator[datetime]:
    while True:
        yield times.get_prev(datetime)


def _times(cron: str, start: datetime) -> _Times:
    return cast("_Times", library.croniter(cron, start, second_at_beginning=True))


def _zone(name: str | None) -> tzinfo:
    return zoneinfo.ZoneInfo(name) if name else UTC


def _is_valid(cron: str) -> bool:
    return library.croniter.is_valid(cron, second_at_beginning=True)


def _comes(cron: str) -> bool:
    return bool(next_times(cron, None, 1))
