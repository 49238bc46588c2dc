"""A database in which other machines may be is closed when its runs go elsewhere: from then on it refuses each change of the project's rows.

One function of the project's schema is all of it. Its comment says where the runs are, and a trigger on each table calls it. When the
function is dropped, with `cascade`, the database is open again.
"""

from psycopg import sql

from durable_workflows.database import copying, tables
from durable_workflows.database.tables import Connection
from durable_workflows.errors import ProjectMoved

_NAME = "moved_away"
_LOCK_SECONDS = 10  # for transactions that other clients have open
_REFUSE = """
create function {}() returns trigger language plpgsql as $$
begin
    raise exception 'The runs of this project were moved to %.', tg_argv[0] using errcode = 'object_not_in_prerequisite_state';
end
$$
"""
_CALL = """
create trigger moved_away before insert or update or delete or truncate on {} for each statement execute function {}({})
"""


async def moved_to(connection: Connection) -> str | None:
    """Where the runs are, if the database is closed."""
    return (await tables.fetch(connection, "closed"))[0]["moved_to"]


async def number(connection: Connection) -> int:
    """The number of this closing; another one has another number."""
    return (await tables.fetch(connection, "closed"))[0]["number"]


async def check(connection: Connection) -> None:
    """Check that the runs of the project did not go elsewhere.

    Raises:
        ProjectMoved: they did.
    """
    if (place := await moved_to(connection)) is not None:
        raise ProjectMoved(
            f"The runs of this project were moved to {place}.",
            hint=f"Unset DBOS_DATABASE_URL there. The data in this Postgres is a backup; to use it instead, run `drop function {connection.database.schema}.{_NAME} cascade` in it.",
        )


async def close(connection: Connection, place: str, *, note: str = "") -> None:
    """Close the database in the open transaction, which also locks out all who write. `note` follows the place until `confirm`.

    Raises:
        psycopg.Error: another client has a transaction open for too long.
    """
    await connection.execute(sql.SQL("set local lock_timeout = {}").format(f"{_LOCK_SECONDS}s"))
    function = _function(connection)
    await connection.execute(sql.SQL(_REFUSE).format(function))
    for table in (await copying.tables_of(connection)).values():
        await connection.execute(sql.SQL(_CALL).format(table.identifier, function, place))
    await confirm(connection, place + note)


async def confirm(connection: Connection, place: str) -> None:
    """Say where the runs are."""
    comment = sql.SQL("comment on function {}() is {}").format(_function(connection), place)
    await connection.execute(comment)


async def set_aside(connection: Connection) -> str | None:
    """Make room in a closed database: both schemas get other names, which keep the backup. Return the new name of our own."""
    if await moved_to(connection) is None:
        return None
    database = connection.database
    taken = {row["name"] for row in await tables.fetch(connection, "schemas")}
    names = (database.schema, database.dbos_schema)
    number = next(n for n in range(1, 1000) if not {f"{one}_before_{n}" for one in names} & taken)
    async with connection.transaction():
        for name in names:
            rename = sql.SQL("alter schema {} rename to {}")
            new = sql.Identifier(f"{name}_before_{number}")
            await connection.execute(rename.format(sql.Identifier(name), new))
    return f"{database.schema}_before_{number}"


def _function(connection: Connection) -> sql.Identifier:
    return sql.Identifier(connection.database.schema, _NAME)
