"""What a database has recorded, to compare two states of one project, and whether all of it can be read."""

from dataclasses import dataclass

from psycopg import sql

from durable_workflows.database import copying, tables
from durable_workflows.database.tables import Connection
from durable_workflows.models import UNFINISHED


@dataclass(frozen=True)
class Recorded:
    """What there is of a run."""

    steps: int
    unfinished: bool


async def runs(connection: Connection) -> dict[str, Recorded]:
    """All runs, the newest first."""
    if not (await tables.fetch(connection, "has_dbos_tables"))[0]["there"]:
        return {}
    rows = await tables.fetch(connection, "recorded_runs")
    return {row["workflow_id"]: Recorded(row["steps"], row["status"] in UNFINISHED) for row in rows}


async def read_all(connection: Connection) -> None:
    """Read each value of each table of the project.

    Raises:
        psycopg.Error: something cannot be read.
    """
    for table in (await copying.tables_of(connection)).values():
        await connection.execute(
            sql.SQL("select sum(length(one::text)) from {} as one").format(table.identifier)
        )
