"""Problems of a project and their remedies, as far as its processes and its catalog show them."""

from durable_workflows import fitting
from durable_workflows.code import copies
from durable_workflows.errors import SetupError
from durable_workflows.models import Catalog, ServerStatus
from durable_workflows.processes import crowding
from durable_workflows.settings import Settings
from durable_workflows.system import files, locks, places, processes, state

_FINE = ("up", "running")  # the beginning of the supervisor's report on a healthy process


def of_processes(settings: Settings, *, running: bool) -> list[str]:
    """The problems that the supervisor reports; if none is `running`, its leftovers. Reads files only."""
    if not settings.state.is_dir():
        return []
    try:
        kept = copies.problem(settings)
        return [*_of_processes(settings, running=running), *([kept] if kept else [])]
    except OSError as error:  # a folder that this user may not read
        return [str(files.translate(error, settings.state))]


def _of_processes(settings: Settings, *, running: bool) -> list[str]:
    if running:
        return _reported(settings)
    if state.rest(settings):
        return []
    if locks.is_held(places.supervisor_lock(settings)):
        return ["The supervisor is starting or ending."]
    return [*_left_behind(settings), *_why_not(settings)]


def unavailable(settings: Settings) -> ServerStatus:
    """The state of a project about which nothing else is known."""
    return ServerStatus(
        project=fitting.text(str(settings.project)),
        mode="embedded" if settings.embedded else "external",
        database="away",
        supervisor_pid=None,
        version=None,
        workers=[],
        versions_with_unfinished_runs={},
        counts={},
        database_bytes=0,
        logs=fitting.text(str(places.logs(settings))),
        problems=[],
    )


def of_code(catalog: Catalog | None) -> list[str]:
    """The files that do not load. None: the newest version has no catalog yet."""
    if catalog is None:
        return ["No worker has loaded the newest version yet; see the worker's log for the reason."]
    return [
        f"{entry.name} in {entry.source} does not load: {entry.error.strip().splitlines()[-1]}"
        for entry in catalog.workflows
        if entry.error
    ]


def _left_behind(settings: Settings) -> list[str]:
    identity = state.identity(settings)
    left = processes.marked(identity) if identity else []
    ids = ", ".join(str(process.pid) for process in left)
    return (
        [f"Processes left behind: {ids}. Run `durable-workflows shutdown` to end them."]
        if left
        else []
    )


def _why_not(settings: Settings) -> list[str]:
    """The reason why nothing can be started, as far as it is known without a start."""
    try:
        if settings.embedded:
            state.check_not_moved(settings)
            state.data_directory(settings)
            state.check_engine(settings)
    except SetupError as error:
        return [str(error)]
    last = state.read_report(settings).get("start")
    return [f"The last start failed: {last}"] if last else []


def _reported(settings: Settings) -> list[str]:
    report = state.read_report(settings)
    wrong = {name: text for name, text in report.items() if not text.startswith(_FINE)}
    for fact in ("dotenv", state.REST):
        wrong.pop(fact, None)
    waiting = wrong.pop("waiting_versions", "")
    waiting_apart = wrong.pop("waiting_apart", "")
    crowded = wrong.pop(crowding.ENTRY, "")
    others = [f"{name}: {text}" for name, text in wrong.items()]
    others += files.in_the_way(places.report(settings))
    if crowded:
        others.append(crowded)
    if waiting_apart:
        others.append(
            f"Runs that may end their worker wait for their own worker; still needed: {waiting_apart}."
        )
    if waiting:
        others.append(
            f"Unfinished runs of {waiting} wait for a worker; allow more workers with --old-workers."
        )
    if misplaced := settings.misplaced():
        others.append(
            f"{', '.join(misplaced)} in .env: settings are not read from there. Export them, or pass them as options."
        )
    return others
