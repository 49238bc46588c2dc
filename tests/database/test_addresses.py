"""Connections of ours to the embedded database take nothing from libpq's environment; workflow code's own take what they want."""

import asyncio
import os
import subprocess

import psycopg
import pytest
import sqlalchemy
from psycopg.pq import Conninfo

from database.fronts import Front
from durable_workflows.database import tables
from durable_workflows.database.addresses import own_url
from durable_workflows.seam.patches import connections
from durable_workflows.settings import Database
from requirements import proves

pytestmark = pytest.mark.anyio

# Those that libpq sends as settings, beside its connection options.
SETTINGS = {"PGTZ": "Nowhere", "PGDATESTYLE": "nonsense", "PGGEQO": "maybe"}
TELLING = {
    "PGCLIENTENCODING": "LATIN1",
    "PGCONNECT_TIMEOUT": "soon",
    "PGGSSENCMODE": "require",
    "PGHOSTADDR": "192.0.2.1",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGREQUIREAUTH": "none",
    "PGSERVICE": "shop",
    "PGSERVICEFILE": "/nowhere/services",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "system",
    "PGTARGETSESSIONATTRS": "standby",
    "PGUSER": "nobody",
}


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that libpq reads of the environment, set to what makes its connections fail."""
    for option in Conninfo.get_defaults():
        if option.envvar:
            monkeypatch.setenv(option.envvar.decode(), "nonsense")
    for name, value in (SETTINGS | TELLING).items():
        monkeypatch.setenv(name, value)


@proves("database:own-connections")
@pytest.mark.usefixtures("hostile")
async def test_our_connections_take_nothing_from_the_environment(front: Front) -> None:
    database = Database(front.url)
    async with await tables.connect(database, role="test") as connection:
        cursor = await connection.execute(
            "SELECT current_setting('search_path') AS path, current_setting('timezone') AS zone"
        )
        assert await cursor.fetchall() == [{"path": "public", "zone": "UTC"}]
        assert connection.info.encoding == "utf-8"


@proves("database:own-connections")
@pytest.mark.usefixtures("hostile")
def test_the_connections_that_dbos_makes_for_us_take_nothing_from_it_either(front: Front) -> None:
    connections.connect_alone()
    url = sqlalchemy.make_url(own_url(Database(front.url))).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SHOW search_path")).scalar() == "public"
    engine.dispose()


@pytest.mark.usefixtures("hostile")
async def test_the_environment_keeps_what_it_has_for_others(front: Front) -> None:
    async with await tables.connect(Database(front.url), role="test"):
        pass
    assert os.environ["PGSERVICE"] == "shop"
    shown = await asyncio.to_thread(subprocess.check_output, ["printenv", "PGSERVICE"])
    assert shown == b"shop\n"
    with pytest.raises(psycopg.OperationalError, match="service"):
        psycopg.connect(front.url, connect_timeout=5)


def test_an_external_database_keeps_the_behaviour_of_libpq() -> None:
    url = "postgresql://app@db.example.com/app?service=shop"
    assert own_url(Database(url, "durable_workflows_shop", "dbos_shop")) == url
