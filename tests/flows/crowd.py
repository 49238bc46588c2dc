"""Steps and transactions that go on for some seconds. Each writes its number into a file when it runs."""

import time
from pathlib import Path

import anyio
from dbos import DBOS
from sqlalchemy import text

from durable_workflows.authoring import project_datasource, project_datasource_async

datasource = project_datasource()
datasource_async = project_datasource_async()
COUNT = 20
SECONDS = 0.1


def note(file: str, number: int) -> int:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{number}\n")
    return 1


@DBOS.step()
def crowd_step(file: str, number: int) -> int:
    time.sleep(SECONDS)
    return note(file, number)


@datasource.transaction
def crowd_transaction(file: str, number: int) -> int:
    datasource.sql_session().execute(text("select pg_sleep(:seconds)"), {"seconds": SECONDS})
    return note(file, number)


@datasource_async.transaction
async def crowd_transaction_async(file: str, number: int) -> int:
    await datasource_async.sql_session().execute(text("select 1"))
    await anyio.sleep(SECONDS)
    return note(file, number)


@DBOS.workflow()
def crowd_steps(file: str) -> int:
    return sum(crowd_step(file, number) for number in range(COUNT))


@DBOS.workflow()
def crowd_transactions(file: str) -> int:
    return sum(crowd_transaction(file, number) for number in range(COUNT))


@DBOS.workflow()
async def crowd_transactions_async(file: str) -> int:
    return sum([await crowd_transaction_async(file, number) for number in range(COUNT)])
