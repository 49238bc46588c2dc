"""Copies of a directory in use: most of it is copied at leisure, and what changes meanwhile in a moment in which nothing writes.

A file that changed has another size, another place or another time of change. Two changes within a moment may have the same time, so a file
counts as unchanged only if it had been still for a while when it was copied.
"""

import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

_STILL_NS = 2_000_000_000  # more than any file system's grain of time

Mark = tuple[int, int, int]


class Snapshot:
    """A copy of the directory `source` in the empty directory `target`; without the files `but` at its top."""

    def __init__(self, source: Path, target: Path, *, but: Collection[str] = ()) -> None:
        self._source = source
        self._target = target
        self._but = frozenset(but)
        self._copied: dict[Path, Mark] = {}

    def copy_ahead(self) -> None:
        """Copy what is there, while it may change. Blocks.

        Raises:
            OSError: a file cannot be read or written.
        """
        for name in self._names():
            with suppress(FileNotFoundError):  # it was there a moment ago
                self._copy(name)

    def copy_again(self, folder: str) -> None:
        """Copy a folder at the top again, which may change meanwhile. Blocks.

        Raises:
            OSError: a file cannot be read or written.
        """
        for name in self._names():
            if name.parts[0] == folder:
                with suppress(FileNotFoundError):
                    self._copy(name)

    def add(self, name: str, text: str) -> None:
        """Add a file to the copy.

        Raises:
            OSError: it cannot be written.
        """
        (self._target / name).write_text(text, encoding="utf-8")

    def copy_rest(self) -> None:
        """Make the copy equal to the directory, in which nothing changes now. Blocks.

        Raises:
            OSError: a file cannot be read or written.
        """
        there = set(self._names())
        for name in there:
            if self._copied.get(name) != _mark(self._source / name):
                self._copy(name)
        for folder, folders, files in os.walk(self._target, topdown=False):
            for one in files:
                path = Path(folder, one)
                if path.relative_to(self._target) not in there:
                    path.unlink()
            for one in folders:
                path = Path(folder, one)
                if not (self._source / path.relative_to(self._target)).is_dir():
                    path.rmdir()

    def _names(self) -> Iterator[Path]:
        """The files, by their names in the directory. Makes the folders in the copy."""
        for folder, _, files in os.walk(self._source):
            inner = Path(folder).relative_to(self._source)
            (self._target / inner).mkdir(mode=0o700, exist_ok=True)
            for name in files:
                if folder != str(self._source) or name not in self._but:
                    yield inner / name

    def _copy(self, name: Path) -> None:
        path = self._source / name
        now, mark = time.time_ns(), _mark(path)
        self._copied.pop(name, None)
        shutil.copyfile(path, self._target / name)
        if now - mark[1] > _STILL_NS:
            self._copied[name] = mark


def _mark(path: Path) -> Mark:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino
