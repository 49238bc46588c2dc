"""Steps that are transactions on the project's own database: orders and stock in tables of the author's."""

import asyncio
import os
import signal
import time
from pathlib import Path

from dbos import DBOS, SQLAlchemyDatasource
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from durable_workflows import idempotency_key
from durable_workflows.authoring import project_datasource, project_datasource_async

datasource = project_datasource()
datasource_async = project_datasource_async()
other = SQLAlchemyDatasource.create("sqlite:///other.db")

TABLE = "CREATE TABLE IF NOT EXISTS public.orders (id serial PRIMARY KEY, run text NOT NULL, number integer NOT NULL)"
INSERT = text("INSERT INTO public.orders (run, number) VALUES (:run, :number) RETURNING id")


class NotInStock(Exception):
    """What an author raises."""


def values(number: int) -> dict[str, object]:
    return {"run": DBOS.workflow_id, "number": number}


@datasource.transaction
def make_table() -> None:
    datasource.sql_session().execute(text("SELECT pg_advisory_xact_lock(4711)"))
    datasource.sql_session().execute(text(TABLE))


@datasource.transaction
def order(number: int, seconds: float = 0.0) -> int:
    """Insert in two statements, with time between: a process can die anywhere in it."""
    session = datasource.sql_session()
    made: int = session.execute(INSERT, values(number)).scalar_one()
    time.sleep(seconds)
    session.execute(text("UPDATE public.orders SET number = number WHERE id = :id"), {"id": made})
    return number


@datasource_async.transaction
async def order_async(number: int, seconds: float = 0.0) -> int:
    session = datasource_async.sql_session()
    made: int = (await session.execute(INSERT, values(number))).scalar_one()
    await asyncio.sleep(seconds)
    await session.execute(
        text("UPDATE public.orders SET number = number WHERE id = :id"), {"id": made}
    )
    return number


@datasource.transaction(isolation_level="READ COMMITTED")
def refused(number: int) -> None:
    datasource.sql_session().execute(INSERT, values(number))
    raise NotInStock(f"no {number} in stock")


@datasource.transaction
def asks_dbos(number: int) -> str:
    datasource.sql_session().execute(INSERT, values(number))
    return idempotency_key()


@datasource.transaction
def orders_within(number: int) -> int:
    datasource.sql_session().execute(INSERT, values(number))
    return order(number + 1)  # deterministic: a step in a step is what is tested


@datasource.transaction
def stands_idle(file: str) -> None:
    datasource.sql_session().execute(INSERT, values(1))
    with Path(file).open("a", encoding="utf-8") as attempts:
        attempts.write("x")
    time.sleep(3)
    datasource.sql_session().execute(INSERT, values(2))


def die_once(session: Session, moment: str, file: str) -> None:
    """End the process at a moment of the session, the first time."""

    def die(_session: Session) -> None:
        if Path(file).exists():
            Path(file).unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(session, moment, die)


@datasource.transaction
def order_and_die(moment: str, file: str) -> None:
    die_once(datasource.sql_session(), moment, file)
    datasource.sql_session().execute(INSERT, values(1))


@datasource_async.transaction
async def order_and_die_async(moment: str, file: str) -> None:
    session = datasource_async.sql_session()
    die_once(session.sync_session, moment, file)
    await session.execute(INSERT, values(1))


@other.transaction
def order_elsewhere(moment: str, file: str) -> dict[str, int]:
    session = other.sql_session()
    die_once(session, moment, file)
    session.execute(text("CREATE TABLE IF NOT EXISTS orders (run text)"))
    session.execute(text("INSERT INTO orders VALUES (:run)"), {"run": DBOS.workflow_id})
    count = "SELECT count(*) FROM orders WHERE run = :run"
    return {"orders": session.execute(text(count), {"run": DBOS.workflow_id}).scalar_one()}


@datasource.transaction
def order_when_let(file: str) -> int:
    """Hold while the file exists, before the first statement; return how often this has begun."""
    attempts = Path(f"{file}.attempts")
    with attempts.open("a", encoding="utf-8") as begun:
        begun.write("x")
    number = len(attempts.read_text(encoding="utf-8"))
    while Path(file).exists():
        time.sleep(0.02)
    datasource.sql_session().execute(INSERT, values(number))
    return number


@DBOS.step()
def recorded(number: int) -> int:
    return number


@DBOS.workflow()
def transactional_orders(count: int = 3, seconds: float = 0.0) -> list[int]:
    """Order so many times, one transaction each, with other steps between."""
    make_table()
    return [recorded(order(number, seconds)) for number in range(count)]


@DBOS.workflow()
async def transactional_orders_async(count: int = 3, seconds: float = 0.0) -> list[int]:
    """As `transactional_orders`, with sync steps, which block the event loop, between."""
    make_table()
    return [recorded(await order_async(number, seconds)) for number in range(count)]


@DBOS.workflow()
def transactional_dying(moment: str, file: str) -> int:
    """Order once, in a process that ends at that moment."""
    make_table()
    order_and_die(moment, file)
    return order(2)


@DBOS.workflow()
async def transactional_dying_async(moment: str, file: str) -> int:
    """As `transactional_dying`."""
    make_table()
    await order_and_die_async(moment, file)
    return await order_async(2)


@DBOS.workflow()
def transactional_elsewhere(moment: str, file: str) -> dict[str, int]:
    """Order once in another database, in a process that ends at that moment."""
    return order_elsewhere(moment, file)


@DBOS.workflow()
def transactional_held(file: str) -> int:
    """Order when the file is gone."""
    make_table()
    return order_when_let(file)


@DBOS.workflow()
def transactional_refused() -> str:
    """Order what is refused, then something else."""
    make_table()
    try:
        refused(1)
    except NotInStock as error:
        order(2)
        return str(error)
    return "not refused"


@DBOS.workflow()
def transactional_misuse(which: str) -> object:
    """Do in a transaction what cannot be done there."""
    make_table()
    return {"dbos": asks_dbos, "nested": orders_within}[which](1)


@DBOS.workflow()
def transactional_idle(file: str) -> None:
    """Leave a transaction idle for too long."""
    make_table()
    stands_idle(file)
