"""Workflow files: their list, their contents, and their version.

A version is a hash over every file of the project's workflow folder and of the bundled one. Nothing is imported here. A folder called
`workflows` may belong to another program: only files whose text defines a DBOS workflow count.
"""

import ast
import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from durable_workflows import content
from durable_workflows.code.checks.scopes import Module
from durable_workflows.errors import WorkflowUnavailable
from durable_workflows.settings import Settings

BUNDLED = "_bundled"  # the bundled files' folder inside a version's code
MAX_FILE_BYTES = 4_000_000  # larger files are data, and do not belong in the code of a version
# Limits for files other than Python: prompts, schemas, queries. Each version with a change to one stores all of them again.
MAX_DATA_BYTES = 20_000_000
MAX_DATA_FILES = 1000
_ELSEWHERE = "keep data in the project, outside the workflow folder, and open it by its path relative to the project"
_TOO_LARGE = f"it has more than {MAX_FILE_BYTES // 1_000_000} MB; {_ELSEWHERE}"
_TOO_MUCH = f"only {MAX_DATA_BYTES // 1_000_000} MB and {MAX_DATA_FILES} non-Python files belong to a version, the smallest first; {_ELSEWHERE}"
_VERSION_LENGTH = 12
# A Postgres index takes rows of some 2,700 bytes; a character of UTF-8 has up to four.
MAX_NAME = 500  # characters
MAX_PATH_BYTES = 2000
_UNREADABLE = "this user may not read it"
_LET_READ = "Let this user read it. Until then nothing can be started; runs under way go on."
_LONG_PATH = f"its path has more than {MAX_PATH_BYTES:,} bytes"
# What workflow code can rely on apart from its own files. A change here makes all versions new, so that a run keeps what it began with.
_PROMISES = b"arguments are what their type hints say, values come back as they were"
_CLOCK_SECONDS = 0.1  # more than the tick of any file system's clock
_IGNORED = {"__pycache__", "node_modules"}
# The declarations in a text that does not parse, while it is edited.
_DECLARED = re.compile(
    r"^[ \t]*@(?:\w+\.)*workflow\((?P<arguments>[^)]*)\)\s*\n(?:[ \t]*@.*\n)*[ \t]*(?:async\s+)?def\s+(?P<name>\w+)",
    re.MULTILINE,
)
_NAMED = re.compile(r"name\s*=\s*[\"']([^\"']+)[\"']")


@dataclass(frozen=True)
class Snapshot:
    """The code as it is now: relative POSIX path to content, and the hash over all of it.

    `left_out` gives the reason for each file that is not part of it.
    """

    version: str
    files: Mapping[str, bytes]
    left_out: Mapping[str, str]


class Folder:
    """The code of a project, read again only when a file has changed. Only one thread may use it at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: object = None
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """The code as it is now; errors as for `snapshot`."""
        began = time.time()
        stamps = [_stamps(self._settings.workflow_folder), _stamps(content.folder("workflows"))]
        if self._snapshot is None or stamps != self._seen:
            self._snapshot = snapshot(self._settings)
            newest = max((stamp[1] for tree in stamps for stamp in tree), default=0) / 1e9
            # A file that changed just now may change again within the same clock tick of the file system.
            self._seen = stamps if newest < began - _CLOCK_SECONDS else None
        return self._snapshot


def snapshot(settings: Settings) -> Snapshot:
    """Read the project's workflow folder and the bundled one. Files that cannot be part of a version are left out.

    Raises:
        WorkflowUnavailable: the folder cannot be read.
    """
    own, left_out = _tree(settings.workflow_folder, settings.workflows.name)
    if not any(_is_workflow_file(path, data) for path, data in own.items()):
        # The folder belongs to another program, unless its workflows are in the unreadable part.
        own, left_out = {}, {name: why for name, why in left_out.items() if why == _UNREADABLE}
    bundled, _ = _tree(content.folder("workflows"), BUNDLED)
    files = {**own, **bundled}
    return Snapshot(version_of(files), files, left_out)


def version_of(files: Mapping[str, bytes]) -> str:
    """The version that has these files.

    If a version was saved under another name, it is from a release before `_PROMISES`: it runs as it did there.
    """
    digest = hashlib.sha256(_PROMISES)
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0".encode())
        digest.update(files[path])
    return digest.hexdigest()[:_VERSION_LENGTH]


def workflow_files(files: Mapping[str, bytes]) -> list[str]:
    """The paths that define workflows, the project's own paths before the bundled ones."""
    found = [path for path, data in files.items() if _is_workflow_file(path, data)]
    return sorted(found, key=lambda path: (path.startswith(f"{BUNDLED}/"), path))


def declared_names(source: str) -> list[str]:
    """The workflow names that a file's text declares, as far as text can show: methods with their class, and no names inside functions."""
    text = source.removeprefix("\ufeff")
    try:
        functions = Module(ast.parse(text), text).functions
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _seeming_names(text)
    workflows = [one for one in functions if one.kind == "workflow" and "<locals>" not in one.name]
    return list(dict.fromkeys(one.registered_name for one in workflows))


def _seeming_names(source: str) -> list[str]:
    names: list[str] = []
    for match in _DECLARED.finditer(source):
        given = _NAMED.search(match["arguments"])
        names.append(given[1] if given else match["name"])
    return names


def _stamps(folder: Path) -> list[tuple[str, int, int, int, int]]:
    """Stamps that show, without reading, that files have changed."""
    found: list[tuple[str, int, int, int, int]] = []
    files, closed = _below(folder)
    for path in sorted([*files, *closed]):
        with suppress(OSError):  # gone or unreadable: reported when it is read
            facts = path.stat()
            found.append((str(path), facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_mode))
    return found


def _tree(folder: Path, prefix: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files below a folder, and the reasons for the files left out."""
    found: dict[str, bytes] = {}
    sizes: list[int] = []
    files, closed = _below(folder)
    left_out = {_name(path, folder, prefix): _UNREADABLE for path in closed}
    for path in sorted(files, key=_importance):
        name = _name(path, folder, prefix)
        try:
            if not path.is_file():
                continue
            is_data, size, _ = _importance(path)
            if len(name.encode()) > MAX_PATH_BYTES:
                left_out[name] = _LONG_PATH
            elif size > MAX_FILE_BYTES:
                left_out[name] = _TOO_LARGE
            elif is_data and (sum(sizes) + size > MAX_DATA_BYTES or len(sizes) >= MAX_DATA_FILES):
                left_out[name] = _TOO_MUCH
            else:
                found[name] = path.read_bytes()
                sizes += [size] if is_data else []
        except FileNotFoundError:  # gone since the listing: an editor at work
            pass
        except UnicodeEncodeError:
            left_out[name] = "its name is not UTF-8"
        except PermissionError:
            left_out[name] = _UNREADABLE
    return found, left_out


def _name(path: Path, folder: Path, prefix: str) -> str:
    return str(PurePosixPath(prefix, *path.relative_to(folder).parts))


def _below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below a folder that may belong to a version, and the folders in it that cannot be listed.

    Raises:
        WorkflowUnavailable: the folder itself cannot be listed.
    """
    found: list[Path] = []
    closed: list[Path] = []

    def note(error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):  # it does not exist
            return
        if error.filename == str(folder):
            raise WorkflowUnavailable(
                f"The workflow folder {folder} cannot be read: {error.strerror}.", hint=_LET_READ
            ) from error
        closed.append(Path(error.filename))

    for parent, folders, files in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if _belongs(name)]
        found += [Path(parent, name) for name in files if _belongs(name)]
    return found, closed


def _belongs(name: str) -> bool:
    return not name.startswith(".") and name not in _IGNORED and not name.endswith(".pyc")


def _importance(path: Path) -> tuple[bool, int, str]:
    """The order in which files are taken: Python first, then data, the smallest first; with the size."""
    try:
        size = path.stat().st_size
    except OSError:  # gone or unreadable: reported when it is read
        size = 0
    return path.suffix != ".py", size, str(path)


def _is_workflow_file(path: str, data: bytes) -> bool:
    if not path.endswith(".py") or b"dbos" not in data:
        return False
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # It is being edited, or too deep for Python: the declarations in its text must do.
        return bool(declared_names(data.decode("utf-8", "replace")))
    return any(_is_workflow(node) for node in ast.walk(tree))


def _is_workflow(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    called = [item.func for item in node.decorator_list if isinstance(item, ast.Call)]
    return any(isinstance(item, ast.Attribute) and item.attr == "workflow" for item in called)
