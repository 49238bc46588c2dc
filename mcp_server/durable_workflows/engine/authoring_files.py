"""Writing a workflow file, with immediate feedback for its author: checked, written, loaded by a worker."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import anyio
import anyio.to_thread

from durable_workflows.code import catalog, writing
from durable_workflows.code.checks import checking
from durable_workflows.engine.published import Published
from durable_workflows.engine.rehearsing import Rehearser
from durable_workflows.errors import (
    DatabaseUnavailable,
    InvalidArguments,
    UsageError,
    WorkflowUnavailable,
)
from durable_workflows.models import Startable, Written
from durable_workflows.settings import Settings
from durable_workflows.telling import rehearsals


async def write(
    settings: Settings,
    published: Published,
    rehearser: Rehearser,
    name: str,
    source: str | None,
    template: str | None,
    *,
    overwrite: bool,
) -> Written:
    """As `Engine.write`."""
    if (source is None) == (template is None):
        given = "neither is" if source is None else "both are"
        raise InvalidArguments(
            f"Give either source or template: {given} given. Nothing was written.",
            hint='Give {"name": "my_flow", "source": "…"} or {"name": "my_flow", "template": "basic_workflow"}.',
        )
    writing.check_name(name)
    path = f"{settings.workflows.name}/{name}.py"
    if not overwrite and (settings.project / path).exists():
        raise UsageError(
            f"{path} already exists. Nothing was written.",
            hint="Choose another name, or pass overwrite=true to replace the file.",
        )
    text, findings = await anyio.to_thread.run_sync(
        _checked, settings, name, source, template, overwrite
    )
    await anyio.to_thread.run_sync(
        lambda: writing.write_workflow(settings, name, text, overwrite=overwrite)
    )
    warnings = [checking.render(path, [one]) for one in findings if one.severity == "warning"]
    written = Written(file=path, warnings=warnings)
    try:
        found = await published.catalog()
    except (WorkflowUnavailable, DatabaseUnavailable) as error:
        note = f"The file was written but is not loaded yet: {error}"
        return written.model_copy(update={"note": note})
    entries = [entry for entry in found.workflows if entry.source == path]
    error = next((entry.error for entry in entries if entry.error), None)
    fine = [entry for entry in entries if not (entry.error or entry.not_startable)]
    loaded = [Startable(**entry.model_dump(include=_SHOWN)) for entry in fine]
    replays: list[str] = []
    if error is None and overwrite:
        replays = await _replays(rehearser, [one.name for one in fine], found.version)
    about = {"version": found.version, "error": error, "workflows": loaded, "replays": replays}
    return written.model_copy(update=about)


async def _replays(rehearser: Rehearser, names: Sequence[str], version: str) -> list[str]:
    """What the last runs of these workflows would do on the new code."""
    try:
        with anyio.fail_after(_REPLAYS_SECONDS):
            return rehearsals.of_edit(await rehearser.rehearse_last(names, version, _REPLAYED))
    except TimeoutError:
        return [_NOT_IN_TIME]


_REPLAYED = 3  # runs of each workflow
_REPLAYS_SECONDS = 5.0  # in all: the file is written, and its author waits
_NOT_IN_TIME = f"The last runs were not replayed on this code within {_REPLAYS_SECONDS:.0f} s. `durable-workflows check --replay-last {_REPLAYED}` takes its time."
_SHOWN = {"name", "summary", "args_schema"}


def _checked(
    settings: Settings, name: str, source: str | None, template: str | None, overwrite: bool
) -> tuple[str, list[checking.Finding]]:
    """The text to write, and the findings about it."""
    if template is not None:
        text = writing.from_template(settings, template, name, overwrite=overwrite)
    else:
        assert source is not None
        text = source
    path = str(PurePosixPath(settings.workflows.name, f"{name}.py"))
    files = catalog.snapshot(settings).files
    others = {one: files[one].decode("utf-8", "replace") for one in catalog.workflow_files(files)}
    findings = checking.check(path, text, others)
    errors = [one for one in findings if one.severity == "error" or one.rule == "no-workflow"]
    if errors:
        raise InvalidArguments(
            f"This workflow file cannot be loaded:\n{checking.render(path, errors)}",
            hint="Correct the source and call again. Nothing was written.",
        )
    return text, findings
