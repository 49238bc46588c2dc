"""Workflow files: which there are, what they hold, and their version.

A version is a hash over every file of the project's workflow folder and of the bundled one. Looking at files needs no
import of them; importing (`load`) is for workers only. A folder called `workflows` may belong to something else: only
files whose text defines a DBOS workflow are imported.
"""

import ast
import hashlib
import importlib.util
import inspect
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from durable_workflows import content
from durable_workflows.code.checks.scopes import Module
from durable_workflows.errors import NameTaken, WorkflowUnavailable
from durable_workflows.models import Schema, TemplateEntry
from durable_workflows.schemas.signatures import Signature
from durable_workflows.settings import Settings

BUNDLED = "_bundled"  # the bundled files' folder inside a version's code
MAX_FILE_BYTES = 4_000_000  # larger files are data, and do not belong into the code of a version
# Limits for files other than Python: prompts, schemas, queries. Each version that changes one stores all of them again.
MAX_DATA_BYTES = 20_000_000
MAX_DATA_FILES = 1000
_ELSEWHERE = (
    "keep data in the project, outside of the workflow folder, and open it by its path from there"
)
_TOO_LARGE = f"it has more than {MAX_FILE_BYTES // 1_000_000} MB; {_ELSEWHERE}"
_TOO_MUCH = f"only {MAX_DATA_BYTES // 1_000_000} MB and {MAX_DATA_FILES} files that are no Python belong to a version, the smallest ones; {_ELSEWHERE}"
_VERSION_LENGTH = 12
# An index of Postgres takes rows of some 2,700 bytes; a character of UTF-8 has up to four.
MAX_NAME = 500  # characters
MAX_PATH_BYTES = 2000
_UNREADABLE = "this user may not read it"
_LET_READ = "Let this user read it. Until then nothing can be started; what runs goes on."
_LONG_PATH = f"its path has more than {MAX_PATH_BYTES:,} bytes"
# What workflow code can rely on beside its own files. To change it makes all versions new ones, so that a run finishes with what it began.
_PROMISES = b"arguments are what their type hints say"
_CLOCK_SECONDS = 0.1  # more than the tick of any file system's clock
_IGNORED = {"__pycache__", "node_modules"}
# What a text declares that does not parse, while it is edited.
_DECLARED = re.compile(
    r"^[ \t]*@(?:\w+\.)*workflow\((?P<arguments>[^)]*)\)\s*\n(?:[ \t]*@.*\n)*[ \t]*(?:async\s+)?def\s+(?P<name>\w+)",
    re.MULTILINE,
)
_NAMED = re.compile(r"name\s*=\s*[\"']([^\"']+)[\"']")


@dataclass(frozen=True)
class Snapshot:
    """The code as it is now: relative POSIX path to content, and the hash over all of it. `left_out` says of other files why they are not part of it."""

    version: str
    files: Mapping[str, bytes]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class LoadedFile:
    """A file of a version that was imported, with the names that it has registered; or with the error that says why not."""

    path: str
    names: tuple[str, ...]
    error: str | None = None


class Names:
    """Which file of a version has which workflow name: the first that registers it, or that declares it and does not load."""

    def __init__(self, folder: Path, unregister: Callable[[Sequence[str]], None]) -> None:
        """`folder` holds the files of the version. `unregister` is called with the names that a file had registered before it failed."""
        self._folder = folder
        self._unregister = unregister
        self._registered: dict[str, str] = {}
        self._reserved: dict[str, str] = {}

    def claim(self, name: str) -> None:
        """Note the name for the file that is being imported, before it is registered.

        Raises:
            NameTaken: another file has it.
            ValueError: it is too long.
        """
        if len(name) > MAX_NAME:
            raise ValueError(
                f"The workflow name {name[:40]!r}… has {len(name):,} characters; at most {MAX_NAME} are possible."
            )
        path = self._being_imported()
        if path is not None:
            home = self._reserved.get(name) or self._registered.setdefault(name, path)
            if home != path:
                raise NameTaken(f"The name {name!r} is already used in {home}.")

    def fail(self, path: str, declared: Sequence[str]) -> tuple[str, ...]:
        """Note that a file does not load. Return the names for which it stands: those that no other file has, or else its path."""
        self._unregister_lost()
        free = tuple(
            name for name in declared if len(name) <= MAX_NAME and self.are_free([name])
        ) or (path,)
        self._reserved.update(dict.fromkeys(free, path))
        return free

    def of(self, path: str) -> tuple[str, ...]:
        """The names that a file has registered."""
        return tuple(name for name, home in self._registered.items() if home == path)

    def are_free(self, names: Sequence[str]) -> bool:
        """Whether no file has any of them."""
        return (self._registered.keys() | self._reserved.keys()).isdisjoint(names)

    def paths(self) -> list[str]:
        """The files that have registered names."""
        return sorted(set(self._registered.values()))

    def _unregister_lost(self) -> None:
        loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        paths = [path for path in self.paths() if str(self._folder / path) not in loaded]
        lost = [name for path in paths for name in self.of(path)]
        self._unregister(lost)
        for name in lost:
            del self._registered[name]

    def _being_imported(self) -> str | None:
        frame = inspect.currentframe()
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if frame.f_code.co_name == "<module>" and file.is_relative_to(self._folder):
                return file.relative_to(self._folder).as_posix()
            frame = frame.f_back
        return None


class Folder:
    """The code of a project, read again only when a file has changed. For one thread at a time."""

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
            # A file that changed just now may change again within the same tick of the file system's clock.
            self._seen = stamps if newest < began - _CLOCK_SECONDS else None
        return self._snapshot


def snapshot(settings: Settings) -> Snapshot:
    """Read the project's workflow folder and the bundled one. A file that cannot be part of a version is left out.

    Raises:
        WorkflowUnavailable: the folder cannot be read.
    """
    own, left_out = _tree(settings.workflow_folder, settings.workflows.name)
    if not any(_is_workflow_file(path, data) for path, data in own.items()):
        # The folder belongs to something else, unless its workflows are in what cannot be read.
        own, left_out = {}, {name: why for name, why in left_out.items() if why == _UNREADABLE}
    bundled, _ = _tree(content.folder("workflows"), BUNDLED)
    files = {**own, **bundled}
    return Snapshot(version_of(files), files, left_out)


def version_of(files: Mapping[str, bytes]) -> str:
    """The version that has these files.

    A version that was saved under another name is of a release before `_PROMISES`: it runs as it did there.
    """
    digest = hashlib.sha256(_PROMISES)
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0".encode())
        digest.update(files[path])
    return digest.hexdigest()[:_VERSION_LENGTH]


def templates() -> list[TemplateEntry]:
    """The templates of this installation, with the first line of each one's docstring."""
    return [
        TemplateEntry(name=path.stem, use_when=_first_line(_docstring(path.read_bytes())))
        for path in sorted(content.folder("templates").glob("*.py"))
    ]


def workflow_files(files: Mapping[str, bytes]) -> list[str]:
    """The paths that define workflows, the project's own before the bundled ones."""
    found = [path for path, data in files.items() if _is_workflow_file(path, data)]
    return sorted(found, key=lambda path: (path.startswith(f"{BUNDLED}/"), path))


def declared_names(source: str) -> list[str]:
    """The workflow names that a file's text declares, as far as text can show: methods with their class, and none in a function."""
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


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Put a version's files below `folder`, which must not exist."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def load(
    files: Mapping[str, bytes],
    folder: Path,
    faults: Mapping[str, str],
    names: Names,
    around: Callable[[str], AbstractContextManager[object]],
    project: Path,
) -> Iterator[LoadedFile]:
    """Import the workflow files of a version that `write` put below `folder`, one after the other; not those with `faults`, by path.

    Each import happens inside of what `around` makes of the file's path, and an exception leaves it where the import fails. `names` hears of what they register (`Names.claim`).
    A file that fails does not keep the others from loading. A bundled file steps aside for a project's file that has a
    workflow of the same name.
    """
    _extend_import_path(folder, files)
    done: set[str] = set()
    for path in workflow_files(files):
        declared = declared_names(files[path].decode("utf-8", "replace"))
        if path.startswith(f"{BUNDLED}/") and not names.are_free(declared):
            continue
        done.add(path)
        error = faults.get(path)
        if error is None:
            error = _imported(path, folder, names, around, project)
        found = names.of(path) if error is None else names.fail(path, declared)
        yield LoadedFile(path, found, error)
    for path in names.paths():
        if path not in done:  # a neighbour, whose text does not show that it makes workflows
            yield LoadedFile(path, names.of(path))


def summary(function: Callable[..., Any]) -> str:
    """The first line of a workflow's docstring."""
    return _first_line(inspect.getdoc(function))


def args_schema(function: Callable[..., Any]) -> Schema:
    """The JSON schema of a workflow's arguments, from its signature and type hints; what is not annotated takes anything.

    Its description is what the docstring says beyond the first line.
    """
    signature = Signature(function)
    schemas, definitions = signature.schemas()
    properties: dict[str, Schema] = {}
    required: list[str] = []
    extra: Schema | bool = False
    for name, parameter in signature.parameters.items():
        schema = schemas.get(name, {})
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = schema or True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            if parameter.default is inspect.Parameter.empty:
                required.append(name)
            else:
                schema["default"] = _json_default(parameter.default)
            properties[name] = schema
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    schema["additionalProperties"] = extra
    more = _more_lines(inspect.getdoc(function))
    described: Schema = {"description": more} if more else {}
    return described | schema | ({"$defs": definitions} if definitions else {})


def _stamps(folder: Path) -> list[tuple[str, int, int, int, int]]:
    """What tells, without reading, that files have changed."""
    found: list[tuple[str, int, int, int, int]] = []
    files, closed = _below(folder)
    for path in sorted([*files, *closed]):
        with suppress(OSError):  # gone, or not to be read: said when it is read
            facts = path.stat()
            found.append((str(path), facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_mode))
    return found


def _tree(folder: Path, prefix: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files below a folder, and, of those that are left out, why."""
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
        except FileNotFoundError:  # gone since it was listed: an editor at work
            pass
        except UnicodeEncodeError:
            left_out[name] = "its name is not UTF-8"
        except PermissionError:
            left_out[name] = _UNREADABLE
    return found, left_out


def _name(path: Path, folder: Path, prefix: str) -> str:
    return str(PurePosixPath(prefix, *path.relative_to(folder).parts))


def _below(folder: Path) -> tuple[list[Path], list[Path]]:
    """What may belong to a version of what is below a folder, and the folders in it that cannot be listed.

    Raises:
        WorkflowUnavailable: the folder itself cannot be listed.
    """
    found: list[Path] = []
    closed: list[Path] = []

    def note(error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):  # there is none, or no more
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
    except OSError:  # gone, or not to be read: said when it is read
        size = 0
    return path.suffix != ".py", size, str(path)


def _is_workflow_file(path: str, data: bytes) -> bool:
    if not path.endswith(".py") or b"dbos" not in data:
        return False
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # It is being edited, or too deep for Python: what its text declares has to do.
        return bool(declared_names(data.decode("utf-8", "replace")))
    return any(_is_workflow(node) for node in ast.walk(tree))


def _is_workflow(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    called = [item.func for item in node.decorator_list if isinstance(item, ast.Call)]
    return any(isinstance(item, ast.Attribute) and item.attr == "workflow" for item in called)


def _docstring(source: bytes) -> str | None:
    return ast.get_docstring(ast.parse(source))


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", 1)[0]


def _more_lines(text: str | None) -> str:
    return (text or "").strip().partition("\n")[2].strip()


def _extend_import_path(folder: Path, files: Mapping[str, bytes]) -> None:
    """Let workflow files import their neighbours.

    The folders come last: a file named like a library must not hide the library from this process.
    """
    tops = dict.fromkeys(PurePosixPath(path).parts[0] for path in files)
    for entry in [*(str(folder / top) for top in tops), str(folder)]:
        if entry not in sys.path:
            sys.path.append(entry)


class _DoesNotLoad(Exception):
    """The import of a file has failed; the message says why."""


def _imported(
    path: str,
    folder: Path,
    names: Names,
    around: Callable[[str], AbstractContextManager[object]],
    project: Path,
) -> str | None:
    """Import a file; return the error if it fails. Nothing is left then of it, nor of the neighbours that only it has imported."""
    before = {*sys.modules}
    try:
        with around(path):
            _import(path, folder, project)
    except _DoesNotLoad as error:
        _forget({*sys.modules} - before, folder, {folder / home for home in names.paths()})
        return str(error)
    return None


def _forget(modules: Collection[str], folder: Path, kept: Collection[Path]) -> None:
    """Let the next file that needs these neighbours import them anew: what they did to the process was undone. Those with workflows are `kept`."""
    for name in modules:
        file = Path(getattr(sys.modules[name], "__file__", None) or "/")
        if file.is_relative_to(folder) and file not in kept:
            del sys.modules[name]


def _import(path: str, folder: Path, project: Path) -> None:
    file = folder / path
    name = _module_name(path, file)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise _DoesNotLoad(f"{path} is not a Python file.")
    if name in sys.modules:  # a neighbour has imported it
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except NameTaken as error:
        del sys.modules[name]
        raise _DoesNotLoad(error.message) from error
    except BaseException as error:  # code that is not ours: what it raises is its answer
        del sys.modules[name]
        raise _DoesNotLoad(
            _own_traceback(file) + _place_of_helpers(error, project, PurePosixPath(path).parts[0])
        ) from error


def _place_of_helpers(error: BaseException, project: Path, workflows: str) -> str:
    """What to add where a file looks for a module that is in the project, and not in the workflow folder."""
    top = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    for place in (project / f"{top}.py", project / top) if top else ():
        if place.exists():
            return f". {place.name} is in the project's directory; workflow code has what is in {workflows}/ only: move it there"
    return ""


def _module_name(path: str, file: Path) -> str:
    """The name under which a neighbour would import the file, or one of our own where that name means something else."""
    natural = ".".join(PurePosixPath(path).with_suffix("").parts[1:])
    try:
        found = importlib.util.find_spec(natural)
    except (ImportError, ValueError):
        found = None
    if found is not None and found.origin and Path(found.origin) == file:
        return natural
    return "workflow_file_" + re.sub(r"\W", "_", natural)


def _own_traceback(file: Path) -> str:
    """The traceback of the exception being handled, from the workflow file on."""
    _, error, trace = sys.exc_info()
    assert error is not None
    while trace is not None and Path(trace.tb_frame.f_code.co_filename) != file:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).strip()


def _json_default(value: object) -> object:
    """The default of an argument, as a schema can show it."""
    plain = value is None or isinstance(value, str | int | float | bool)
    return value if plain else repr(value)
