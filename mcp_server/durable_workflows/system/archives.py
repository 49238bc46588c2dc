"""Compressed files of lines that prove that they are whole: the last line is a digest of all before it.

`gzip -dc FILE` shows the lines. Such a file may hold secrets: only this user can read it.
"""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from durable_workflows.errors import ExportDamaged, UsageError
from durable_workflows.system import files

_LONGEST_LINE = 1 << 30  # Postgres has no longer texts
_END = "sha256"


class Writer:
    """Writes a file beside its place (`part`), and puts it there at the end, as a whole. An existing file is never replaced.

    Raises:
        UsageError: something is in the way.
        NoSpaceLeft, StateDirectoryUnusable: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.lines = 0
        self.bytes = 0  # of the finished file
        self.finished = False
        for one in (path, self.part):
            if one.exists():
                raise UsageError(f"{one} is there already.", hint=_in_the_way(one == self.part))
        try:
            self._raw = _new(self.part)
        except OSError as error:
            raise files.translate(error, self.part) from error
        # No name and no time: equal contents make equal files.
        self._packed = gzip.GzipFile(fileobj=self._raw, mode="wb", filename="", mtime=0)
        self._digest = hashlib.sha256()

    def write(self, text: str) -> None:
        """Add a line. White space of JSON that would end it becomes a space: inside of JSON's strings there is none."""
        line = text.replace("\n", " ").replace("\r", " ").encode() + b"\n"
        self._digest.update(line)
        self._add(line)
        self.lines += 1

    def finish(self) -> None:
        """Add the digest, and sync the file to the disk; it is still beside its place."""
        self._add(json.dumps({_END: self._digest.hexdigest()}).encode() + b"\n")
        try:
            self._packed.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())
            self.bytes = self._raw.tell()
            self._raw.close()
        except OSError as error:
            raise files.translate(error, self.part) from error
        self.finished = True

    def publish(self) -> None:
        """Put the finished file into its place."""
        try:
            os.rename(self.part, self.path)
            files.sync(self.path.parent)
        except OSError as error:
            raise files.translate(error, self.path) from error

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(OSError):  # the disk may be full: nothing of it is needed any more
            self._packed.close()
        with suppress(OSError):
            self._raw.close()
        self.part.unlink(missing_ok=True)

    def _add(self, line: bytes) -> None:
        try:
            self._packed.write(line)
        except OSError as error:
            raise files.translate(error, self.part) from error


def _in_the_way(is_part: bool) -> str:
    if not is_part:
        return "Choose another name, or move it away."
    return "Another export writes it, or one was interrupted. Unless another one is under way, look first whether the run was cancelled (`durable-workflows inspect`): then this file is whole, and can be imported. Otherwise remove it."


def _new(path: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def read(path: Path) -> Iterator[str]:
    """The lines of a file without the last one. Nothing that was read counts before this has come to its end without an error.

    Raises:
        ExportDamaged: there is no such file, it is no export, or is not as it was written.
        StateDirectoryUnusable: it cannot be read.
    """
    digest = hashlib.sha256()
    last: bytes | None = None
    try:
        with gzip.open(path) as packed:
            while line := packed.readline(_LONGEST_LINE):
                if last is not None:
                    digest.update(last)
                    yield last.decode()
                last = line
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ExportDamaged(f"{path} is damaged, or no export of a run.") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ExportDamaged(
            f"There is no file {path}.",
            hint="Give the path of a file that `durable-workflows export` has written.",
        ) from error
    except OSError as error:
        raise files.translate(error, path) from error
    if last is None or last.rstrip() != json.dumps({_END: digest.hexdigest()}).encode():
        raise ExportDamaged(f"{path} is damaged, or no export of a run.")
