"""Directories that appear whole or not at all, and survive a power cut once they have appeared."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(target: Path) -> Generator[Path]:
    """A new directory beside `target` to fill; at the end it is on the disk and is `target`.

    The caller holds a lock that keeps others from making the same one. A half-made one, of a process that was
    killed, is never taken for the target and is removed by the next.
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


def sync_tree(root: Path) -> None:
    """Write every file and directory below `root`, and itself, to the disk."""
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
