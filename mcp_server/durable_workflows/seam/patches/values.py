# pyright: reportPrivateUsage=false
"""dbos's records of values and texts: JSON only, and any text."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import NoReturn, cast

import sqlalchemy
from dbos import _core as dbos_core
from dbos._serialization import (
    DBOSPortableJSONSerializer,
    DefaultSerializer,
)
from dbos._sys_db_postgres import PostgresSystemDatabase
from sqlalchemy import event as sqlalchemy_event

from durable_workflows import fitting
from durable_workflows.database.texts import take_any_text
from durable_workflows.seam import dbos_calls
from durable_workflows.seam.patches import replacing

# dbos's own functions, however often they are replaced.
_serialize = DBOSPortableJSONSerializer.serialize
_create_engine = PostgresSystemDatabase._create_engine
_invoke_step = dbos_core.invoke_step


def refuse_pickle() -> None:
    """Never unpickle values from a database: a crafted row would run its code in the process that reads it."""

    def refuse(cls: DefaultSerializer, serialized_data: str) -> NoReturn:
        raise TypeError("The row is in Python's pickle format, which is not read for safety.")

    replacing.replace(DefaultSerializer, deserialize=refuse)


def record_any_text() -> None:
    """Record lone surrogates, from file names that are not UTF-8, as JSON escapes: Postgres takes no text with such characters.

    They come back as they were. An error about a value that is not JSON names its place. In names, topics, keys and ids such characters are
    replaced.
    """

    def escaped(self: DBOSPortableJSONSerializer, value: object) -> str:
        try:
            text = _serialize(self, value)
        except TypeError as error:
            raise TypeError(f"{error}{_place_of_misfit(value)}") from None
        return fitting.escaped_surrogates(text)

    replacing.replace(DBOSPortableJSONSerializer, serialize=escaped)
    _take_any_text()
    _name_steps_as_recorded()


def _take_any_text() -> None:
    @functools.wraps(_create_engine)
    def created(
        self: PostgresSystemDatabase, url: str, options: dict[str, object]
    ) -> sqlalchemy.Engine:
        engine = _create_engine(self, url, options)
        sqlalchemy_event.listen(engine, "connect", _register_any_text)
        return engine

    replacing.replace(PostgresSystemDatabase, _create_engine=created)


def _register_any_text(connection: object, _record: object) -> None:
    take_any_text(connection)


def _name_steps_as_recorded() -> None:
    """Make a replay compare the name of each step with the recorded name."""
    replacing.replace_in_dbos(_invoke_step, _invoking_as_recorded(_invoke_step))


def _invoking_as_recorded(invoke: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(invoke)
    def invoked(*given: object, step_name: str, **options: object) -> object:
        return invoke(*given, step_name=fitting.text(step_name), **options)

    return invoked


def _place_of_misfit(value: object) -> str:
    run = dbos_calls.current_run()
    step = f"in the result of step {run[1]}, " if run and run[1] is not None else ""
    return f": {step}{next(_misfits(value, 'value'), 'value')}"


def _misfits(value: object, place: str) -> Iterator[str]:
    """The places of values that dbos does not take as JSON, in the order in which it looks."""
    if isinstance(value, Mapping):
        for key, one in cast("Mapping[object, object]", value).items():
            if not isinstance(key, str):
                yield f"{place} has the key {key!r}, which is not a string"
            yield from _misfits(one, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple | set):
        for number, one in enumerate(cast("Iterable[object]", value)):
            yield from _misfits(one, f"{place}[{number}]")
    elif not isinstance(value, str | int | float | date | Decimal | None):
        yield f"{place} is of {type(value).__name__}"
