"""The answers of people, as a worker reads them: on a connection of DBOS, inside its transaction."""

from typing import cast

import psycopg
from psycopg.rows import dict_row
from pydantic import JsonValue

from durable_workflows.database import tables
from durable_workflows.settings import Database


def noted(
    database: Database, connection: object, workflow_id: str, step: int
) -> tuple[JsonValue] | None:
    """A person's answer at this step of the run; None if there is no answer yet. The connection is one of psycopg."""
    query = tables.queries(database.schema, database.dbos_schema)["find_answer"]
    own = cast("psycopg.Connection[object]", connection)
    with own.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query, {"workflow_id": workflow_id, "step": step})
        row = cursor.fetchone()
    return None if row is None else (row["answer"],)
