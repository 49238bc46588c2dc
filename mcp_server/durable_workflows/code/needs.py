"""The requirements of workflow files: their script metadata (PEP 723), and which of them this installation already meets.

Of the metadata only `dependencies` and `requires-python` count; `[tool.uv]` does not.
"""

import re
import tomllib
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import BaseModel, Field, ValidationError

from durable_workflows.code import catalog

OURS = "durable-workflows"
# As in the PEP.
_BLOCK = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", re.ASCII
)


@dataclass(frozen=True)
class Need:
    """The requirements of one file."""

    path: str
    requires_python: str | None
    dependencies: tuple[str, ...]


class _Block(BaseModel):
    requires_python: str | None = Field(default=None, alias="requires-python")
    dependencies: tuple[str, ...] = ()


def needs(files: Mapping[str, bytes]) -> tuple[list[Need], dict[str, str]]:
    """The needs of the workflow files with script metadata, and, by path, the mistakes in the metadata of others."""
    found: list[Need] = []
    errors: dict[str, str] = {}
    for path in catalog.workflow_files(_with_a_block(files)):
        try:
            found.extend(_need(path, files[path].decode("utf-8-sig", "replace")))
        except ValueError as error:
            errors[path] = f"Its script metadata cannot be used: {_first(error)}"
    return found, errors


def _with_a_block(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that may have script metadata. Each is parsed to find out which define workflows."""
    return {path: data for path, data in files.items() if b"# /// script" in data}


def _need(path: str, source: str) -> list[Need]:
    """The file's need, if it has one; a ValueError names a mistake in it."""
    blocks = [
        match["content"]
        for match in _BLOCK.finditer(source.replace("\r\n", "\n"))
        if match["type"] == "script"
    ]
    if not blocks:
        return []
    if len(blocks) > 1:
        raise ValueError("the file has more than one `# /// script` block.")
    lines = blocks[0].splitlines()
    block = _Block.model_validate(tomllib.loads("\n".join(line[2:] for line in lines)))
    SpecifierSet(block.requires_python or "")
    for dependency in block.dependencies:
        _check(dependency)
    return [Need(path, block.requires_python, block.dependencies)]


def _check(dependency: str) -> None:
    try:
        Requirement(dependency)
    except InvalidRequirement as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"{dependency!r} is not a requirement: {reason}") from error


def _first(error: ValueError) -> str:
    """The mistake, in one line."""
    if isinstance(error, ValidationError):
        detail = error.errors()[0]
        return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
    return str(error)


def applicable(texts: Iterable[str], extras: Iterable[str] = ()) -> Generator[Requirement]:
    """The requirements whose markers are true here, without the markers."""
    for text in texts:
        with suppress(InvalidRequirement):  # in the metadata of an old library
            requirement = Requirement(text)
            marker, requirement.marker = requirement.marker, None
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in [*extras, ""]):
                yield requirement


def _tree(
    requirement: Requirement, seen: set[tuple[str, frozenset[str]]]
) -> Generator[tuple[Requirement, str | None]]:
    """The requirement and all that it entails, each with the version installed here."""
    try:
        found = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        yield requirement, None
        return
    yield requirement, found.version
    key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
    if key not in seen:
        seen.add(key)
        for entailed in applicable(found.requires or (), requirement.extras):
            yield from _tree(entailed, seen)


def own_libraries() -> dict[str, str]:
    """The versions of this package and of all its requirements, by canonical name."""
    found = [
        (requirement.name, version) for requirement, version in _tree(Requirement(OURS), set())
    ]
    if found == [(OURS, None)]:  # a checkout that is not installed: its requirements are unknown
        found = [(each.name, each.version) for each in metadata.distributions()]
    return {str(canonicalize_name(name)): version for name, version in found if version is not None}


def missing_libraries() -> list[str]:
    """What this installation requires and does not have."""
    if not own_libraries().get(OURS):  # a checkout that is not installed
        return []
    return sorted({str(each) for each in unmet(Requirement(OURS))})


def unmet(requirement: Requirement) -> list[Requirement]:
    """The missing parts of the requirement and all that it entails."""
    return [
        each
        for each, version in _tree(requirement, set())
        if version is None or (not fits(each, version) and (each is requirement or not each.url))
    ]


def fits(requirement: Requirement, version: str) -> bool:
    """Whether the installed version meets the requirement. The origin of our own package is unknown, but there is only one."""
    if requirement.url:
        return canonicalize_name(requirement.name) == OURS
    return requirement.specifier.contains(version, prereleases=True)
