"""The holder of a lock, and what a lock survives: removed files, moved directories, a release before this one."""

import shutil
from pathlib import Path

import pytest

from durable_workflows.system import locks

GARBAGE = [b"", b"\n", b"\xff\xfe", b"0", b"-1", b"12 34", b"no number"]


@pytest.fixture
def guard(tmp_path: Path) -> locks.Guard:
    directory = tmp_path / "state"
    directory.mkdir()
    return locks.Guard(directory / "lock", directory)


def test_a_lock_whose_file_was_removed_is_still_held_and_gets_its_file_back(
    guard: locks.Guard,
) -> None:
    with locks.held_lock(guard) as lock:
        guard.file.unlink()
        assert locks.is_held(guard)
        with pytest.raises(locks.LockHeld, match="by another process"):
            locks.held_lock(guard, wait_seconds=0)
        lock.name_holder(12345)
        assert locks.named_holder(guard) == 12345
        assert locks.is_held(guard.file)
    assert not locks.is_held(guard)


def test_a_lock_goes_with_its_directory_and_knows_that_it_was_moved(guard: locks.Guard) -> None:
    with locks.held_lock(guard) as lock:
        assert lock.is_in_place()
        moved = guard.directory.rename(guard.directory.with_name("moved"))
        assert not lock.is_in_place()
        shutil.copytree(moved, guard.directory)
        assert not lock.is_in_place()
        assert locks.is_held(locks.Guard(moved / "lock", moved))
        locks.held_lock(guard, wait_seconds=0).close()


def test_a_release_that_locks_the_file_alone_and_this_one_keep_each_other_out(
    guard: locks.Guard,
) -> None:
    with locks.held_lock(guard.file):
        assert locks.is_held(guard)
        with pytest.raises(locks.LockHeld):
            locks.held_lock(guard, wait_seconds=0)
    with locks.held_lock(guard):
        assert locks.is_held(guard.file)
        with pytest.raises(locks.LockHeld):
            locks.held_lock(guard.file, wait_seconds=0)


@pytest.mark.parametrize("text", GARBAGE)
def test_a_lock_file_that_was_written_over_names_nobody_until_it_is_put_right(
    text: bytes, guard: locks.Guard
) -> None:
    with locks.held_lock(guard) as lock:
        guard.file.write_bytes(text)
        assert locks.named_holder(guard) is None
        assert locks.is_held(guard)
        lock.name_holder(7)
        assert locks.named_holder(guard) == 7


def test_a_directory_in_the_place_of_a_lock_file_is_locked_as_well(guard: locks.Guard) -> None:
    guard.file.mkdir()
    with locks.held_lock(guard) as lock:
        lock.name_holder(7)
        assert locks.named_holder(guard) is None
        with pytest.raises(locks.LockHeld):
            locks.held_lock(guard, wait_seconds=0)
    locks.held_lock(guard).close()


def test_a_lock_of_a_directory_that_is_not_there_is_free(tmp_path: Path) -> None:
    guard = locks.Guard(tmp_path / "data.lock", tmp_path / "data")
    assert locks.is_free_within(guard, 0)
    assert list(tmp_path.iterdir()) == []
