"""OS locks: who may run, decided by the kernel.

A lock belongs to an open file and to every process that inherited it (`pass_fds=lock.descriptors`); the kernel
frees it when the last of them is gone, however it ended. Its text is the holder's pid, for people and messages: the
kernel's lock is the fact, the text is not.

A file can be removed while it is locked, and then two processes would each hold "the" lock. So a directory that must not be used
twice is locked itself: a `Guard` is a file that names the holder, and the directory that it protects. If a separate lock file was
removed, it is made and locked again.

All POSIX-only code about locking is in this module.
"""

import fcntl
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

_POLL_SECONDS = 0.05  # flock has no time limit of its own, so a bounded wait asks again
_GLANCE_SECONDS = (
    0.2  # `is_held` takes the lock for a moment; that must not make another process fail
)


@dataclass(frozen=True)
class Guard:
    """A lock on a directory, with a file beside or in it that names the holder.

    The file is locked too: releases before this one know nothing else.
    """

    file: Path
    directory: Path


Place = Path | Guard
_TABLE = Path("/proc/locks")
_HELD = re.compile(r": FLOCK +\w+ +\w+ +(?P<pid>\d+) +(?P<file>\S+)")
_PID = re.compile(r"[1-9]\d{0,8}")


class LockHeld(Exception):
    """Another process holds the lock; `holder` is its pid if the file names it."""

    def __init__(self, place: Place) -> None:
        self.holder = named_holder(place)
        path = _paths(place)[0]
        who = f"process {self.holder}" if self.holder else "another process"
        super().__init__(f"{path} is locked by {who}")


class Lock:
    """A lock that is held until `close()`, or until the last process that has its descriptors ends."""

    def __init__(self, place: Place, descriptors: list[int]) -> None:
        self._paths = _paths(place)
        self._descriptors = descriptors

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open descriptors of the locked file and directory: for `pass_fds`."""
        return tuple(self._descriptors)

    @property
    def directory(self) -> tuple[Path, int]:
        """The path and the descriptor of the directory that must stay in its place."""
        return self._paths[-1], self._descriptors[-1]

    def is_in_place(self) -> bool:
        """Whether the locked file and directory are still at their paths. They may have been removed or replaced."""
        return _is_at(self._paths[-1], self._descriptors[-1])

    def names(self, pid: int) -> bool:
        """Whether the file is in its place and names this process."""
        return _is_at(self._paths[0], self._descriptors[0]) and named_holder(self._paths[0]) == pid

    def name_holder(self, pid: int) -> None:
        """Write which process holds the lock, for people. If the file of a `Guard` was removed or overwritten, restore it."""
        with suppress(OSError):  # a text for people: its absence is harmless
            if not _is_at(self._paths[0], self._descriptors[0]):
                self._take_file_again()
            text = f"{pid}\n".encode()
            if os.pread(self._descriptors[0], len(text) + 1, 0) != text:
                os.ftruncate(self._descriptors[0], 0)
                os.pwrite(self._descriptors[0], text, 0)

    def close(self) -> None:
        """Close our descriptors; the lock is free unless a child has inherited them. May be called twice."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take_file_again(self) -> None:
        descriptor = _open(self._paths[0])
        if not _try(descriptor, fcntl.LOCK_EX):
            os.close(descriptor)
            return
        os.close(self._descriptors[0])
        self._descriptors[0] = descriptor


def held_lock(place: Place, *, wait_seconds: float = _GLANCE_SECONDS) -> Lock:
    """Take the lock, whose folder must exist, waiting (and blocking the thread) for that long.

    Raises:
        LockHeld: another process holds it, still.
        OSError: the file cannot be made or opened.
    """
    lock = _take(place, fcntl.LOCK_EX, wait_seconds)
    lock.name_holder(os.getpid())
    return lock


async def awaited_lock(place: Place, *, wait_seconds: float) -> Lock:
    """`held_lock` for a long wait in async code. It blocks no thread and can be cancelled."""
    deadline = anyio.current_time() + wait_seconds
    while True:
        try:
            return held_lock(place)
        except LockHeld:
            if anyio.current_time() >= deadline:
                raise
        await anyio.sleep(_POLL_SECONDS)


def shared_lock(path: Path, *, wait_seconds: float = _GLANCE_SECONDS) -> Lock:
    """Share the lock with other processes; errors as for `held_lock`."""
    return _take(path, fcntl.LOCK_SH, wait_seconds)


def is_held(place: Place, *, even_shared: bool = False) -> bool:
    """Whether any process, including this one, holds the lock at this moment. With `even_shared` a shared lock counts."""
    kind = fcntl.LOCK_EX if even_shared else fcntl.LOCK_SH
    return any(_is_locked(path, kind) for path in _paths(place))


def is_free_within(place: Place, seconds: float) -> bool:
    """Whether the lock is free, waiting (and blocking the thread) for that long."""
    deadline = time.monotonic() + seconds
    while is_held(place):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def named_holder(place: Place) -> int | None:
    """The pid in the lock's file. It names the last holder; the lock may be free now."""
    try:
        text = _paths(place)[0].read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):  # removed, or overwritten
        return None
    return int(text) if _PID.fullmatch(text) else None


def holders(place: Place) -> list[int]:
    """The processes that took the lock, as the kernel names them; empty where it does not (other than Linux)."""
    try:
        table = _TABLE.read_text(encoding="ascii")
        wanted = {_in_table(path.stat()) for path in _paths(place)}
    except (OSError, UnicodeDecodeError):
        return []
    found = (_HELD.search(line) for line in table.splitlines())
    return [int(one["pid"]) for one in found if one and one["file"] in wanted]


def _in_table(found: os.stat_result) -> str:
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def _paths(place: Place) -> tuple[Path, ...]:
    return (place.file, place.directory) if isinstance(place, Guard) else (place,)


def _take(place: Place, kind: int, wait_seconds: float) -> Lock:
    deadline = time.monotonic() + wait_seconds
    while (lock := _take_now(place, kind)) is None:
        if time.monotonic() >= deadline:
            raise LockHeld(place)
        time.sleep(_POLL_SECONDS)
    return lock


def _take_now(place: Place, kind: int) -> Lock | None:
    descriptors: list[int] = []
    lock = Lock(place, descriptors)
    try:
        for path in _paths(place):
            descriptors.append(_open(path))
            # Between opening and locking, another process may have put a file there.
            if not _try(descriptors[-1], kind) or not _is_at(path, descriptors[-1]):
                lock.close()
                return None
    except BaseException:
        lock.close()
        raise
    return lock


def _open(path: Path) -> int:
    """Open the file to be locked; make it if it does not exist."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_locked(path: Path, kind: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        return not _try(descriptor, kind)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
