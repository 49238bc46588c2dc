"""Use when steps change rows in the project's own database, and must do so exactly once.

It books transfers between accounts: each step is a transaction, which has its record in it. What to change first: the
table, `transfer`, and what the body does when a transfer is refused.
"""

from dbos import DBOS
from sqlalchemy import text

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
from typing_extensions import TypedDict

from durable_workflows.authoring import project_datasource

database = project_datasource()

# In the schema `public`: the project's own tables are for reading only.
TABLE = "public.transactional_steps_accounts"
CREATE = f"CREATE TABLE IF NOT EXISTS {TABLE} (name text PRIMARY KEY, cents bigint NOT NULL CHECK (cents >= 0))"
OPEN = f"INSERT INTO {TABLE} (name, cents) VALUES (:name, :cents) ON CONFLICT (name) DO NOTHING"
ADD = f"UPDATE {TABLE} SET cents = cents + :cents WHERE name = :name"
TAKE = f"UPDATE {TABLE} SET cents = cents - :cents WHERE name = :name AND cents >= :cents"
BALANCES = f"SELECT name, cents FROM {TABLE} ORDER BY name"


class Transfer(TypedDict):
    """How much goes from which account to which."""

    source: str
    target: str
    cents: int


class Result(TypedDict):
    """What each account holds afterwards, and the transfers that were refused, with the reason."""

    balances: dict[str, int]
    refused: list[str]


class NotBooked(Exception):
    """A transfer was refused; nothing of it is in the database."""


# So that it runs without arguments.
SAMPLE: list[Transfer] = [
    {"source": "anna", "target": "ben", "cents": 2500},
    {"source": "ben", "target": "carl", "cents": 90_000},
]


@DBOS.workflow()
def transactional_steps(
    transfers: list[Transfer] | None = None, opening_cents: int = 10_000
) -> Result:
    """Book transfers between accounts, by default two samples, and return what each account holds."""
    chosen = SAMPLE if transfers is None else transfers
    names = sorted({name for one in chosen for name in (one["source"], one["target"])})
    open_accounts(names, opening_cents)
    refused: list[str] = []
    for one in chosen:
        try:
            transfer(one)
        except NotBooked as error:
            refused.append(str(error))
    return {"balances": balances(), "refused": refused}


# Each function below is a step and a transaction: its rows and its record are both there, or neither, and then it is done
# anew. Use only the session in it: requests, mails and other effects belong in steps of their own.


@database.transaction
def open_accounts(names: list[str], cents: int) -> None:
    """Make the table, and the accounts that are not there yet."""
    session = database.sql_session()
    # Of two that make a table at the same moment one would fail.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": TABLE})
    session.execute(text(CREATE))
    for name in names:
        session.execute(text(OPEN), {"name": name, "cents": cents})


@database.transaction
def transfer(one: Transfer) -> None:
    """Take the money from one account and add it to the other. An exception undoes both."""
    session = database.sql_session()
    session.execute(text(ADD), {"name": one["target"], "cents": one["cents"]})
    taken = text(f"{TAKE} RETURNING cents")
    if session.execute(taken, {"name": one["source"], "cents": one["cents"]}).first() is None:
        raise NotBooked(f"{one['source']} has less than {one['cents']}")


@database.transaction
def balances() -> dict[str, int]:
    """What each account holds."""
    return {row.name: row.cents for row in database.sql_session().execute(text(BALANCES))}
