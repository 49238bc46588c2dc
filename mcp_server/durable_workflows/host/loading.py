"""Imports the workflow files of a version, one after the other, so that a file that does not load harms no other."""

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from durable_workflows.code.catalog import BUNDLED, MAX_NAME, declared_names, workflow_files
from durable_workflows.errors import NameTaken


@dataclass(frozen=True)
class LoadedFile:
    """A file of a version that was imported, with the names that it has registered, or with the error."""

    path: str
    names: tuple[str, ...]
    error: str | None = None


class Names:
    """Maps each workflow name to its file: the first file that registers it, or that declares it and does not load."""

    def __init__(self, folder: Path, unregister: Callable[[Sequence[str]], None]) -> None:
        """`folder` holds the files of the version. `unregister` is called with the names that a file registered before it failed."""
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
                f"The workflow name {name[:40]!r}… has {len(name):,} characters; the limit is {MAX_NAME}."
            )
        path = self._being_imported()
        if path is not None:
            home = self._reserved.get(name) or self._registered.setdefault(name, path)
            if home != path:
                raise NameTaken(f"The name {name!r} is already used in {home}.")

    def fail(self, path: str, declared: Sequence[str]) -> tuple[str, ...]:
        """Note that a file does not load. Return the names that it stands for: its names that no other file has, or else its path."""
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
        """Whether none of the names belongs to a file."""
        return (self._registered.keys() | self._reserved.keys()).isdisjoint(names)

    def paths(self) -> list[str]:
        """The paths of files that have registered names."""
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


def load(
    files: Mapping[str, bytes],
    folder: Path,
    faults: Mapping[str, str],
    names: Names,
    around: Callable[[str], AbstractContextManager[object]],
    project: Path,
) -> Iterator[LoadedFile]:
    """Import the workflow files of a version that `write` put below `folder`, one after the other, without those with `faults`, by path.

    Each import happens inside the context manager that `around` makes for the file's path; if the import fails, an exception leaves it.
    `names` is told
    of the registered names (`Names.claim`). A file that fails does not keep the others from loading. If a project's file has a workflow
    with the
    same name, a bundled file is not loaded.
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
        if path not in done:  # neighbours whose text does not show that they make workflows
            yield LoadedFile(path, names.of(path))


def _extend_import_path(folder: Path, files: Mapping[str, bytes]) -> None:
    """Let workflow files import their neighbours.

    The folders come last: a file with the name of a library must not hide the library from this process.
    """
    tops = dict.fromkeys(PurePosixPath(path).parts[0] for path in files)
    for entry in [*(str(folder / top) for top in tops), str(folder)]:
        if entry not in sys.path:
            sys.path.append(entry)


class _DoesNotLoad(Exception):
    """The import of a file has failed; the message gives the reason."""


def _imported(
    path: str,
    folder: Path,
    names: Names,
    around: Callable[[str], AbstractContextManager[object]],
    project: Path,
) -> str | None:
    """Import a file; return the error if it fails. After a failure nothing is left of it, or of neighbours that only it has imported."""
    before = {*sys.modules}
    try:
        with around(path):
            _import(path, folder, project)
    except _DoesNotLoad as error:
        _forget({*sys.modules} - before, folder, {folder / home for home in names.paths()})
        return str(error)
    return None


def _forget(modules: Collection[str], folder: Path, kept: Collection[Path]) -> None:
    """Let the next file that needs these neighbours import them again: their changes to the process were undone.

    Those with workflows are `kept`.
    """
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
    except BaseException as error:  # foreign code: whatever it raises is its answer
        del sys.modules[name]
        raise _DoesNotLoad(
            _own_traceback(file) + _place_of_helpers(error, project, PurePosixPath(path).parts[0])
        ) from error


def _place_of_helpers(error: BaseException, project: Path, workflows: str) -> str:
    """The advice for a file that looks for a module in the project, outside of the workflow folder."""
    top = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    for place in (project / f"{top}.py", project / top) if top else ():
        if place.exists():
            return f". {place.name} is in the project directory, but workflow code sees only {workflows}/: move it there"
    return ""


def _module_name(path: str, file: Path) -> str:
    """The name by which a neighbour would import the file, or a name of ours if that name has another meaning."""
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
