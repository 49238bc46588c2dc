"""Texts that workflow code brings to the database: names of steps, topics, keys and ids may have characters that Postgres takes in no text."""

from typing import cast

from psycopg import Connection, DataError
from psycopg.abc import Buffer
from psycopg.types.string import StrDumperUnknown

from durable_workflows import fitting


def take_any_text(connection: object) -> None:
    """Have a connection of psycopg write every text."""
    cast("Connection[object]", connection).adapters.register_dumper(str, AnyText)


class AnyText(StrDumperUnknown):
    """Writes every text: NUL and lone surrogates are replaced, so what was written with them is found with them, too."""

    def dump(self, obj: str) -> Buffer | None:
        try:
            return super().dump(obj)
        except (DataError, UnicodeEncodeError):
            return super().dump(fitting.text(obj))
