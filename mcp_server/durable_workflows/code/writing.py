"""Writing files into a project's workflow folder: checked, as a whole, and to no other place.

An existing file stays unless its replacement is requested.
"""

import ast
import builtins
import importlib.util
import keyword
import os
import secrets
import sys
from pathlib import Path

from durable_workflows import content, wording
from durable_workflows.code import catalog
from durable_workflows.errors import InvalidProject, UsageError
from durable_workflows.settings import Settings
from durable_workflows.system import files

_LONGEST = 100  # characters of a name, which must fit into a file name


def write_workflow(settings: Settings, name: str, source: str, *, overwrite: bool = False) -> Path:
    """Write the workflow file NAME.py; return its path. A reader sees all of it or nothing.

    With `overwrite` a file of that name is replaced. A link is also replaced, but never its target.

    Raises:
        UsageError: the name cannot be that of a workflow file, or is taken.
        SetupError: the workflow folder cannot be written.
    """
    check_name(name)
    if not settings.project.is_dir():
        raise InvalidProject(f"{settings.project} is not a directory.")
    folder = settings.workflow_folder
    target = folder / f"{name}.py"
    if (folder / name).is_dir():  # an import of the name would find the folder instead of the file
        raise _taken(name, f"the folder {_shown(folder / name, settings)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = _publish(target, source, overwrite=overwrite)
    except OSError as error:
        raise files.translate(error, folder) from error
    if not written:
        raise _taken(name, f"the file {_shown(target, settings)}")
    return target


def from_template(settings: Settings, template: str, name: str, *, overwrite: bool = False) -> str:
    """The text of a template as a workflow of your own: `name` replaces the name of the template everywhere.

    With `overwrite` it may replace what the file NAME.py defines now.

    Raises:
        UsageError: there is no such template, or the name cannot be that of a new workflow.
        SetupError: the workflow folder cannot be read.
    """
    check_name(name)
    source = _template(template)
    if name != template and name in _identifiers(source):
        raise UsageError(
            f"The template {template} uses the name {name!r} itself.", hint="Choose another name."
        )
    own = f"{settings.workflows.name}/{name}.py" if overwrite else ""
    for path, names in _declared(settings).items():
        if name in names and path != own:
            bundled = path.startswith(f"{catalog.BUNDLED}/")
            raise _taken(name, "a bundled workflow" if bundled else f"a workflow in {path}")
    return source.replace(template, name)


def _declared(settings: Settings) -> dict[str, list[str]]:
    """The workflow names that each file declares."""
    files = catalog.snapshot(settings).files
    return {
        path: catalog.declared_names(files[path].decode("utf-8", "replace"))
        for path in catalog.workflow_files(files)
    }


def _template(name: str) -> str:
    """The text of a template."""
    files = {path.stem: path for path in sorted(content.folder("templates").glob("*.py"))}
    if name not in files:
        meant = wording.closest(name, files, cutoff=0.5)
        raise UsageError(
            f"There is no template {name!r}.{meant}", hint=f"Use one of {', '.join(files)}."
        )
    return files[name].read_text(encoding="utf-8")


def check_name(name: str) -> None:
    """Check that a file of this name can be imported, also by its neighbours, and that the name means only this file.

    Raises:
        UsageError: it does not.
    """
    hint = (
        "Choose a name like nightly_report: letters, digits and underscores. Nothing was written."
    )
    if not (name.isascii() and name.isidentifier() and len(name) <= _LONGEST):
        raise UsageError(f"{name!r} cannot be the name of a workflow file.", hint=hint)
    if keyword.iskeyword(name) or hasattr(builtins, name) or name.startswith("__"):
        raise UsageError(f"{name!r} already has a meaning in Python.", hint=hint)
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise UsageError(
            f"{name!r} is the name of a Python module; imports would find that module instead.",
            hint=hint,
        )


def _identifiers(source: str) -> set[str]:
    """The names that a text defines or uses as a variable."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name():
                found.add(node.id)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.arg():
                found.add(node.arg)
            case ast.alias():
                found.add((node.asname or node.name).split(".")[0])
            case _:
                pass
    return found


def _taken(name: str, by: str) -> UsageError:
    return UsageError(
        f"The name {name!r} is taken by {by}.", hint="Choose another name. Nothing was written."
    )


def _shown(path: Path, settings: Settings) -> str:
    return (
        str(path.relative_to(settings.project))
        if path.is_relative_to(settings.project)
        else str(path)
    )


def _publish(target: Path, text: str, *, overwrite: bool) -> bool:
    """Make the whole text appear at once, unless it may not replace an existing file.

    No catalog reads its temporary name, which begins with a dot.
    """
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if overwrite:
            os.replace(temporary, target)
        else:
            os.link(temporary, target)  # unlike a rename, a link never replaces a file
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
