"""Backups of the embedded database: files that prove that they are whole, and the folder `.dbos/backups/`.

A file is a compressed tar archive: `backup.json` says what it is, `pgdata/` is the data directory, and `sha256.json` has the digest of each
file before it. Its rows may hold secrets: only this user can read it.
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError

from durable_workflows.errors import BackupDamaged, NoSpaceLeft, SetupError, UsageError
from durable_workflows.models import BackupContents, BackupKept
from durable_workflows.settings import Settings
from durable_workflows.system import files, places

FORMAT = 1
_ABOUT = "backup.json"
_DATA = "pgdata"
_DIGESTS = "sha256.json"
_SUFFIX = ".tar.gz"
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(?P<at>\d{8}T\d{6}Z)-(?P<why>[a-z]+)\.tar\.gz")
_FAST = 1  # of gzip's levels: the next ones take twice the time, and save a tenth
_MOST_ABOUT_BYTES = 1 << 20
_MOST_DIGESTS_BYTES = 1 << 28
_PIECE_BYTES = 1 << 20
_SPARE_BYTES = 100 << 20  # that stay free for the database
_NOT_WHOLE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    ValidationError,
    UnicodeDecodeError,
    json.JSONDecodeError,
)


def stamp(at: datetime) -> str:
    """A time in a file's name."""
    return f"{at.astimezone(UTC):{_STAMP}}"


def place(settings: Settings, at: datetime, why: str) -> Path:
    """The place of a backup in the project's own folder, which is made now."""
    places.backups(settings).mkdir(mode=0o700, exist_ok=True)
    return places.backups(settings) / f"{stamp(at)}-{why}{_SUFFIX}"


def kept(settings: Settings, *whys: str) -> list[BackupKept]:
    """The backups in the project's own folder, the newest first; with `whys` only those that were made for these reasons."""
    found: list[BackupKept] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in places.backups(settings).iterdir():
            named = _NAME.fullmatch(path.name)
            if named and (not whys or named["why"] in whys):
                at = datetime.strptime(named["at"], _STAMP).replace(tzinfo=UTC)
                found.append(BackupKept(file=str(path), at=at, bytes=path.stat().st_size))
    return sorted(found, key=lambda one: one.file, reverse=True)


def naming_newest(settings: Settings, error: SetupError) -> SetupError:
    """An error about the data directory, with a hint that names it and the newest backup, if there is one."""
    error.hint = places.hint(type(error), places.data(settings))
    for newest in kept(settings)[:1]:
        error.hint = f"Run `durable-workflows restore --newest`: the newest backup is of {newest.at:%Y-%m-%d %H:%M} UTC. Or: {error.hint}"
    return error


def check_room(folder: Path, needed: int) -> None:
    """Check that so many bytes can be written, and some are left for the database.

    Raises:
        NoSpaceLeft
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise NoSpaceLeft(
            f"{_megabytes(needed + _SPARE_BYTES)} must be free on the device that holds {folder}; {_megabytes(free)} are."
        )


def write(data: Path, contents: BackupContents, path: Path) -> int:
    """Write a backup of a copied data directory: beside its place, synced, then renamed. Return its size. Blocks.

    Raises:
        UsageError: something is in the way.
        NoSpaceLeft, StateDirectoryUnusable: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    for one in (path, part):
        if one.exists():
            raise UsageError(f"{one} is there already.", hint=_in_the_way(one == part))
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise files.translate(error, part) from error
    try:
        with os.fdopen(descriptor, "wb") as raw:
            _pack(raw, data, contents)
            raw.flush()
            os.fsync(raw.fileno())
        part.rename(path)
        files.sync(path.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise files.translate(error, path) from error
        raise
    return path.stat().st_size


def look(path: Path) -> BackupContents:
    """What a backup says of itself. Whether the file is whole is known only when it is unpacked.

    Raises:
        BackupDamaged: it is no backup.
        StateDirectoryUnusable: it cannot be read.
    """
    with _read(path) as archive:
        return BackupContents.model_validate_json(_about(archive))


def unpack(path: Path, folder: Path) -> None:
    """Fill an empty folder with the data directory of a backup, if all of it is as it was written. Blocks.

    Raises:
        BackupDamaged: it is not.
        NoSpaceLeft, StateDirectoryUnusable: it cannot be read, or the folder cannot be written.
    """
    with _read(path) as archive:
        about = _about(archive)
        found = {_ABOUT: hashlib.sha256(about.encode()).hexdigest()}
        while member := archive.next():
            if member.name == _DIGESTS:
                if json.loads(_text(archive, member, _MOST_DIGESTS_BYTES)) == found:
                    return
                break
            target = _target(folder, member)
            if member.isdir():
                target.mkdir(mode=0o700, exist_ok=True)
            else:
                found[member.name] = _extract(archive, member, target)
    raise BackupDamaged(f"{path} is damaged.")


def _pack(raw: IO[bytes], data: Path, contents: BackupContents) -> None:
    digests: dict[str, str] = {}
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", compresslevel=_FAST) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        digests[_ABOUT] = _add_text(archive, _ABOUT, contents.model_dump_json())
        for folder, folders, names in os.walk(data):
            folders.sort()
            inner = PurePosixPath(_DATA, Path(folder).relative_to(data))
            archive.addfile(_member(str(inner), tarfile.DIRTYPE, 0o700))
            for name in sorted(names):
                digests[str(inner / name)] = _add_file(
                    archive, str(inner / name), Path(folder, name)
                )
        _add_text(archive, _DIGESTS, json.dumps(digests))


def _member(name: str, kind: bytes, mode: int, length: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size = kind, mode, length
    return member


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> str:
    written = text.encode()
    archive.addfile(_member(name, tarfile.REGTYPE, 0o600, len(written)), io.BytesIO(written))
    return hashlib.sha256(written).hexdigest()


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        length = file.tell()
        file.seek(0)
        archive.addfile(_member(name, tarfile.REGTYPE, 0o600, length), file)
    return digest


@contextmanager
def _read(path: Path) -> Generator[tarfile.TarFile]:
    """An archive, read from its beginning; whatever is wrong with it is `BackupDamaged`."""
    try:
        with tarfile.open(path, mode="r|gz") as archive:
            yield archive
    except _NOT_WHOLE as error:
        raise BackupDamaged(f"{path} is damaged, or no backup.") from error
    except OSError as error:
        raise files.translate(error, path) from error


def _about(archive: tarfile.TarFile) -> str:
    first = archive.next()
    if first is None or first.name != _ABOUT:
        raise tarfile.ReadError
    return _text(archive, first, _MOST_ABOUT_BYTES).decode()


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    file = archive.extractfile(member)
    if file is None or member.size > most:
        raise tarfile.ReadError
    return file.read()


def _target(folder: Path, member: tarfile.TarInfo) -> Path:
    """The place of a member, which is a file or a directory in the data directory."""
    inner = PurePosixPath(member.name)
    if inner.parts[:1] != (_DATA,) or ".." in inner.parts or not (member.isdir() or member.isreg()):
        raise tarfile.ReadError
    return folder.joinpath(*inner.parts[1:])


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str:
    """Write a file, and return its digest."""
    digest = hashlib.sha256()
    source = archive.extractfile(member)
    assert source is not None  # a file has contents
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _in_the_way(is_part: bool) -> str:
    if not is_part:
        return "Choose another name, or move it away."
    return "Another backup writes it, or one was interrupted: then remove it."


def _megabytes(number: int) -> str:
    return f"{number / 1_000_000:,.0f} MB"
