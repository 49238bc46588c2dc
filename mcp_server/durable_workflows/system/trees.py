"""Directories that appear whole or not at all, and survive a power cut after they have appeared."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def appearing(target: Path) -> Generator[Path]:
    """A new directory to fill, beside `target`. At the end it is on the disk and becomes `target`.

    The caller holds a lock that keeps other processes from making the same directory. A half-made directory of a killed process is
    never taken for the target; the next process removes it.
    """
    unfinished = target.with_name(f"{target.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    try:
        yield unfinished
        sync_tree(unfinished)
        unfinished.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


@contextmanager
def temporary(folder: Path) -> Generator[Path]:
    """A new directory that is removed at the end. What a killed process left of it is removed first; a lock of the caller keeps others away."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def size(folder: str | Path) -> int:
    """The bytes of all files in a directory, which may be in use."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                is_folder = entry.is_dir(follow_symlinks=False)
                total += size(entry.path) if is_folder else entry.stat().st_size
    return total


def sync_tree(root: Path) -> None:
    """Write every file and directory below `root`, and `root` itself, to the disk."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


def sync(path: Path) -> None:
    """Write one file or directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
