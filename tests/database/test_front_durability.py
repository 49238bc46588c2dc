"""What was acknowledged stays, whatever happens to the process and to the disk."""

import subprocess
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from database.fronts import Front, FrontFailed, copy_of_pristine, eventually, own_front

COUNTER = """
import fs from 'node:fs'
let count = 0
const { fdatasyncSync } = fs
fs.fdatasyncSync = (descriptor) => { count += 1; fs.writeFileSync(process.env.PATH_OF_COUNT, String(count)); return fdatasyncSync(descriptor) }
"""

INSERT_NOISE = """
INSERT INTO t VALUES (%s, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 300)))
"""


def test_each_commit_reaches_the_disk_before_it_is_acknowledged(front: Front, tmp_path: Path) -> None:
    count = tmp_path / "count"
    hook = tmp_path / "hook.mjs"
    hook.write_text(COUNTER.replace("process.env.PATH_OF_COUNT", f"'{count}'"), encoding="utf-8")
    with own_front(copy_of_pristine(tmp_path / "pgdata"), flags=("--import", str(hook))) as (own, _):
        with psycopg.connect(own.url, autocommit=True) as db:
            db.execute("CREATE TABLE t (id int)")
            for number in range(20):
                before = int(count.read_text(encoding="utf-8"))
                db.execute("INSERT INTO t VALUES (%s)", (number,))
                assert int(count.read_text(encoding="utf-8")) > before
            before = int(count.read_text(encoding="utf-8"))
            db.execute("SELECT 1")
            assert int(count.read_text(encoding="utf-8")) == before


def test_no_acknowledged_commit_is_lost_when_the_process_is_killed_again_and_again(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    acknowledged: set[tuple[int, int]] = set()
    for round_ in range(10):
        with own_front(data) as (own, process):
            with psycopg.connect(own.url) as db:
                db.execute("CREATE TABLE IF NOT EXISTS t (writer int, number int, PRIMARY KEY (writer, number))")
                found = set(db.execute("SELECT writer, number FROM t").fetchall())
                assert acknowledged <= found
            writers = [threading.Thread(target=_write, args=(own.url, writer, round_, acknowledged)) for writer in range(3)]
            for writer in writers:
                writer.start()
            before = len(acknowledged)
            eventually(lambda before=before: len(acknowledged) > before + 20 + 7 * round_, "the writers get on")
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


@pytest.mark.parametrize("pid", ["42", "-42", "1"])
def test_a_pid_file_that_a_killed_process_left_does_no_harm(front: Front, tmp_path: Path, pid: str) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    (data / "postmaster.pid").write_text(f"{pid}\n/pglite/data\n1700000000\n5432\n\n\n", encoding="utf-8")
    with own_front(data) as (own, _), psycopg.connect(own.url) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_checkpoints_and_vacuum_happen_by_themselves(front: Front, tmp_path: Path) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    with own_front(data, housekeeping_seconds=0.5) as (own, _), psycopg.connect(own.url, autocommit=True) as db:
        db.execute("CREATE TABLE t (id int, name text)")
        db.execute("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) AS n")
        before = db.execute("SELECT checkpoint_lsn FROM pg_control_checkpoint()").fetchone()
        db.execute("UPDATE t SET id = id + 1")
        eventually(lambda: _vacuumed(db), "the table is vacuumed and analyzed", seconds=20)
        eventually(
            lambda: db.execute("SELECT checkpoint_lsn FROM pg_control_checkpoint()").fetchone() != before,
            "there was a checkpoint",
            seconds=20,
        )


def _vacuumed(db: psycopg.Connection) -> bool:
    row = db.execute("SELECT vacuum_count, analyze_count FROM pg_stat_all_tables WHERE relname = 't'").fetchone()
    return row is not None and row[0] > 0 and row[1] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", folder], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr!r}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(front: Front, small_disk: Path) -> None:
    data = copy_of_pristine(small_disk / "pgdata")
    ballast = small_disk / "ballast"
    acknowledged = 0
    with own_front(data) as (own, process):
        with pytest.raises(psycopg.Error) as refused, psycopg.connect(own.url, autocommit=True) as db:
            db.execute("CREATE TABLE t (id int, name text)")
            ballast.write_bytes(b"\0" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 3_000_000))
            for number in range(10_000):
                db.execute(INSERT_NOISE, (number,))
                acknowledged = number + 1
        assert refused.value.sqlstate == "53100" or process.wait(10) != 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert acknowledged > 10
    try:
        with own_front(data):
            pass
    except FrontFailed as failed:
        assert failed.args[0] == "no-space"
    ballast.unlink()
    with own_front(data) as (own, _), psycopg.connect(own.url) as db:
        assert db.execute("SELECT count(*) FROM t WHERE id < %s", (acknowledged,)).fetchone() == (acknowledged,)
        db.execute("INSERT INTO t VALUES (-1, 'again')")


def test_a_stop_keeps_everything_and_needs_no_recovery(front: Front, tmp_path: Path) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    with own_front(data) as (own, process), psycopg.connect(own.url) as db:
        db.execute("CREATE TABLE t (id int)")
        db.commit()
        db.execute("INSERT INTO t VALUES (1)")  # and no commit
        assert process.stdin is not None
        began = time.monotonic()
        process.stdin.close()
        assert process.wait(10) == 0
        assert time.monotonic() - began < 6
        with pytest.raises(psycopg.errors.AdminShutdown):
            db.execute("SELECT 1")
    with own_front(data) as (own, _), psycopg.connect(own.url) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert "automatic recovery" not in (tmp_path / "pglite.log").read_text(encoding="utf-8")
