"""The code of versions in the database: a worker runs what was saved once, whatever has happened to the files since."""

import hashlib

from durable_workflows.code.catalog import Snapshot
from durable_workflows.database import tables


async def save(connection: tables.Connection, snapshot: Snapshot) -> None:
    """Save the snapshot's files, unless they are saved, and make it the newest version. A version is saved as a whole or not at all."""
    if await state(connection, snapshot.version) is None:
        await _save_files(connection, snapshot)
    await tables.run(connection, "make_newest", version=snapshot.version)


async def _save_files(connection: tables.Connection, snapshot: Snapshot) -> None:
    async with connection.transaction():
        await tables.run(connection, "save_version", version=snapshot.version)
        for path, content in snapshot.files.items():
            await tables.run(
                connection,
                "save_file",
                version=snapshot.version,
                path=path,
                content=content,
                digest=hashlib.sha256(content).hexdigest(),
            )


async def state(connection: tables.Connection, version: str) -> tuple[str, str | None] | None:
    """The state of a version; None for a version that was never saved.

    It is `saved` (with its progress), `ready` (its catalog is published) or `failed` (with the reason).
    """
    rows = await tables.fetch(connection, "version_states", version=version)
    return (rows[0]["state"], rows[0]["note"]) if rows else None
