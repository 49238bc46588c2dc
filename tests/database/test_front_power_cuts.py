"""The power fails at any moment: what a client was answered is on the disk, and the directory opens."""

import logging
import os
import random
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString, TypeVar

import anyio
import psycopg
import pytest
from psycopg import sql

from database.disks import Disk, recording
from database.fronts import copy_of_pristine, own_front
from durable_workflows.database import integrity
from durable_workflows.settings import Database
from requirements import proves

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

T = TypeVar("T")
logger = logging.getLogger(__name__)

LIVES, CUTS = 5, 8  # takes some minutes
_WRITERS = 3
# In a schema of the project, so that all of it is read after each cut.
_TABLES = """
CREATE TABLE IF NOT EXISTS durable_workflows.marks (mark text PRIMARY KEY, noise text);
CREATE TABLE IF NOT EXISTS durable_workflows.counts (writer text PRIMARY KEY, marks int);
CREATE TABLE IF NOT EXISTS durable_workflows.heap (number int PRIMARY KEY, noise text);
INSERT INTO durable_workflows.heap SELECT number, md5(number::text) FROM generate_series(1, 3000) AS number ON CONFLICT DO NOTHING;
"""
# A commit: a new row, often a long one, and the number of all rows of this writer.
_MARK = """
BEGIN;
INSERT INTO durable_workflows.marks
    SELECT '{mark}', string_agg(md5(random()::text), '') FROM generate_series(1, {noise});
INSERT INTO durable_workflows.counts VALUES ('mark-{writer}', 1)
    ON CONFLICT (writer) DO UPDATE SET marks = counts.marks + 1;
COMMIT;
SELECT '{mark}'
"""
_ALONE = "WITH counted AS (INSERT INTO durable_workflows.counts VALUES ('mark-{writer}', 1) ON CONFLICT (writer) DO UPDATE SET marks = counts.marks + 1) INSERT INTO durable_workflows.marks VALUES ('{mark}') RETURNING mark"
# What changes files in other ways: they are made, cut, rewritten, removed. The heap has the numbers from 1 to some other one.
_READ_MARKS: LiteralString = "SELECT mark FROM durable_workflows.marks"
_READ_COUNTS: LiteralString = "SELECT writer, marks FROM durable_workflows.counts"
_READ_HOLES: LiteralString = "SELECT max(number) - count(*) FROM durable_workflows.heap"
_CATALOGS: LiteralString = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'pg_catalog'::regnamespace"
)
_CHORES = (
    "CHECKPOINT",
    "DELETE FROM durable_workflows.heap WHERE number > (SELECT 1 + max(number) / 2 FROM durable_workflows.heap)",
    "VACUUM durable_workflows.heap",
    "INSERT INTO durable_workflows.heap SELECT number, md5(number::text) FROM generate_series((SELECT coalesce(max(number), 0) + 1 FROM durable_workflows.heap), 3000) AS number",
    "UPDATE durable_workflows.heap SET noise = md5(noise) WHERE number % 7 = 0",
    "VACUUM FULL durable_workflows.marks",
    "REINDEX TABLE durable_workflows.heap",
    "BEGIN; TRUNCATE durable_workflows.heap; INSERT INTO durable_workflows.heap SELECT number, md5(number::text) FROM generate_series(1, 800) AS number; COMMIT",
    "CREATE TABLE IF NOT EXISTS durable_workflows.passing AS SELECT number, md5(number::text) FROM generate_series(1, 500) AS number",
    "DROP TABLE IF EXISTS durable_workflows.passing",
)


class Work:
    """Writers that commit marks, and two clients that do chores, for some commits; what they send depends on the seed."""

    def __init__(self, url: str, seed: str) -> None:
        self._url = url
        self._seed = seed
        self._left = threading.Event()

    def run(self, commits: int) -> None:
        """Let each writer commit so many marks."""
        with ThreadPoolExecutor() as pool:
            chores = [pool.submit(self._do_chores, name) for name in ("one", "two")]
            writers = [pool.submit(self._write, number, commits) for number in range(_WRITERS)]
            try:
                for writer in writers:
                    writer.result()
            finally:
                self._left.set()
            for chore in chores:
                chore.result()

    def _write(self, number: int, commits: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        with psycopg.connect(self._url, autocommit=True) as db:
            for _ in range(commits):
                self._commit(db, number, chance)

    def _commit(self, db: psycopg.Connection, number: int, chance: random.Random) -> None:
        mark = f"mark-{number}-{chance.randrange(10**12)};"
        form = chance.choice((_MARK, _ALONE))
        noise = chance.choice((1, 20, 400))
        db.execute(form.format(mark=mark, writer=number, noise=noise).encode())

    def _do_chores(self, name: str) -> None:
        chance = random.Random(f"{self._seed} {name}")
        with psycopg.connect(self._url, autocommit=True) as db:
            while not self._left.is_set():
                db.execute(chance.choice(_CHORES).encode())


class Life:
    """A life of the database, from a directory that is on the disk until the power fails, which may be at any moment of it."""

    def __init__(self, first: Path, answered: set[str], folder: Path) -> None:
        self._first = first
        self._answered = answered  # what the database had told clients before
        self._folder = folder
        folder.mkdir()
        self._data = Path(shutil.copytree(first, folder / "pgdata"))
        self._recorded = folder / "recorded"

    def live(self, commits: int, seed: str) -> Disk:
        """Open the directory, check it, let clients work, and return what was recorded."""
        with own_front(self._data, flags=recording(self._recorded)) as (own, _):
            check(own.url, self._answered)
            with psycopg.connect(own.url, autocommit=True) as db:
                db.execute(_TABLES)
            Work(own.url, seed).run(commits)
        disk = Disk(self._first, self._recorded)
        assert self._not_recorded(disk) == []
        return disk

    def _not_recorded(self, disk: Disk) -> list[str]:
        """The files of which not all changes were recorded."""
        whole = self._folder / "whole"
        disk.rebuild(disk.end, whole, Certain(is_kept=True))
        there, rebuilt = _contents(self._data), _contents(whole)
        shutil.rmtree(whole)
        return [
            name
            for name in sorted(there.keys() | rebuilt.keys())
            if there.get(name) != rebuilt.get(name)
        ]

    def cut(self, disk: Disk, chance: random.Random, folder: Path) -> "Life":
        """The next life, in a new folder, after a power cut at some moment of this one: often just after an fsync, an answer, or a change while the log was behind."""
        moments = (
            disk.synced,
            list(disk.sent.values()),
            disk.reshaped,
            range(disk.end),
            disk.early,
        )
        at = 1 + chance.choice(chance.choice([one for one in moments if one]))
        luck = chance.choice((chance, chance, Certain(is_kept=False)))
        logger.warning("%s: cut before event %s of %s", folder.name, at, disk.end)
        rebuilt = folder.with_name(f"{folder.name}-first")
        disk.rebuild(at, rebuilt, luck)
        return Life(rebuilt, self._answered | disk.sent_before(at), folder)

    def open(self) -> None:
        """Open the directory as the next start would, and check it."""
        with own_front(self._data) as (own, _):
            check(own.url, self._answered)

    def forget(self) -> None:
        """Remove its files."""
        shutil.rmtree(self._folder)
        shutil.rmtree(self._first)


class Certain(random.Random):
    """No chance: of what was not synced all is kept, or nothing."""

    def __init__(self, *, is_kept: bool) -> None:
        super().__init__()
        self._is_kept = is_kept

    def choice(self, seq: "SupportsLenAndGetItem[T]") -> T:
        """The most or the least."""
        return seq[len(seq) - 1] if self._is_kept else seq[0]

    def random(self) -> float:
        """Whether something is kept is certain before."""
        return 0.0


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check(url: str, answered: set[str]) -> None:
    """Everything that clients were told is there, everything can be read, and commits are whole."""
    reading = anyio.run(integrity.read_all, Database(url), logger.debug)
    assert reading.damages == []
    with psycopg.connect(url, autocommit=True) as db:
        if db.execute("SELECT to_regclass('durable_workflows.marks')").fetchone() == (None,):
            assert answered == set()  # the power was cut before the first commit
            return
        marks = {str(mark) for (mark,) in db.execute(_READ_MARKS).fetchall()}
        assert answered - marks == set()
        counted = Counter(mark.rsplit("-", 1)[0] for mark in marks)
        assert dict(db.execute(_READ_COUNTS).fetchall()) == counted
        assert db.execute(_READ_HOLES).fetchone() == (0,)
        for (name,) in db.execute(_CATALOGS).fetchall():
            db.execute(
                sql.SQL("SELECT sum(length(one::text)) FROM {} AS one").format(
                    sql.Identifier("pg_catalog", name)
                )
            )
        db.execute("UPDATE durable_workflows.heap SET noise = noise WHERE number = 1")
        db.execute("CHECKPOINT")


def survive(folder: Path, *, lives: int, cuts: int, commits: int) -> None:
    """Cut the power of one life after the other at many moments, of which the last one begins the next life."""
    seed = int(os.environ.get("POWER_CUTS_SEED") or random.randrange(1_000_000))
    logger.warning("POWER_CUTS_SEED=%s", seed)
    chance = random.Random(seed)
    life = Life(copy_of_pristine(folder / "first"), set(), folder / "life-0")
    for number in range(lives):
        disk = life.live(commits, f"{seed} {number}")
        for _ in range(cuts - 1):
            other = life.cut(disk, chance, folder / "other")
            other.open()
            other.forget()
        following = life.cut(disk, chance, folder / f"life-{number + 1}")
        life.forget()
        life = following
    life.open()


@proves("database:power-cut")
def test_after_a_power_cut_all_that_was_answered_is_there(tmp_path: Path) -> None:
    survive(tmp_path, lives=1, cuts=1, commits=4)


@proves("database:power-cut")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_after_many_power_cuts_also_in_mid_recovery_all_that_was_answered_is_there(
    tmp_path: Path,
) -> None:
    survive(tmp_path, lives=LIVES, cuts=CUTS, commits=12)
