"""OS locks on files: who may run, decided by the kernel.

A lock belongs to an open file and to every process that inherited it (`pass_fds=[lock.fileno()]`); the kernel
frees it when the last of them is gone, however it went. The file stays where it is, since removing a
locked file would let two processes each hold "the" lock. Its text is the holder's pid, for people and messages: the
kernel's lock is the fact, the text is not.

Everything that is POSIX-only about locking is in this module.
"""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

_POLL_SECONDS = 0.05  # flock has no time limit of its own, so a bounded wait asks again
_GLANCE_SECONDS = (
    0.2  # `is_held` takes the lock for a moment; nobody may be refused because of that
)


class LockHeld(Exception):
    """Another process holds the lock; `holder` is its pid if the file tells it."""

    def __init__(self, path: Path, holder: int | None) -> None:
        self.path = path
        self.holder = holder
        super().__init__(f"{path} is locked" + (f" by process {holder}" if holder else ""))


class Lock:
    """A lock that is held until `close()`, or until the last process that has its descriptor ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The locked file's descriptor, for `pass_fds`."""
        return self._descriptor

    def name_holder(self, pid: int) -> None:
        """Write which process holds the lock, for people to read."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{pid}\n".encode(), 0)

    def close(self) -> None:
        """Close our descriptor; the lock is free unless a child has inherited it. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def held_lock(path: Path, *, wait_seconds: float = _GLANCE_SECONDS) -> Lock:
    """Take the lock on `path`, whose folder must exist, waiting (and blocking the thread) for that long.

    Raises:
        LockHeld: another process holds it, still.
        OSError: the file cannot be made or opened.
    """
    lock = _take(path, fcntl.LOCK_EX, wait_seconds)
    lock.name_holder(os.getpid())
    return lock


async def awaited_lock(path: Path, *, wait_seconds: float) -> Lock:
    """`held_lock` for a long wait in async code: it blocks no thread and can be cancelled."""
    deadline = anyio.current_time() + wait_seconds
    while True:
        try:
            return held_lock(path)
        except LockHeld:
            if anyio.current_time() >= deadline:
                raise
        await anyio.sleep(_POLL_SECONDS)


def shared_lock(path: Path, *, wait_seconds: float = _GLANCE_SECONDS) -> Lock:
    """Hold the lock together with any others who share it; errors as for `held_lock`."""
    return _take(path, fcntl.LOCK_SH, wait_seconds)


def is_held(path: Path, *, even_shared: bool = False) -> bool:
    """Whether any process, this one too, holds the lock at this moment; with `even_shared` a shared one counts."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_EX if even_shared else fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def named_holder(path: Path) -> int | None:
    """The pid written in the lock's file. It says who held the lock last, not that it is held."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdecimal() else None


def _take(path: Path, kind: int, wait_seconds: float) -> Lock:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock = Lock(path, descriptor)
    deadline = time.monotonic() + wait_seconds
    while not _try(descriptor, kind):
        if time.monotonic() >= deadline:
            lock.close()
            raise LockHeld(path, named_holder(path))
        time.sleep(_POLL_SECONDS)
    return lock


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
