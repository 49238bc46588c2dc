"""No client gets an answer that tells of a commit before that commit is on the disk, and commits of several clients go there together."""

import json
import re
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from database.fronts import Front, copy_of_pristine, own_front

WRITERS = 5
COMMITS = 12  # of each writer
MARK = re.compile(r"mark-\d+-\d+;")
_PAGE, _PAGE_HEAD = 8192, 24  # of Postgres's log

# What is done with the database's log and with the clients' sockets, as lines of a file. An fsync takes as long as on a slow disk.
RECORDER = """
import fs from 'node:fs'
import net from 'node:net'
const to = fs.openSync(PATH, 'a')
const { openSync, writeSync, ftruncateSync, fdatasyncSync, fdatasync } = fs
const note = (kind, file, bytes, call = 0) =>
  writeSync(to, JSON.stringify([kind, file, bytes ? (bytes.toString('latin1').match(/mark-\\d+-\\d+;/g) ?? []) : [], call]) + '\\n')
let calls = 0
const logs = new Map()
const data = new Set()
const isData = (path) => /(^|\\/)(base|global|pg_xact)\\//.test(path)
fs.openSync = (path, ...rest) => {
  const descriptor = openSync(path, ...rest)
  logs.delete(descriptor)
  data.delete(descriptor)
  if (/pg_wal\\/[0-9A-F]{24}$/.test(path)) logs.set(descriptor, path)
  if (isData(path)) data.add(descriptor)
  return descriptor
}
for (const name of ['unlinkSync', 'renameSync', 'truncateSync']) {
  const original = fs[name]
  fs[name] = (path, ...rest) => {
    if (isData(path)) note('changed', path)
    return original(path, ...rest)
  }
}
fs.ftruncateSync = (descriptor, ...rest) => {
  if (data.has(descriptor)) note('changed', 'a file that is cut')
  return ftruncateSync(descriptor, ...rest)
}
fs.writeSync = (descriptor, buffer, offset, length, ...rest) => {
  if (data.has(descriptor)) note('changed', '')
  const done = writeSync(descriptor, buffer, offset, length, ...rest)
  if (logs.has(descriptor)) note('written', logs.get(descriptor), Buffer.from(buffer.buffer, buffer.byteOffset + offset, done))
  return done
}
fs.fdatasyncSync = (descriptor) => {
  const call = (calls += 1)
  if (logs.has(descriptor)) note('sync', logs.get(descriptor), null, call)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MILLISECONDS)
  fdatasyncSync(descriptor)
  if (logs.has(descriptor)) note('synced', logs.get(descriptor), null, call)
}
fs.fdatasync = (descriptor, done) => {
  const file = logs.get(descriptor)
  const call = (calls += 1)
  note('sync', file, null, call)
  setTimeout(() => fdatasync(descriptor, (error) => {
    note('synced', file, null, call)
    done(error)
  }), MILLISECONDS)
}
for (const name of ['write', 'end']) {
  const original = net.Socket.prototype[name]
  net.Socket.prototype[name] = function (bytes, ...rest) {
    if (Buffer.isBuffer(bytes)) note('sent', '', bytes)
    return original.call(this, bytes, ...rest)
  }
}
"""


class Event(NamedTuple):
    """Something that was done: `written` to a file of the log, `sync` of it begun, `synced`, `sent` to a client, or `changed` in a file of the data."""

    kind: str
    file: str = ""
    marks: frozenset[str] = frozenset()
    call: int = 0  # the same of a `sync` and of its `synced`


def too_early(events: Sequence[Event]) -> list[str]:
    """The marks that a client was sent before the log's file was synced, by an fsync that began after they were written there."""
    written: dict[str, set[str]] = defaultdict(set)
    syncing: dict[int, set[str]] = {}
    durable: set[str] = set()
    wrong: list[str] = []
    for event in events:
        if event.kind == "written":
            written[event.file] |= event.marks
        elif event.kind == "sync":
            syncing[event.call] = set(written[event.file])
        elif event.kind == "synced":
            durable |= syncing.pop(event.call)
        elif event.kind == "sent":
            wrong += sorted(event.marks - durable)
    return wrong


def divided(data: Path) -> set[str]:
    """The marks in the log that the head of a page divides: they were never seen as a whole. Where pages end depends on what the data directory had in it at first."""
    found: set[str] = set()
    for file in (data / "pg_wal").glob("0*"):
        log = file.read_bytes().decode("latin-1")
        pages = (log[at + _PAGE_HEAD : at + _PAGE] for at in range(0, len(log), _PAGE))
        found |= set(MARK.findall("".join(pages))) - set(MARK.findall(log))
    return found


def changed_before_the_log(events: Sequence[Event]) -> list[str]:
    """The files of the data that were changed while something that was written to the log was not synced."""
    unsynced: dict[str, set[int]] = defaultdict(set)
    syncing: dict[int, set[int]] = {}
    wrong: list[str] = []
    for number, event in enumerate(events):
        if event.kind == "written":
            unsynced[event.file].add(number)
        elif event.kind == "sync":
            syncing[event.call] = set(unsynced[event.file])
        elif event.kind == "synced":
            unsynced[event.file] -= syncing.pop(event.call)
        elif event.kind == "changed" and any(unsynced.values()):
            wrong.append(event.file)
    return wrong


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ("w1 s1 e1 a1", []),
        ("w1 a1 s1 e1", ["1"]),
        ("w1 s1 a1 e1", ["1"]),
        ("s1 w1 e1 a1", ["1"]),
        ("w1 s1 w2 e1 a1 a2", ["2"]),
        ("w1 s1 w2 s2 e1 a1 e2 a2", []),
        ("w1 s1 w2 s2 e2 a1 a2 e1", []),
    ],
)
def test_the_check_of_the_order_finds_what_was_sent_too_early(
    events: str, wrong: list[str]
) -> None:
    kinds = {"w": "written", "s": "sync", "e": "synced", "a": "sent"}
    given = [
        Event(kinds[one[0]], "log", frozenset(one[1:]), int(one[1:])) for one in events.split()
    ]
    assert too_early(given) == wrong


def recording(folder: Path, *, milliseconds: int = 4) -> tuple[str, str]:
    """The flags of Node by which `recorded` will know what it did; the time is that of an fsync."""
    hook = folder / "hook.mjs"
    path = json.dumps(str(folder / "recorded"))
    text = RECORDER.replace("PATH", path).replace("MILLISECONDS", str(milliseconds))
    hook.write_text(text, encoding="utf-8")
    return ("--import", str(hook))


def recorded(folder: Path) -> list[Event]:
    """What Node has done so far."""
    lines = (folder / "recorded").read_text(encoding="utf-8").splitlines()
    events = map(json.loads, lines)
    return [Event(kind, file, frozenset(marks), call) for kind, file, marks, call in events]


class Clients:
    """Writers that commit marks, readers that look for the newest ones, and one that is notified of all; and what each of them saw."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._done = threading.Event()
        self.seen: set[str] = set()
        self.errors: list[BaseException] = []

    def run(self) -> None:
        """Let all of them work until each writer has committed its marks."""
        with psycopg.connect(self._url, autocommit=True) as db:
            db.execute("CREATE TABLE marks (mark text)")
        with psycopg.connect(self._url, autocommit=True) as listener:
            listener.execute("LISTEN marks")
            others = [self._begin(self._read), self._begin(self._read)]
            writers = [self._begin(self._write, number) for number in range(WRITERS)]
            for writer in writers:
                writer.join()
            heard = listener.notifies(timeout=20, stop_after=WRITERS * COMMITS)
            told = {notification.payload for notification in heard}
        self._done.set()
        for other in others:
            other.join()
        assert not self.errors
        assert len(told) == WRITERS * COMMITS

    def _begin(self, work: Callable[..., None], *given: int) -> threading.Thread:
        def safely() -> None:
            try:
                work(*given)
            except BaseException as error:  # noqa: BLE001 - the test reports it
                self.errors.append(error)

        thread = threading.Thread(target=safely)
        thread.start()
        return thread

    def _write(self, writer: int) -> None:
        with psycopg.connect(self._url, autocommit=True) as db:
            for number in range(COMMITS):
                mark = f"mark-{writer}-{number};"
                db.execute(
                    "WITH told AS (INSERT INTO marks VALUES (%s) RETURNING mark) SELECT mark, pg_notify('marks', mark) FROM told",
                    [mark],
                )

    def _read(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as db:
            while not self._done.is_set():
                rows = db.execute("SELECT mark FROM marks").fetchall()
                self.seen |= {str(mark) for (mark,) in rows}


def test_commits_of_several_clients_are_synced_together_and_no_client_hears_of_one_before(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    slow = recording(tmp_path, milliseconds=50)  # slower than the clients, however slow these are
    with own_front(data, flags=slow) as (own, _):
        clients = Clients(own.url)
        clients.run()
    events = recorded(tmp_path)
    answered = {mark for event in events if event.kind == "sent" for mark in event.marks}
    assert len(answered) == WRITERS * COMMITS
    assert clients.seen
    assert set(too_early(events)) <= divided(data)
    synced = sum(event.kind == "synced" for event in events)
    # About half as many as commits: while the first one is synced the others come, and are synced together.
    assert synced < WRITERS * COMMITS * 5 / 6, "commits were synced alone"


@pytest.mark.long
def test_nothing_of_the_data_changes_before_the_log_of_it_is_on_the_disk(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")

    def work(url: str, name: str) -> None:
        with psycopg.connect(url, autocommit=True) as db:
            for _ in range(6):
                db.execute(f"CREATE TABLE {name} AS SELECT 1 AS n".encode())
                db.execute(f"TRUNCATE {name}".encode())
                db.execute(f"DROP TABLE {name}".encode())
                db.execute(f"CREATE TABLE {name} AS SELECT generate_series(1, 999) AS n".encode())
                db.execute(f"DELETE FROM {name}".encode())
                db.execute(f"VACUUM {name}".encode())
                db.execute(f"DROP TABLE {name}".encode())
                db.execute("CHECKPOINT")

    with own_front(data, flags=recording(tmp_path)) as (own, _), ThreadPoolExecutor() as pool:
        for done in [pool.submit(work, own.url, f"t{number}") for number in range(4)]:
            done.result()
    events = recorded(tmp_path)
    assert sum(event.kind == "changed" for event in events) > 100
    assert any(event.file == "a file that is cut" for event in events)
    assert not changed_before_the_log(events)


@pytest.mark.long
def test_commits_that_fill_one_file_of_the_log_after_the_other_end_nothing(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")

    def work(url: str, name: str) -> None:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f"CREATE TABLE {name} (noise text)".encode())
            for _ in range(8):
                db.execute(
                    f"INSERT INTO {name} SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 20000)".encode()
                )

    with own_front(data, flags=recording(tmp_path)) as (own, process):
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(work, own.url, f"t{number}") for number in range(4)]:
                done.result()
        assert process.poll() is None
    written = [event.file for event in recorded(tmp_path) if event.kind == "written"]
    assert len(set(written)) > 5


def test_a_client_that_is_alone_waits_for_no_timer_and_no_other_client(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")

    def synced() -> int:
        return sum(event.kind == "synced" for event in recorded(tmp_path))

    with (
        own_front(data, flags=recording(tmp_path)) as (own, _),
        psycopg.connect(own.url, autocommit=True) as db,
    ):
        db.execute("CREATE TABLE t (id int)")
        db.execute("SELECT pg_switch_wal()")  # no commit below needs two files of the log
        for number in range(10):
            before = synced()
            db.execute("INSERT INTO t VALUES (%s)", (number,))
            assert synced() == before + 1
        before = synced()
        db.execute("SELECT 1")
        assert synced() == before


STRACE = shutil.which("strace")
LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\((\d+)<([^>]*)>)(.*)$")


def traced(file: Path) -> Iterator[Event]:
    """The events in what strace wrote. A call that another thread's call divides has two lines."""
    begun: dict[str, tuple[str, str, frozenset[str]]] = {}
    for line in file.read_text(encoding="latin-1").splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        thread, call, _, path, rest = found.groups()
        if path is None:
            path, _, marks = begun.pop(thread, ("", "", frozenset()))
            ends = True
        else:
            marks = frozenset(MARK.findall(rest))
            ends = "<unfinished" not in rest
            begun[thread] = (path, call, marks)
        is_log = re.search(r"/pg_wal/[0-9A-F]{24}$", path) is not None
        if call == "fdatasync" and is_log:
            if found.group(4) is not None:
                yield Event("sync", path, call=int(thread))
            if ends:
                yield Event("synced", path, call=int(thread))
        elif is_log and ends:
            yield Event("written", path, marks)
        elif "TCP" in path and found.group(4) is not None:
            yield Event("sent", "", marks)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_the_kernel_sees_each_commit_synced_before_it_is_answered(
    front: Front, tmp_path: Path
) -> None:
    data = copy_of_pristine(tmp_path / "pgdata")
    output = tmp_path / "strace"
    with own_front(data) as (own, process):
        calls = "trace=pwrite64,write,writev,sendto,sendmsg,fdatasync"
        command = [*(str(STRACE), "-f", "-yy", "-s", "1000000", "-e", calls)]
        with subprocess.Popen(
            [*command, "-o", str(output), "-p", str(process.pid)], stderr=subprocess.PIPE
        ) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline().decode()
            if "attached" not in said:
                pytest.skip(f"no process can be traced here: {said}")
            clients = Clients(own.url)
            clients.run()
            tracer.terminate()
    events = list(traced(output))
    answered = {mark for event in events if event.kind == "sent" for mark in event.marks}
    assert len(answered) == WRITERS * COMMITS
    assert set(too_early(events)) <= divided(data)
