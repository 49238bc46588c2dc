"""Data directories of other PGlites: which of them open, and what is said of the others."""

import hashlib
import json
import signal
import struct
from collections.abc import Sequence
from pathlib import Path

import anyio
import psycopg
import pytest

from database.fronts import Front, FrontFailed, copy_of_pristine, own_front
from durable_workflows.errors import DataDirectoryIncompatible
from durable_workflows.pglite.node import node
from durable_workflows.pglite.server import running_pglite
from durable_workflows.settings import Settings
from npm_packages import installed
from requirements import proves

pytestmark = pytest.mark.anyio

OLDER = Path(__file__).with_name("older")
FIRST = "pglite-0.5.14"  # the earliest that any release had
MADE = """
    create table runs (id int primary key, output jsonb, note text);
    insert into runs select n, jsonb_build_object('n', n), repeat(md5(n::text), 200) from generate_series(1, 500) as n;
    delete from runs where id % 5 = 0;
    update runs set note = 'changed' where id = 1;
    select count(*)::int as runs from runs
"""
CHECKED = (
    "select count(*)::int as runs, max(note) filter (where id = 1) as note, sum((output->>'n')::int)::int as sum,"
    " md5(string_agg(note, '' order by id)) as notes from runs"
)


async def earlier(name: str, data: Path, sql: str, *options: str) -> object:
    """The rows that an earlier PGlite gives in this data directory."""
    modules = await installed(OLDER)
    script = str(OLDER / "older.mjs")
    done = await anyio.run_process(
        [str(node()), "--no-warnings", script, str(modules), name, str(data), sql, *options],
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if options else 0), done.stderr.decode()
    return json.loads(done.stdout)


def ours(data: Path, last: str, *, before: Sequence[str] = ()) -> list[dict[str, object]]:
    """The rows of the last statement, as our front gives them and the earlier PGlite would."""
    with own_front(data) as (own, _), psycopg.connect(own.url, autocommit=True) as db:
        for statement in before:
            db.execute(statement.encode())
        cursor = db.execute(last.encode())
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.long
@proves("upgrade:directory")
@pytest.mark.parametrize("end", [(), ("--killed",)], ids=["stopped", "killed"])
async def test_a_data_directory_of_the_first_release_opens_with_all_that_it_has(
    front: Front, tmp_path: Path, end: tuple[str, ...]
) -> None:
    data = tmp_path / "pgdata"
    assert await earlier(FIRST, data, MADE, *end) == [{"runs": 400}]
    (found,) = ours(data, CHECKED)
    notes = "".join(["changed", *map(note, range(2, 501))])
    assert found == {"runs": 400, "note": "changed", "sum": 100_000, "notes": md5(notes)}
    more = "insert into runs values (1000, '{}', 'of ours')"
    counted = "select count(*)::int as runs from runs"
    assert ours(data, counted, before=[more]) == [{"runs": 401}]
    assert await earlier(FIRST, data, "select note from runs where id = 1000") == [
        {"note": "of ours"}
    ]


@pytest.mark.long
@proves("upgrade:directory")
async def test_the_first_release_opens_a_data_directory_that_ours_has_made(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    before = ours(data, CHECKED, before=MADE.split(";\n"))
    assert await earlier(FIRST, data, CHECKED) == before


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def note(number: int) -> str:
    """What `MADE` has put into a row and left there."""
    return md5(str(number)) * 200 if number % 5 else ""


def texts(data: Path) -> dict[str, bytes]:
    """All files of a data directory, except the one that says who has it open."""
    files = {str(path.relative_to(data)): path for path in data.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "postmaster.pid"}


@pytest.mark.long
@proves("upgrade:refused")
async def test_a_data_directory_of_an_earlier_major_version_is_refused_and_stays_as_it_is(
    front: Front, tmp_path: Path
) -> None:
    data = tmp_path / "pgdata"
    await earlier("postgres-17", data, MADE)
    before = texts(data)
    with pytest.raises(FrontFailed) as refused, own_front(data):
        pass
    reason, said = refused.value.args
    assert reason == "other-postgres"
    assert "initialized by PostgreSQL version 17" in said
    assert "this version 18" in said
    assert texts(data) == before
    assert await earlier("postgres-17", data, "select count(*)::int as runs from runs") == [
        {"runs": 400}
    ]


@proves("upgrade:refused")
async def test_a_data_directory_of_another_major_version_is_an_error_of_its_own(
    front: Front, tmp_path: Path
) -> None:
    settings = Settings(project=tmp_path)
    settings.state.mkdir()
    data = copy_of_pristine(settings.state / "pgdata")
    (data / "PG_VERSION").write_text("19\n", encoding="utf-8")
    with pytest.raises(DataDirectoryIncompatible, match=r"version 19, .* version 18") as refused:
        async with running_pglite(settings, password="x", port=0):
            pass
    assert "Nothing was changed" in refused.value.hint


@proves("upgrade:refused")
def test_a_data_directory_with_another_catalog_is_refused_as_one_of_another_postgres(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    control = data / "global" / "pg_control"
    control.write_bytes(with_catalog(control.read_bytes(), 202_707_011))
    with (
        pytest.raises(FrontFailed, match="CATALOG_VERSION_NO 202707011") as refused,
        own_front(data),
    ):
        pass
    assert refused.value.args[0] == "other-postgres"


def with_catalog(control: bytes, version: int) -> bytes:
    """Postgres's `pg_control` with another version of the catalog, and its checksum."""
    catalog, checksum = 12, 292
    changed = control[:catalog] + struct.pack("<I", version) + control[catalog + 4 : checksum]
    return changed + struct.pack("<I", crc32c(changed)) + control[checksum + 4 :]


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum, which Postgres uses."""
    value = 0xFFFF_FFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F6_3B78 if value & 1 else 0)
    return value ^ 0xFFFF_FFFF
