"""`doctor` on an external Postgres, which runs whether or not the project does."""

from pathlib import Path
from typing import LiteralString

import anyio
import pytest

from durable_workflows.cli.doctor import rows
from durable_workflows.cli.doctor.findings import Finding, carried_out
from durable_workflows.database import tables
from durable_workflows.settings import Settings
from helpers import processes_of
from requirements import proves

# Postgres writes nothing into an index that the catalog calls not ready.
_DAMAGE: tuple[LiteralString, ...] = (
    "create table durable_workflows_project.doctored (id int primary key)",
    "insert into durable_workflows_project.doctored select generate_series(1, 10)",
    "update pg_index set indisready = false where indexrelid = 'durable_workflows_project.doctored_pkey'::regclass",
    "insert into durable_workflows_project.doctored select generate_series(11, 20)",
    "update pg_index set indisready = true where indexrelid = 'durable_workflows_project.doctored_pkey'::regclass",
)


def looked(settings: Settings) -> list[Finding]:
    check = rows.of_database(start=False, say=print, show=print)
    return carried_out("database", check, settings)


def _execute(settings: Settings, statements: tuple[LiteralString, ...]) -> None:
    async def execute() -> None:
        assert settings.database_url is not None
        database = settings.database(settings.database_url)
        async with await tables.connect(database, role="test") as connection:
            for statement in statements:
                await connection.execute(statement)

    anyio.run(execute)


@proves("doctor:reads", "doctor:only-looks")
@pytest.mark.parametrize("with_amcheck", [False, True])
def test_an_external_database_is_read_without_a_start(
    with_amcheck: bool, folder: Path, database_url: str
) -> None:
    settings = Settings(project=folder)
    if with_amcheck:
        _execute(settings, ("create extension amcheck",))
    usable, read = looked(settings)
    assert {usable.level, read.level} == {"ok"}
    assert ("by amcheck" in read.said) == with_amcheck
    _execute(settings, _DAMAGE)
    _, wrong = looked(settings)
    assert wrong.said.startswith("The index durable_workflows_project.doctored_pkey is damaged:")
    assert ("lacks matching index tuple" in wrong.said) == with_amcheck
    assert wrong.fix is not None
    assert wrong.fix().startswith("Built the index")
    assert [one.level for one in looked(settings)] == ["ok", "ok"]
    assert not processes_of(folder)


@proves("doctor:finds")
def test_a_database_that_cannot_be_used_is_a_finding(folder: Path) -> None:
    (wrong,) = looked(Settings(project=folder, database_url="postgresql://me:secret@127.0.0.1:9/x"))
    assert wrong.level == "wrong"
    assert "secret" not in wrong.said
