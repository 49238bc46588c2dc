"""The classes whose instances a version's runs may record: those of its own code, and of the libraries that it imports.

These are the classes in the modules of the workflow files, and those that such a module has by name: `from lib import Order`, or
`from lib import orders` for all classes of that module. Also the classes of all installed libraries from which a workflow file has
something by name, and of what these require: an answer of an agents' library is made of their classes. Their modules must have been loaded
with the workflow files, so that every process of the version has them: a row names a class and never causes the import of anything but a
workflow file.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from durable_workflows.seam import libraries

_OURS = "durable_workflows.authoring"


class OwnClasses:
    """See the module. Without folders nothing is found."""

    def __init__(self) -> None:
        self._folders: Sequence[Path] = ()
        self._found: dict[str, type] = {}
        self._names: dict[type, str] = {}
        self._loaded: frozenset[str] = frozenset()
        self._libraries: frozenset[str] | None = None

    def look_in(self, folders: Sequence[Path]) -> None:
        """Look in the workflow files of these folders."""
        self._folders = tuple(folders)

    def note_loaded(self) -> None:
        """Call it when the workflow files were imported: of libraries, only the modules that are loaded now are looked in."""
        self._loaded, self._libraries = frozenset(sys.modules), None

    def name_of(self, kind: type) -> str | None:
        """The name under which values of the class are recorded; None: it is not in the version's code."""
        name = self._names.get(kind)
        if name is None:
            name = f"{kind.__module__}:{kind.__qualname__}"
            if self.find(name) is not kind:
                return self._name_of_origin(kind)
            self._names[kind] = name
        return name

    def find(self, name: str) -> type | None:
        """The class with such a name; None: it is not in the version's code."""
        found = self._found.get(name)
        if found is None:
            module_name, _, path = name.partition(":")
            module = sys.modules.get(module_name) or self._imported(module_name)
            found = _class_at(module, path)
            if found is None or module is None or not self._is_own(module, found):
                return None
            self._found[name] = found
        return found

    def _name_of_origin(self, kind: Any) -> str | None:
        """A model such as `Page[int]` has the fields of `Page`, and equals it."""
        origin = getattr(kind, "__pydantic_generic_metadata__", {}).get("origin")
        return None if origin is None else self.name_of(origin)

    def _is_own(self, module: ModuleType, kind: type) -> bool:
        if module.__name__.partition(".")[0] == _OURS.partition(".")[0]:
            return f"{module.__name__}.".startswith(f"{_OURS}.")
        return self._is_below(module) or self._is_named(module, kind) or self._is_of_library(module)

    def _is_named(self, module: ModuleType, kind: type) -> bool:
        return any(
            value is kind or value is module
            for own in self._modules()
            for value in list(vars(own).values())
        )

    def _is_of_library(self, module: ModuleType) -> bool:
        if module.__name__ not in self._loaded:
            return False
        if self._libraries is None:  # many versions record no such value: they need not look
            packages = (name for own in self._modules() for name in libraries.imported(own))
            self._libraries = libraries.with_requirements(packages)
        return libraries.top_of(module.__name__) in self._libraries

    def _modules(self) -> Iterator[ModuleType]:
        """The modules of the workflow files that were imported."""
        return (one for one in list(sys.modules.values()) if self._is_below(one))

    def _is_below(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        return file is not None and any(Path(file).is_relative_to(one) for one in self._folders)

    def _imported(self, name: str) -> ModuleType | None:
        """A neighbour that the code had imported in a step, which this process has not run."""
        path = Path(*name.split("."))
        for folder in self._folders:
            if (folder / path).with_suffix(".py").exists() or (
                folder / path / "__init__.py"
            ).exists():
                top = importlib.util.find_spec(path.parts[0])
                if top is not None and top.origin and Path(top.origin).is_relative_to(folder):
                    return importlib.import_module(name)
        return None


def _class_at(module: ModuleType | None, path: str) -> type | None:
    found: Any = module
    for part in path.split("."):
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
    return found if isinstance(found, type) else None
