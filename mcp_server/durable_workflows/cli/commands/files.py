"""Commands for workflow files: making one of a template or a text, checking and running one; and for what there is to start and to read."""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from durable_workflows import content
from durable_workflows.cli import printing, shell_completion, terminal
from durable_workflows.cli.command import Command
from durable_workflows.cli.commands.common import Args, AsJson, OwnId, engine_of, given_text
from durable_workflows.code import catalog, writing
from durable_workflows.code.checks import checking
from durable_workflows.code.templates import template_entries
from durable_workflows.docs import searching
from durable_workflows.engine import following
from durable_workflows.errors import UsageError
from durable_workflows.models import CatalogEntry, Ended, StartRequest
from durable_workflows.settings import Settings
from durable_workflows.telling import rehearsals

if TYPE_CHECKING:
    from durable_workflows.engine.engine import Engine


def new(
    settings: Settings,
    template: Annotated[
        str | None,
        typer.Argument(
            metavar="TEMPLATE",
            help="The template to copy.",
            autocompletion=shell_completion.templates,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The name of the new workflow and of its file."),
    ] = None,
    *,
    list_them: Annotated[
        bool, typer.Option("--list", help="Only list the templates and when to use each.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="List them as JSON.")] = False,
) -> None:
    """Create a workflow from a template.

    Copies TEMPLATE into the project's workflow folder, under your own name. Never overwrites a file. Without arguments, lists
    the templates.
    """
    if list_them or template is None:
        printing.print_templates(template_entries(), as_json)
        return
    if name is None:
        raise typer.BadParameter("Missing argument 'NAME': the name of the new workflow.")
    source = writing.from_template(settings, template, name)
    path = _from_here(writing.write_workflow(settings, name, source))
    terminal.out(str(path))
    printing.say(f"Next: durable-workflows run {shlex.quote(path)} --args '{{}}'")


async def check(
    settings: Settings,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="Workflow files, or folders of them. Default: the workflow folder.",
        ),
    ] = None,
    *,
    replay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORKFLOW_ID",
            help="Instead of files, replay this recorded run on the present code. Can be repeated.",
            autocompletion=shell_completion.workflow_ids,
        ),
    ] = None,
    replay_last: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Replay the last N runs of each workflow."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check workflow files without running them.

    Errors keep a workflow from being started. Warnings mark code that may take a different path when a run is replayed. The exit status is 1 if there is either,
    as pre-commit wants it. A comment `# deterministic: <reason>` on a line turns off its warnings.

    With --replay, recorded runs are replayed on the present code, several times, without executing anything: each time with another clock, hash seed,
    random numbers, time zone, directory and environment. The exit status is 1 unless the code calls each time what is recorded.
    """
    if replay or replay_last:
        if files:
            raise typer.BadParameter("Give either files, or runs to replay.")
        await _replay(settings, replay or [], replay_last, as_json)
    else:
        _check_files(settings, files or [settings.workflow_folder], as_json)


async def _replay(
    settings: Settings, workflow_ids: Sequence[str], last: int | None, as_json: bool
) -> None:
    async with engine_of(settings) as engine:
        with printing.progress("Replaying"):
            found = await engine.rehearse(workflow_ids, shaken=True) if workflow_ids else []
            found += await engine.rehearse_last(last, shaken=True) if last else []
    if as_json:
        terminal.out(json.dumps([one.model_dump() for one in found], indent=2))
    else:
        for one in found:
            terminal.out(rehearsals.line(one))
    if any(one.verdict != "safe" for one in found):
        raise typer.Exit(1)


def _check_files(settings: Settings, given: Sequence[Path], as_json: bool) -> None:
    paths = list(_to_check(settings, given))
    found: list[tuple[str, checking.Finding]] = []
    for file in paths:
        path, others = _among_others(settings, file)
        text = file.read_text(encoding="utf-8", errors="replace")
        found += [(os.fspath(file), one) for one in checking.check(path, text, others)]
    if as_json:
        terminal.out(
            json.dumps([{"file": file} | one.model_dump() for file, one in found], indent=2)
        )
    else:
        for file, one in found:
            terminal.out(checking.render(file, [one]))
    printing.say_checked(len(paths), [one for _, one in found])
    if any(one.severity != "note" for _, one in found):
        raise typer.Exit(1)


def _to_check(settings: Settings, given: Sequence[Path]) -> Iterator[Path]:
    """The files that were given, and those in the folders."""
    for path in given:
        if path.is_dir():
            yield from (Path(_from_here(one)) for one in _python_files(path.resolve()))
        elif path.is_file():
            yield path
        elif path == settings.workflow_folder:
            raise UsageError(
                f"There is no workflow folder {path}.",
                hint="Create a workflow with `durable-workflows new`, or name the files to check.",
            )
        else:
            raise UsageError(f"There is no file {path}.")


def _python_files(folder: Path) -> Iterator[Path]:
    """The Python files of a folder, without those that are hidden or a cache."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        if not any(part.startswith((".", "__pycache__")) for part in parts):
            yield path


def _among_others(settings: Settings, file: Path) -> tuple[str, dict[str, str]]:
    """A file's path in a snapshot, and the texts of the files with which it would be loaded: its folder's, if that is the project's."""
    if not file.resolve().is_relative_to(settings.workflow_folder.resolve()):
        return file.name, {}
    files = catalog.snapshot(settings).files
    others = {
        path: files[path].decode("utf-8", "replace") for path in catalog.workflow_files(files)
    }
    inside = file.resolve().relative_to(settings.workflow_folder.resolve()).as_posix()
    return f"{settings.workflows.name}/{inside}", others


def search_docs(
    _settings: Settings,
    query: Annotated[
        list[str], typer.Argument(metavar="QUERY...", help="A few words, or the text of an error.")
    ],
) -> None:
    """Search the references and templates.

    Shows the best matching passages. Needs no project and no network.
    """
    asked = " ".join(query)
    terminal.out(searching.render(asked, searching.search(asked)))


async def show_catalog(
    settings: Settings,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="A name, or part of a name or summary. A whole name brings its arguments.",
            autocompletion=shell_completion.names,
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the workflows that can be started.

    They are those of the project's workflow files, as they are now, and the bundled ones. Of a file that does not load it shows the error.
    """
    async with engine_of(settings) as engine:
        with printing.progress("Loading the workflows"):
            found = await engine.catalog(query)
    if as_json:
        terminal.out(found.model_dump_json(indent=2))
    else:
        printing.print_catalog(found, query)


async def write(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The file is NAME.py.")],
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A file with the text; - is standard input.", allow_dash=True
        ),
    ] = None,
    *,
    template: Annotated[
        str | None,
        typer.Option(
            help="Instead of FILE, the template to copy; NAME is also the workflow's name.",
            autocompletion=shell_completion.templates,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a workflow file, check it and load it.

    Puts the text into the project's workflow folder and says what can be started now. Nothing is written if the text is not Python, defines no workflow,
    or takes a name in use. The exit status is 1 if the file does not load.
    """
    text = given_text(source) if source else None
    async with engine_of(settings) as engine:
        with printing.progress(f"Loading {name}"):
            written = await engine.write(name, text, template, overwrite=overwrite)
    printing.print_model(written, as_json, printing.written_text(written))
    if written.error:
        raise typer.Exit(1)


def template_names() -> str:
    """The templates, for the help of `new`."""
    names = sorted(path.stem for path in content.folder("templates").glob("*.py"))
    return f"Templates: {', '.join(names)}."


async def run(
    settings: Settings,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file in the project's workflow folder.")
    ],
    *,
    args: Args = None,
    workflow_id: OwnId = None,
    as_json: AsJson = False,
) -> None:
    """Run the workflow in a file and show what it does.

    Steps, waits and log lines appear on standard error as they happen, the output on standard output. The exit status is 1 if the run
    does not succeed. The run goes on if this command is interrupted.
    """
    path = _workflow_path(settings, file)
    async with engine_of(settings) as engine:
        with printing.progress(f"Loading {file}"):
            name = _registered(path, (await engine.catalog()).workflows)
            request = StartRequest(name=name, args=args or {}, workflow_id=workflow_id)
            started = (await engine.start(request)).workflow_id
        printing.say(f"{name} was started as {started}")
        ended = await _followed(engine, started)
    printing.print_ended(ended, as_json)


async def _followed(engine: "Engine", workflow_id: str) -> Ended:
    try:
        with printing.progress(f"{workflow_id} is under way") as progress:
            return await following.follow(
                engine.reader, workflow_id, printing.say, printing.show(progress)
            )
    except anyio.get_cancelled_exc_class():
        own = shlex.quote(workflow_id)
        printing.say(
            f"The run goes on. Wait for it with `durable-workflows wait {own}`, or look at it with `durable-workflows inspect {own}`."
        )
        raise


def _workflow_path(settings: Settings, file: Path) -> str:
    """A file as the catalog names it. It may be given from the working directory or from the project's."""
    folder = settings.workflow_folder
    given = file if file.exists() else settings.project / file
    hint = "Create a workflow file with `durable-workflows new`, or start a workflow by its name with `durable-workflows start NAME`."
    if not given.is_file():
        raise UsageError(f"There is no file {file}.", hint=hint)
    place = given.parent.resolve() / given.name  # where the file itself is a link, the link counts
    if not place.is_relative_to(folder.resolve()):
        raise UsageError(
            f"{file} is not in the project's workflow folder, {folder}.",
            hint="Move it there: workers run only files in that folder. Or name another project with --project, or another folder in it with --workflows.",
        )
    return f"{settings.workflows.name}/{place.relative_to(folder.resolve()).as_posix()}"


def _registered(path: str, entries: Sequence[CatalogEntry]) -> str:
    """The workflow of a file: the one that is called like it, or the only one."""
    names = [entry.name for entry in entries if entry.source == path]
    stem = Path(path).stem
    if stem in names:
        return stem
    if not names:
        raise UsageError(
            f"{path} defines no workflow.",
            hint="Decorate a function with @DBOS.workflow(), as `durable-workflows new` does.",
        )
    if len(names) > 1:
        raise UsageError(
            f"{path} defines several workflows: {', '.join(names)}.",
            hint=f"Start one by its name: `durable-workflows start {names[0]} --wait`.",
        )
    return names[0]


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)


COMMANDS = (
    Command("new", new, ("new basic_workflow my_flow", "new --list"), template_names),
    Command(
        "run",
        run,
        ("run workflows/my_flow.py", 'run workflows/my_flow.py --args \'{"name": "value"}\''),
    ),
    Command("write", write, ("write my_flow draft.py", "write my_flow --template basic_workflow")),
    Command(
        "check",
        check,
        (
            "check",
            "check workflows/my_flow.py",
            "check workflows/*.py --json",
            "check --replay-last 3",
        ),
    ),
    Command("catalog", show_catalog, ("catalog", "catalog approval")),
    Command("docs", search_docs, ("docs how to wait for a person",)),
)
