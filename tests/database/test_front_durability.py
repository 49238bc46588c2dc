"""Acknowledged data stays, whatever happens to the process and to the disk."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from database.fronts import END_SECONDS, Front, FrontFailed, copy_of_pristine, eventually, own_front

INSERT_NOISE = """
INSERT INTO t VALUES (%s, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 300)))
"""


@pytest.mark.long
def test_no_acknowledged_commit_is_lost_when_the_process_is_killed_again_and_again(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    acknowledged: set[tuple[int, int]] = set()
    for round_ in range(10):
        with own_front(data) as (own, process):
            with psycopg.connect(own.url) as db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS t (writer int, number int, PRIMARY KEY (writer, number))"
                )
                found = set(db.execute("SELECT writer, number FROM t").fetchall())
                assert acknowledged <= found
            writers = [
                threading.Thread(target=_write, args=(own.url, writer, round_, acknowledged))
                for writer in range(3)
            ]
            for writer in writers:
                writer.start()
            wanted = len(acknowledged) + 10 + 3 * round_
            eventually(lambda wanted=wanted: len(acknowledged) > wanted, "the writers get on")
            process.kill()
            for writer in writers:
                writer.join()
    with own_front(data) as (own, _), psycopg.connect(own.url) as db:
        assert acknowledged <= set(db.execute("SELECT writer, number FROM t").fetchall())
    assert len(acknowledged) > 200


def _write(url: str, writer: int, round_: int, acknowledged: set[tuple[int, int]]) -> None:
    number = round_ * 1_000_000
    try:
        with psycopg.connect(url) as db:
            while True:
                number += 1
                db.execute("INSERT INTO t VALUES (%s, %s)", (writer, number))
                db.commit()
                acknowledged.add((writer, number))
    except psycopg.OperationalError:
        return


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["", "-42\n/pglite/data\n1700000000\n5432\n\n\n"], ids=["empty", "negative"]
)
def test_a_pid_file_that_a_killed_process_left_does_no_harm(
    front: Front, tmp_path: Path, text: str
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    (data / "postmaster.pid").write_text(text, encoding="utf-8")
    with own_front(data) as (own, _), psycopg.connect(own.url) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.long
def test_checkpoints_and_vacuum_happen_by_themselves(front: Front, tmp_path: Path) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    with (
        own_front(data, housekeeping_seconds=0.5) as (own, _),
        psycopg.connect(own.url, autocommit=True) as db,
    ):
        db.execute("CREATE TABLE t (id int, name text)")
        db.execute("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) AS n")
        before = db.execute("SELECT checkpoint_lsn FROM pg_control_checkpoint()").fetchone()
        db.execute("UPDATE t SET id = id + 1")
        eventually(lambda: _vacuumed(db), "the table is vacuumed and analyzed", seconds=20)
        eventually(
            lambda: (
                db.execute("SELECT checkpoint_lsn FROM pg_control_checkpoint()").fetchone()
                != before
            ),
            "there was a checkpoint",
            seconds=20,
        )


def _vacuumed(db: psycopg.Connection) -> bool:
    row = db.execute(
        "SELECT vacuum_count, analyze_count FROM pg_stat_all_tables WHERE relname = 't'"
    ).fetchone()
    return row is not None and row[0] > 0 and row[1] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", folder],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr!r}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """A file that leaves so many bytes on the disk."""
    state = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(state.f_bavail * state.f_frsize - leave))
    return ballast


def write_until_refused(url: str, acknowledged: list[int]) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        for number in range(10_000):
            db.execute(INSERT_NOISE, (number,))
            acknowledged.append(number)


def problem_of_starting(data: Path) -> str:
    try:
        with own_front(data):
            return "none"
    except FrontFailed as failed:
        return str(failed.args[0])


@pytest.mark.long
def test_a_full_disk_loses_nothing_that_was_acknowledged(front: Front, small_disk: Path) -> None:
    data = copy_of_pristine(small_disk / "pgdata")
    acknowledged: list[int] = []
    with own_front(data) as (own, process):
        with psycopg.connect(own.url) as db:
            db.execute("CREATE TABLE t (id int, name text)")
        ballast = fill(small_disk, leave=3_000_000)
        with pytest.raises(psycopg.Error) as refused:
            write_until_refused(own.url, acknowledged)
        assert refused.value.sqlstate == "53100" or process.wait(END_SECONDS) != 0
        process.kill()
        process.wait()
    assert len(acknowledged) > 10
    assert problem_of_starting(data) in ("none", "no-space")
    ballast.unlink()
    with own_front(data) as (own, _), psycopg.connect(own.url) as db:
        found = {number for (number,) in db.execute("SELECT id FROM t").fetchall()}
        assert found >= set(acknowledged)
        db.execute("INSERT INTO t VALUES (-1, 'again')")


@pytest.mark.long
def test_a_stop_keeps_everything_and_needs_no_recovery(front: Front, tmp_path: Path) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    with own_front(data) as (own, process), psycopg.connect(own.url) as db:
        db.execute("CREATE TABLE t (id int)")
        db.commit()
        db.execute("INSERT INTO t VALUES (1)")  # and no commit
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(END_SECONDS) == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            db.execute("SELECT 1")
    with own_front(data) as (own, _), psycopg.connect(own.url) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert "automatic recovery" not in (tmp_path / "pglite.log").read_text(encoding="utf-8")
