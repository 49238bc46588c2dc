"""Texts from workflow code for the database: names of steps, topics, keys and ids may have characters that Postgres does not store."""

from typing import cast

from psycopg import Connection, DataError
from psycopg.abc import Buffer
from psycopg.types.string import StrDumperUnknown

from durable_workflows import fitting


def take_any_text(connection: object) -> None:
    """Make a connection of psycopg accept every text."""
    cast("Connection[object]", connection).adapters.register_dumper(str, AnyText)


class AnyText(StrDumperUnknown):
    """Writes every text: NUL and lone surrogates are replaced. Lookups replace them too, so they find what was written."""

    def dump(self, obj: str) -> Buffer | None:
        try:
            return super().dump(obj)
        except (DataError, UnicodeEncodeError):
            return super().dump(fitting.text(obj))
