"""What is on a disk after a power cut: a data directory, rebuilt from what `recorder.mjs` has recorded.

The model is as harsh as Linux's file systems allow, ext4 with `data=ordered` among them, and in some ways harsher:

- What was written to a file before an fsync of it began that has ended is there.
- Of what was written since, each sector (of 512 bytes or 4 KiB) has any of the contents that it had in turn. So pages are torn, and later writes are there without
  earlier ones. A file that grew may have zeros instead of what was written, or be as short as before.
- Each directory has a part of its changes, in their order: files that are made, renamed and removed. An fsync of the directory brings all of them before
  it. The first fsync of a new file brings its name too, as journals do; a rename needs the directory's.
- Nothing holds between two files or two directories, but what was synced.
"""

import base64
import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SECTORS = (512, 4096)
_LOG = re.compile(r"pg_wal/[0-9A-F]{24}$")


def recording(to: Path) -> tuple[str, str]:
    """The flags of Node by which it records into a file what it does."""
    hook = Path(__file__).with_name("recorder.mjs").as_uri()
    return ("--import", f"{hook}?to={to}")


@dataclass(frozen=True)
class Change:
    """A write to a file, or a cut of it to a size (`data` is None then)."""

    at: int
    place: int
    data: bytes | None


@dataclass(eq=False)
class File:
    """A file, with whatever names: what it had at first, and what was done with it since."""

    source: Path | None = None
    changes: list[Change] = field(default_factory=list[Change])
    synced: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @property
    def is_behind(self) -> bool:
        """Whether something was written to it of which no fsync has ended."""
        synced = max((begun for begun, _ in self.synced), default=0)
        return bool(self.changes) and self.changes[-1].at > synced

    def firm(self, cut: int) -> int:
        """The event before which all is on the disk that was done with it."""
        return max((begun for begun, ended in self.synced if ended < cut), default=0)

    def after(self, cut: int, chance: random.Random) -> bytes:
        """What it has after a power cut before the event `cut`."""
        durable = self.firm(cut)
        cache = bytearray() if self.source is None else bytearray(self.source.read_bytes())
        for change in self.changes:
            if change.at < durable:
                _apply(cache, change)
        disk = bytearray(cache)
        sector, kept = chance.choice(SECTORS), chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for change in self.changes:
            if not durable <= change.at < cut:
                continue
            _apply(cache, change)
            if change.data is None:
                if chance.random() >= kept:
                    break  # what was written to it after that is lost too
                _apply(disk, change)
            else:
                _keep_some(disk, cache, change, _Sectors(sector, kept, chance))
        if len(disk) < len(cache) and chance.random() < kept:
            disk.extend(bytes(len(cache) - len(disk)))
        return bytes(disk)


@dataclass(frozen=True)
class _Sectors:
    size: int
    kept: float
    chance: random.Random


def _apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        del content[change.place :]
    content.extend(bytes(max(0, change.place - len(content))))
    if change.data is not None:
        content[change.place : change.place + len(change.data)] = change.data


def _keep_some(disk: bytearray, cache: bytearray, change: Change, sectors: _Sectors) -> None:
    """Bring some of the sectors that a write has changed to the disk."""
    assert change.data is not None
    first = change.place // sectors.size * sectors.size
    for start in range(first, change.place + len(change.data), sectors.size):
        if sectors.chance.random() < sectors.kept:
            _apply(disk, Change(change.at, start, bytes(cache[start : start + sectors.size])))


@dataclass(frozen=True)
class Naming:
    """A change of a directory: `made` gets a name, or `name` goes, or it becomes `new_name`."""

    at: int
    name: str
    made: File | None = None  # without it and without `new_name` the name goes
    is_folder: bool = False
    new_name: str | None = None

    @property
    def folder(self) -> str:
        """The directory that it changes."""
        return str(PurePosixPath(self.name).parent)


class Event(NamedTuple):
    """A line of the record."""

    kind: str
    descriptor: int = 0
    name: str = ""
    new_name: str = ""
    is_new: bool = False
    place: int = 0
    data: str = ""
    call: int = 0
    marks: Sequence[str] = ()


class Disk:
    """A data directory as it was at first, and all that was recorded since."""

    def __init__(self, first: Path, recorded: Path) -> None:
        self._first = first
        self._at_first = {
            str(path.relative_to(first)): File(path) for path in first.rglob("*") if path.is_file()
        }
        self._names = dict(self._at_first)
        self._namings: list[Naming] = []
        self._open: dict[int, File] = {}
        self._syncing: dict[int, tuple[int, File]] = {}
        self._folders: dict[str, File] = {}
        self.sent: dict[str, int] = {}  # by mark, the event by which a client first had it
        self._logs: list[File] = []
        self.synced: list[int] = []
        self.early: list[
            int
        ] = []  # when something else was changed while a part of the log was not synced: mostly, a file grew
        self.reshaped: list[int] = []  # when names or sizes changed
        lines = recorded.read_text(encoding="utf-8").splitlines()
        for at, line in enumerate(lines):
            self._take(at, Event(**json.loads(line)))
        self.end = len(lines)

    def sent_before(self, cut: int) -> set[str]:
        """The marks that clients had been sent."""
        return {mark for mark, at in self.sent.items() if at < cut}

    def rebuild(self, cut: int, target: Path, chance: random.Random) -> None:
        """Make the directory as it is after a power cut before the event `cut`."""
        names = dict(self._at_first)
        shutil.copytree(self._first, target)
        for naming in self._kept(cut, chance):
            _rename(target, names, naming)
        for name, file in names.items():
            if file.changes:
                (target / name).write_bytes(file.after(cut, chance))

    def _kept(self, cut: int, chance: random.Random) -> Iterator[Naming]:
        """The changes of directories that are on the disk."""
        ends: dict[str, int] = {}
        for one in self._namings:
            if one.folder not in ends:
                least = self._firm(one.folder, cut)
                ends[one.folder] = chance.choice((least, chance.randint(least, cut), cut))
            if one.at < ends[one.folder]:
                yield one

    def _firm(self, folder: str, cut: int) -> int:
        """The event before which all changes of a directory are on the disk."""
        found = self._folders.get(folder)
        least = 0 if found is None else found.firm(cut)
        for one in self._namings:
            if one.folder == folder and one.made is not None and one.made.firm(cut) > 0:
                least = max(least, one.at + 1)
        return least

    def _take(self, at: int, event: Event) -> None:
        match event.kind:
            case "open" if event.is_new:
                self._open[event.descriptor] = self._make(at, event.name)
            case "open":
                file = self._open[event.descriptor] = self._named(event.name)
                if _LOG.search(event.name) and file not in self._logs:
                    self._logs.append(file)
            case "write" | "cut":
                data = base64.b64decode(event.data) if event.kind == "write" else None
                self._change(at, self._open[event.descriptor], Change(at, event.place, data))
            case "sync":
                self._syncing[event.call] = (at, self._open[event.descriptor])
            case "synced":
                begun, file = self._syncing.pop(event.call)
                file.synced.append((begun, at))
                self.synced.append(at)
            case "sent":
                for mark in event.marks:
                    self.sent.setdefault(mark, at)
            case _:
                self._change_folder(at, event)

    def _named(self, name: str) -> File:
        """The file of this name, or the directory: of that only the fsyncs count."""
        return self._names[name] if name in self._names else self._folders.setdefault(name, File())

    def _make(self, at: int, name: str) -> File:
        self._names[name] = File()
        self._namings.append(Naming(at, name, made=self._names[name]))
        return self._names[name]

    def _change(self, at: int, file: File, change: Change) -> None:
        file.changes.append(change)
        if change.data is None:
            self.reshaped.append(at)
        if file not in self._logs:
            self._note_early(at)

    def _note_early(self, at: int) -> None:
        if any(log.is_behind for log in self._logs):
            self.early.append(at)

    def _change_folder(self, at: int, event: Event) -> None:
        self.reshaped.append(at)
        if event.kind != "mkdir":
            self._note_early(at)
        match event.kind:
            case "rename":
                if event.name in self._names:
                    self._names[event.new_name] = self._names.pop(event.name)
                self._namings.append(Naming(at, event.name, new_name=event.new_name))
            case "remove":
                self._names.pop(event.name, None)
                self._namings.append(Naming(at, event.name))
            case "mkdir":
                self._namings.append(Naming(at, event.name, is_folder=True))
            case kind:
                raise AssertionError(kind)


def _rename(target: Path, names: dict[str, File], naming: Naming) -> None:
    """Make a change of a directory. It is not there if the directory itself is not."""
    place = target / naming.name
    if not place.parent.is_dir():
        return
    if naming.is_folder:
        place.mkdir()
    elif naming.made is not None:
        place.touch()
        names[naming.name] = naming.made
    elif naming.new_name:
        place.rename(target / naming.new_name)
        if naming.name in names:
            names[naming.new_name] = names.pop(naming.name)
    elif place.is_dir():
        shutil.rmtree(place)  # the files in it may be there still
    else:
        place.unlink()
        names.pop(naming.name, None)
