"""A run is taken from an embedded database to a Postgres, and back."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from durable_workflows.database import run_files, tables
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.settings import Settings
from helpers import running_project, until, until_parked
from requirements import proves
from test_carrying import carry, ended, start, status

pytestmark = pytest.mark.anyio


@pytest.fixture
async def projects(
    folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[Engine]]:
    """Three projects: one with code, one in a Postgres, one more with an embedded database."""
    monkeypatch.delenv("DBOS_DATABASE_URL")
    named = {
        name: Settings(project=folder / name, park_after_seconds=0.2, database_url=url)
        for name, url in (("home", None), ("project", database_url), ("last", None))
    }
    async with (
        running_project(named["home"], ["parking", "effects"]) as home,
        running_project(named["project"], []) as there,
        running_project(named["last"], []) as last,
    ):
        yield [home, there, last]


@pytest.mark.long
@pytest.mark.timeout(240)
@proves("carry:goes-on", "carry:not-twice")
async def test_a_waiting_run_goes_to_a_postgres_and_back_and_goes_on(
    projects: list[Engine], tmp_path: Path
) -> None:
    home, there, last = projects
    lines = tmp_path / "lines"
    await start(home, "parked_starts", "travels", file=str(lines))
    await until_parked(home, "travels", "travels-2")
    await carry(home, there, tmp_path / "1.gz", "travels", "cancel")
    await until_parked(there, "travels", "travels-2")
    await carry(there, last, tmp_path / "2.gz", "travels", "cancel")
    assert [await status(one, "travels") for one in (home, there)] == ["CANCELLED"] * 2
    await last.send("travels-2", "go", "went")
    assert (await ended(last, "travels")).output == "child: went"
    assert lines.read_text(encoding="utf-8") == "caller\na\nwent\nchild: went\n"
    assert not (await there.export("travels", tmp_path / "3.gz")).unfinished


@pytest.mark.long
@pytest.mark.timeout(240)
@proves("carry:not-twice")
async def test_a_run_under_way_in_a_postgres_records_no_step_after_its_export(
    projects: list[Engine], tmp_path: Path
) -> None:
    home, there, last = projects
    lines, go = tmp_path / "lines", tmp_path / "go"
    await start(home, "parked_works_later", "late", file=str(lines), until=str(go))
    await until_parked(home, "late")
    await carry(home, there, tmp_path / "1.gz", "late", "cancel")
    await until_parked(there, "late")
    await there.send("late", "go", "went")
    await carry_under_way(there, last, tmp_path / "2.gz", lines)
    go.touch()
    assert (await ended(last, "late")).output == "went"
    assert await status(there, "late") == "CANCELLED"


async def carry_under_way(there: Engine, last: Engine, file: Path, lines: Path) -> None:
    """Take it along while its last step runs, which it does again there."""
    await until(lambda: "went" in lines.read_text(encoding="utf-8"), "its last step runs")
    await carry(there, last, file, "late", "cancel")
    await until(lambda: lines.read_text(encoding="utf-8").count("went") == 2, "it runs again")


@pytest.mark.long
@pytest.mark.timeout(240)
@proves("carry:whole")
async def test_of_two_imports_at_once_into_a_postgres_one_counts(
    projects: list[Engine], tmp_path: Path, database_url: str
) -> None:
    home, there, _ = projects
    file = tmp_path / "run.gz"
    await start(home, "parked_quick", "at-once", file=str(tmp_path / "lines"))
    await ended(home, "at-once")
    await home.export("at-once", file)
    other = Project(Settings(project=there.project, database_url=database_url))
    engine = await other.engine()
    found: list[bool] = []

    async def load(into: Engine) -> None:
        found.append((await into.import_run(file)).existing)

    async with anyio.create_task_group() as group:
        group.start_soon(load, there)
        group.start_soon(load, engine)
    await other.aclose()
    assert sorted(found) == [False, True]


@pytest.mark.long
@pytest.mark.timeout(240)
@proves("carry:not-twice")
async def test_nobody_changes_a_run_while_it_is_exported_and_cancelled(
    projects: list[Engine], tmp_path: Path
) -> None:
    home, there, _ = projects
    await start(home, "parked_starts", "locked", file=str(tmp_path / "lines"))
    await until_parked(home, "locked", "locked-2")
    await carry(home, there, tmp_path / "1.gz", "locked", "cancel")
    database = there.connection.database
    async with (
        await tables.connect(database, role="test") as first,
        await tables.connect(database, role="test") as second,
        first.transaction(),
    ):
        tree = await run_files.tree(first, "locked", lock=True)
        assert sorted(tree.workflow_ids) == sorted(tree.unfinished) == ["locked", "locked-2"]
        await second.execute("set lock_timeout = '100ms'")
        # What dbos does before it records a step, and what a message does to the run that it is for.
        for lock in ("no key update", "key share"):
            with pytest.raises(tables.Error, match="lock timeout"):
                await second.execute(
                    f"select from dbos_project.workflow_status where workflow_uuid = 'locked-2' for {lock}"
                )
    await there.cancel(["locked"], children=True)
