"""The libraries that a module imports, with all that these require: by the names of their packages."""

from collections.abc import Iterable, Iterator
from importlib import metadata
from types import FunctionType, ModuleType

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

# All workflow files import dbos, and no value of a run is an object of its engine.
_NOT_COUNTED = frozenset(("dbos", "durable-workflows"))


def imported(module: ModuleType) -> Iterator[str]:
    """The packages from which the module has something by name: a module, a class or a function."""
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            yield top_of(value.__name__)
        elif isinstance(value, type | FunctionType):
            yield top_of(value.__module__ or "")


def top_of(module: str) -> str:
    """The package in which a module is."""
    return module.partition(".")[0]


def with_requirements(packages: Iterable[str]) -> frozenset[str]:
    """Those of the packages that are installed libraries, and the packages of all libraries that these require."""
    homes = {
        package: {canonicalize_name(name) for name in names}
        for package, names in metadata.packages_distributions().items()
    }
    waiting = [name for package in {*packages} for name in homes.get(package, ())]
    found: set[NormalizedName] = set()
    while waiting:
        name = waiting.pop()
        if name not in found and name not in _NOT_COUNTED:
            found.add(name)
            waiting.extend(_required(name))
    return frozenset(package for package, names in homes.items() if names & found)


def _required(name: NormalizedName) -> list[NormalizedName]:
    """What a library may require. Of its extras, what is installed counts."""
    try:
        texts = metadata.requires(name) or ()
        return [canonicalize_name(Requirement(text).name) for text in texts]
    except (metadata.PackageNotFoundError, ValueError):  # not installed; metadata of an old form
        return []
