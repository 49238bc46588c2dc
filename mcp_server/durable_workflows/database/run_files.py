"""A run with all that it started as a file: its rows and the code of their versions, as lines of JSON, for another project.

The first line is a `Header`, each other one `{"table": …, "row": {…}}`. Names of tables and columns come from the database in which the
file is imported, never from the file: a line with others is refused. Nothing of a file is executed here.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psycopg
from psycopg import sql
from pydantic import TypeAdapter, ValidationError

from durable_workflows.database import copying, tables
from durable_workflows.database.tables import Connection
from durable_workflows.errors import ExportDamaged, SetupError, WorkflowIdTaken
from durable_workflows.models import UNFINISHED, ExportHeader
from durable_workflows.settings import APPLICATION
from durable_workflows.system import archives

FORMAT = 1
_SLICE_BYTES = 1_000_000  # as they are stored; compressed texts are larger
_BATCH_CHARACTERS = 1_000_000
_LOCK = 7_203_012  # any constant: imports into one database come one after another
_MIGRATION = re.compile(r"\d{4}_\w+\.sql")
_VERSION = re.compile(r"[0-9a-f]{12}")
_CONTENT = re.compile(r"\\x(?:[0-9a-f]{2})*")


class Part(NamedTuple):
    """A table with rows of a run; they have its id, or what belongs to it, in the column `key`."""

    name: str
    key: str
    of_dbos: bool = False
    keyed_by: str = "run"
    columns: Sequence[str] | None = None  # None: all that can be written
    may_be_there: bool = False  # rows that are there already are the same ones


# In this order they can be inserted. What a run waits for comes after what it waits for: otherwise it would be woken.
PARTS = (
    Part("versions", "version", keyed_by="version", columns=("version",), may_be_there=True),
    Part("files", "digest", keyed_by="file", may_be_there=True),
    Part("version_files", "version", keyed_by="version", may_be_there=True),
    Part("workflow_status", "workflow_uuid", of_dbos=True),
    Part("workflow_input", "workflow_uuid", of_dbos=True),
    Part("workflow_output", "workflow_uuid", of_dbos=True),
    Part("operation_outputs", "workflow_uuid", of_dbos=True),
    Part("notifications", "destination_uuid", of_dbos=True),
    Part("workflow_events", "workflow_uuid", of_dbos=True),
    Part("workflow_events_history", "workflow_uuid", of_dbos=True),
    Part("streams", "workflow_uuid", of_dbos=True),
    Part("datasource_outputs", "workflow_id", of_dbos=True),
    Part("effects", "workflow_id"),
    Part("attempts", "workflow_id"),
    Part("labels", "workflow_id"),
    # Answered by messages there: the token is signed with the secret of this project.
    Part("callbacks", "workflow_id"),
    Part("answers", "workflow_id", may_be_there=True),  # they outlive their run
    Part("unanswered", "workflow_id"),
    Part("logs", "workflow_id"),
    Part("notified", "workflow_id"),
    Part("suspects", "workflow_id"),
    Part("waits", "workflow_id"),
    Part("parked", "workflow_id"),
    Part("parked_on", "workflow_id"),
    Part("woken", "workflow_id"),
)
# What belongs to a process, which stays where it is.
LEFT_OUT = frozenset({"running_steps"})
_BY_NAME = {part.name: part for part in PARTS}
_HEADER = TypeAdapter(ExportHeader)
_LINE = TypeAdapter(dict[str, object])


@dataclass(frozen=True)
class Tree:
    """The runs of an export: all ids, and those that have not ended."""

    workflow_ids: Sequence[str]
    unfinished: Sequence[str]


async def tree(connection: Connection, root: str, *, lock: bool) -> Tree:
    """The run and all that it started, in an open transaction. With `lock` they do not change, and no step of theirs is recorded, until its end."""
    while True:
        rows = await tables.fetch(connection, "descendant_ids", workflow_id=root)
        ids = [root, *(row["workflow_id"] for row in rows)]
        name = "lock_runs" if lock else "run_heads"
        found = await tables.fetch(connection, name, workflow_ids=ids)
        again = await tables.fetch(connection, "descendant_ids", workflow_id=root)
        if len(again) == len(rows):
            break
    return Tree(ids, [row["workflow_id"] for row in found if row["status"] in UNFINISHED])


async def write(
    connection: Connection, header: ExportHeader, runs: Tree, writer: archives.Writer
) -> None:
    """Write the header and all rows of these runs, in an open transaction."""
    writer.write(_HEADER.dump_json(header).decode())
    known = await copying.tables_of(connection)
    found = await tables.fetch(connection, "code_of_runs", workflow_ids=list(runs.workflow_ids))
    keys = {
        "run": list(runs.workflow_ids),
        "version": list({row["version"] for row in found}),
        "file": list({row["digest"] for row in found if row["digest"]}),
    }
    for part in PARTS:
        table = known.get((part.of_dbos, part.name))
        if table is not None:
            async for row in _rows(connection, table, part, keys[part.keyed_by]):
                writer.write(f'{{"table": "{part.name}", "row": {row}}}')


def _columns(table: copying.Table, part: Part) -> Sequence[str]:
    """What is exported: what a database numbers itself, it numbers anew."""
    return part.columns or [one for one in table.columns if one not in (table.numbered or ())]


async def _rows(
    connection: Connection, table: copying.Table, part: Part, keys: Sequence[str]
) -> AsyncIterator[str]:
    """The rows as JSON, in the order in which they were written, a slice at a time."""
    chosen = sql.SQL("{} where {} = any({})").format(
        table.identifier, sql.Identifier(part.key), sql.Literal(list(keys))
    )
    slices = await connection.execute(
        sql.SQL(
            "select count(*) as rows from (select sum({}) over (order by ctid) / {} as slice from {}) as sized group by slice order by slice"
        ).format(copying.stored_bytes(table), _SLICE_BYTES, chosen)
    )
    counts = [row["rows"] for row in await slices.fetchall()]
    if not counts:
        return
    cursor = sql.SQL(
        "declare exported no scroll cursor for select row_to_json(entry)::text as line from (select {} from {} order by ctid) as entry"
    )
    await connection.execute(cursor.format(_listed(_columns(table, part)), chosen))
    for count in counts:
        found = await connection.execute(sql.SQL("fetch {} from exported").format(count))
        for row in await found.fetchall():
            yield row["line"]
    await connection.execute("close exported")


def _listed(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


async def schema_of(connection: Connection) -> tuple[str, int]:
    """The newest migration of our tables, and the number of dbos's."""
    rows = await tables.fetch(connection, "applied_migrations")
    [dbos] = await tables.fetch(connection, "dbos_migration")
    return max(row["name"] for row in rows if _MIGRATION.fullmatch(row["name"])), dbos["version"]


@dataclass
class Contents:
    """What a file has in it, as far as it was read."""

    header: ExportHeader
    runs: set[str] = field(default_factory=set[str])
    unfinished: set[str] = field(default_factory=set[str])
    code: set[tuple[str, str, str]] = field(default_factory=set[tuple[str, str, str]])
    keys: dict[str, set[str]] = field(
        default_factory=lambda: {"run": set(), "version": set(), "file": set()}
    )
    rows: int = 0


class _Line(NamedTuple):
    part: Part
    columns: tuple[str, ...]
    key: str
    text: str


class Reader:
    """Reads a file line by line, and checks each. Only once `lines` has ended, the file is known to be whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts = archives.read(path)
        self.contents = Contents(self._header(next(self._texts, "")))

    def _header(self, text: str) -> ExportHeader:
        try:
            told = _LINE.validate_json(text)
            if isinstance(newer := told.get("format"), int) and newer > FORMAT:
                raise _newer("in a newer format")
            return _HEADER.validate_python(told)
        except ValidationError as error:
            raise self._damaged() from error

    def _damaged(self) -> ExportDamaged:
        return ExportDamaged(f"{self._path} is damaged, or no export of a run.")

    def lines(self) -> Iterator[_Line]:
        """All rows.

        Raises:
            ExportDamaged: the file is not as it was written.
        """
        found = self.contents
        for text in self._texts:
            part, row = self._parsed(text)
            key = self._checked(part, row)
            found.rows += 1
            yield _Line(part, tuple(row), key, text)
        if found.header.workflow_id not in found.runs or len(found.runs) != found.header.runs:
            raise self._damaged()

    def _parsed(self, text: str) -> tuple[Part, dict[str, object]]:
        try:
            told = _LINE.validate_json(text)
            row = _LINE.validate_python(told.get("row"))
        except ValidationError as error:
            raise self._damaged() from error
        part = _BY_NAME.get(str(told.get("table")))
        if part is None or told.keys() != {"table", "row"}:
            raise _newer("with rows of a table that is not known here")
        return part, row

    def _checked(self, part: Part, row: dict[str, object]) -> str:
        """The key of the row, which is of this file's runs, or code that can be one of their versions."""
        found, key = self.contents, row.get(part.key)
        keys = found.keys[part.keyed_by]
        if not isinstance(key, str):
            raise self._damaged()
        if part.name == "workflow_status":
            found.runs.add(key)
            found.unfinished |= {key} if row.get("status") in UNFINISHED else set()
        elif part.name == "files":
            content = str(row.get("content"))
            if not _CONTENT.fullmatch(content) or _digest(content) != key:
                raise self._damaged()
        elif part.name == "versions":
            if not _VERSION.fullmatch(key):
                raise self._damaged()
        elif key not in keys or (part.name == "version_files" and not self._is_code(row)):
            raise self._damaged()
        keys.add(key)
        return key

    def _is_code(self, row: dict[str, object]) -> bool:
        """Whether the file of a version is in this file, and has a place below the version's folder."""
        version, path, digest = (
            str(row.get("version")),
            str(row.get("path")),
            str(row.get("digest")),
        )
        self.contents.code.add((version, path, digest))
        parts = PurePosixPath(path).parts
        below = bool(parts) and ".." not in parts and not path.startswith("/") and "\0" not in path
        return below and digest in self.contents.keys["file"]


def _digest(content: str) -> str:
    return hashlib.sha256(bytes.fromhex(content[2:])).hexdigest()


def look(path: Path) -> Contents:
    """What is in a file, after all of it was read.

    Raises:
        ExportDamaged: it is not whole.
        SetupError: a newer release wrote it.
    """
    reader = Reader(path)
    for _ in reader.lines():
        pass
    return reader.contents


async def load(connection: Connection, path: Path, progress: Callable[[str], None]) -> bool:
    """Insert the rows of a file, in one transaction: all or none. False: the run is there already, and nothing was changed.

    Raises:
        ExportDamaged: the file is not whole, or the database refuses a row of it.
        WorkflowIdTaken: one of its ids, or keys, belongs to something else here.
        SetupError: a newer release wrote it.
    """
    reader = Reader(path)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
            await _check_schema(connection, reader.contents.header)
            if await _is_there(connection, reader.contents.header):
                return False
            inserter = _Inserter(connection, await copying.tables_of(connection))
            await inserter.insert(reader, progress)
            await _settle(connection, reader.contents)
    except psycopg.errors.UniqueViolation as error:
        said = error.diag.message_detail or tables.first_sentence(error)
        raise WorkflowIdTaken(
            f"Something here has an id, or another unique key, of what is in the file: {said}",
            hint="Nothing was imported. Delete the run that has it here, or import into another project.",
        ) from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        said = tables.first_sentence(error)
        raise ExportDamaged(f"The database refuses a row of {path}: {said}") from error
    return True


async def _check_schema(connection: Connection, header: ExportHeader) -> None:
    migration, of_dbos = await schema_of(connection)
    if header.migration > migration or header.dbos_migration > of_dbos:
        raise _newer(f"by release {header.release}")


def _newer(how: str) -> SetupError:
    return SetupError(
        f"The file was written {how}.",
        hint="Upgrade durable-workflows here, then import it again. Nothing was imported.",
    )


async def _is_there(connection: Connection, header: ExportHeader) -> bool:
    rows = await tables.fetch(connection, "run_heads", workflow_ids=[header.workflow_id])
    for row in rows:
        if (row["name"], row["created_at"]) != (header.name, header.created_at):
            raise WorkflowIdTaken(
                f"Another run here has the workflow_id {header.workflow_id!r}.",
                hint="Nothing was imported. Delete that run, or import into another project.",
            )
    return bool(rows)


class _Inserter:
    """Inserts the rows of a file, many at a time."""

    def __init__(self, connection: Connection, known: copying.Tables) -> None:
        self._connection = connection
        self._known = known
        self._new_versions: set[str] = set()

    async def insert(self, reader: Reader, progress: Callable[[str], None]) -> None:
        """Insert all rows; what is here of the code stays as it is."""
        batch: list[_Line] = []
        size = 0
        for line in reader.lines():
            if batch and (size > _BATCH_CHARACTERS or line[:2] != batch[0][:2]):
                await self._add(batch)
                progress(f"Importing: {reader.contents.rows:,} rows")
                batch, size = [], 0
            batch.append(line)
            size += len(line.text)
        if batch:
            await self._add(batch)

    async def _add(self, batch: Sequence[_Line]) -> None:
        part, columns, _, _ = batch[0]
        table = self._known.get((part.of_dbos, part.name))
        if table is None or not set(columns) <= set(_columns(table, part)):
            raise _newer(f"with columns of {part.name} that are not known here")
        if part.name == "versions":
            versions = [line.key for line in batch]
            rows = await tables.fetch(self._connection, "import_versions", versions=versions)
            self._new_versions |= {row["version"] for row in rows}
            return
        if part.name == "version_files":
            batch = [line for line in batch if line.key in self._new_versions]
        statement = sql.SQL(
            "insert into {table} ({columns}) select {values} from unnest(%s::text[]) with ordinality as line (text, place),"
            " json_populate_record(null::{table}, line.text::json -> 'row') as entry order by line.place {conflict}"
        ).format(
            table=table.identifier,
            columns=_listed(columns),
            values=sql.SQL(", ").join(sql.Identifier("entry", one) for one in columns),
            conflict=sql.SQL("on conflict do nothing" if part.may_be_there else ""),
        )
        await self._connection.execute(statement, [[line.text for line in batch]])


async def _settle(connection: Connection, contents: Contents) -> None:
    """Take from the runs what belonged to their project's processes, and let them go on here."""
    rows = await tables.fetch(
        connection, "code_of_versions", versions=list(contents.keys["version"])
    )
    if {(row["version"], row["path"], row["digest"]) for row in rows} != contents.code:
        raise WorkflowIdTaken(
            "A version of the code has the same name here, and other files.",
            hint="Nothing was imported. Import into another project.",
        )
    values = {"workflow_ids": list(contents.runs), "application": APPLICATION}
    await tables.run(connection, "settle_imported", **values)
