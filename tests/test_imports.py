"""A workflow file may do at import what a script may, and others do not notice; what runs print in any way is in their log."""

import asyncio
import locale
import logging
import logging.config
import os
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.host.importing import isolated
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.system.processes import MARKER
from helpers import log_of, processes_of
from requirements import proves

FLOW = '''
from dbos import DBOS


@DBOS.workflow()
def {name}() -> {returns}:
    """Made for a test."""
    {body}
'''
CODE = {
    "loads_settings": (
        "import asyncio, signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "async def load(): return 3\nLIMIT = asyncio.run(load())",
        "int",
        "return LIMIT",
    ),
    "uses_a_loop": (
        "import asyncio\nasync def load(): return 4\nLIMIT = asyncio.get_event_loop().run_until_complete(load())",
        "int",
        "return LIMIT",
    ),
    "changes_folder": (
        "import os\nfrom pathlib import Path\nos.chdir(Path(__file__).parent)\nHERE = os.getcwd()",
        "list[str]",
        "return [HERE, os.getcwd()]",
    ),
    "logs_itself": (
        "import logging, logging.config\n"
        "logging.config.dictConfig({'version': 1, 'handlers': {'c': {'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout'}},"
        " 'root': {'level': 'DEBUG', 'handlers': ['c']}})\nlog = logging.getLogger('own')\nlog.setLevel(logging.DEBUG)",
        "None",
        "log.debug('in detail'); logging.warning('root warns')",
    ),
    "others_log": (
        "import logging\nlog = logging.getLogger('others')",
        "None",
        "log.warning('other warns'); DBOS.logger.warning('dbos warns'); print('other prints')",
    ),
    "wraps_stdout": (
        "import io, sys\nsys.stdout.reconfigure(encoding='latin-1')\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\n"
        "sys.stderr = io.TextIOWrapper(sys.stderr.detach(), encoding='utf-8')",
        "None",
        "print('printed ä'); print('to stderr', file=sys.stderr)",
    ),
    "fails_late": (
        "import os, sys, threading, time\nimport a_neighbour\nos.environ['OF_FAILED'] = '1'\nsys.path.append('/of-failed')\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\nraise RuntimeError('late')",
        "None",
        "pass",
    ),
    "looks": (
        "import os, sys\nimport a_neighbour\nos.environ['OF_THIS'] = '3'",
        "list[object]",
        "return [os.environ.get('OF_FAILED'), os.environ.get('OF_NEIGHBOUR'), os.environ.get('OF_THIS'), '/of-failed' in sys.path]",
    ),
    "prints_bytes": (
        "import sys",
        "list[object]",
        "out = sys.stdout; out.buffer.write('ä\\n'.encode()[:1]); out.buffer.write('ä\\n'.encode()[1:] + b'\\xff\\n');"
        " out.close(); out.writelines(['one\\n', 'two\\n']);"
        " return [out.errors, out.mode, out.name, out.line_buffering, out.buffer.mode, out.isatty(), out.closed, out.fileno()]",
    ),
}

NEIGHBOUR = "import os\nos.environ['OF_NEIGHBOUR'] = '2'\n"

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def loaded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """A project with all of `CODE`, a file for each."""
    folder = (tmp_path_factory.mktemp("imports") / "project").resolve()
    (folder / "workflows").mkdir(parents=True)
    for name, (head, returns, body) in CODE.items():
        text = head + FLOW.format(name=name, returns=returns, body=body)
        (folder / "workflows" / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "workflows" / "a_neighbour.py").write_text(NEIGHBOUR, encoding="utf-8")
    project = Project(Settings(project=folder))
    yield await project.engine()
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    assert not processes_of(folder)


async def ran(engine: Engine, name: str, *, lines: int = 0) -> tuple[object, list[tuple[str, str]]]:
    """The result of a run, and its output, of at least so many lines: streams and texts."""
    started = await engine.start(StartRequest(name=name))
    (ended,) = (await engine.reader.wait([started.workflow_id], timeout_seconds=60)).done
    assert ended.status == "SUCCESS", ended.error
    log = await log_of(engine, started.workflow_id, count=lines) if lines else []
    return ended.output, [(line.stream, line.text) for line in log]


@proves("import:isolated")
@pytest.mark.parametrize(("name", "limit"), [("loads_settings", 3), ("uses_a_loop", 4)])
async def test_a_file_may_run_coroutines_at_import(loaded: Engine, name: str, limit: int) -> None:
    assert (await ran(loaded, name))[0] == limit


@proves("import:isolated")
async def test_the_working_directory_is_the_project_whatever_a_file_does(loaded: Engine) -> None:
    output, _ = await ran(loaded, "changes_folder")
    there, here = cast("list[str]", output)
    assert there.endswith("/workflows")
    assert here == str(loaded.project)


@proves("import:isolated")
async def test_a_file_that_fails_late_leaves_nothing_of_its_environment(loaded: Engine) -> None:
    (failed,) = [one for one in (await loaded.catalog()).workflows if one.error]
    assert failed.name == "fails_late"
    assert "RuntimeError: late" in str(failed.error)
    assert (await ran(loaded, "looks"))[0] == [None, "2", "3", False]


@proves("import:isolated", "log:kept")
async def test_logging_that_one_file_sets_up_leaves_the_logs_of_all_runs_as_they_are(
    loaded: Engine,
) -> None:
    assert (await ran(loaded, "others_log", lines=3))[1] == [
        ("WARNING", "other warns"),
        ("WARNING", "dbos warns"),
        ("out", "other prints"),
    ]
    assert (await ran(loaded, "logs_itself", lines=2))[1] == [
        ("DEBUG", "in detail"),
        ("WARNING", "root warns"),
    ]
    (log,) = (loaded.project / ".dbos" / "logs").glob("worker-*.log")
    assert "is ready" in log.read_text(encoding="utf-8")


@proves("log:kept")
async def test_a_run_may_use_the_standard_streams_as_whole_text_files(loaded: Engine) -> None:
    _, said = await ran(loaded, "wraps_stdout", lines=2)
    assert said == [("out", "printed ä"), ("err", "to stderr")]
    facts, said = await ran(loaded, "prints_bytes", lines=4)
    assert said == [("out", text) for text in ("ä", "\ufffd", "one", "two")]
    assert facts == ["strict", "w", "<stdout>", False, "wb", False, False, 1]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def disable_loggers() -> None:
    logging.config.dictConfig({"version": 1, "root": {"level": "ERROR", "handlers": []}})
    logging.disable(logging.CRITICAL)


CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "directory": (lambda: os.chdir("/"), os.getcwd),
    "umask": (lambda: os.umask(0o077), _umask),
    "marker": (lambda: os.environ.pop(MARKER), lambda: os.environ.get(MARKER)),
    "handler": (
        lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        lambda: signal.getsignal(signal.SIGTERM),
    ),
    "blocked signals": (
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    ),
    "timer": (
        lambda: signal.setitimer(signal.ITIMER_REAL, 100, 7),
        lambda: signal.getitimer(signal.ITIMER_REAL)[1],
    ),
    "locale": (
        lambda: locale.setlocale(locale.LC_ALL, "C"),
        lambda: locale.setlocale(locale.LC_ALL),
    ),
    "warnings": (warnings.resetwarnings, lambda: len(warnings.filters)),
    "streams": (
        lambda: setattr(sys, "stdout", None) or setattr(sys, "stderr", None),
        lambda: (sys.stdout, sys.stderr),
    ),
    "loggers": (
        disable_loggers,
        lambda: (
            list(logging.root.handlers),
            logging.root.level,
            logging.getLogger("dbos").disabled,
            logging.getLogger("asyncio").disabled,
            logging.root.manager.disable,
        ),
    ),
}


@proves("import:isolated")
@pytest.mark.parametrize("change", CHANGES)
def test_what_an_import_changes_is_restored(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARKER, "x")
    do, look = CHANGES[change]
    before = look()
    with isolated():
        do()
    assert look() == before


def test_what_a_file_needs_later_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("KEPT_BY_A_TEST", "before")
    with isolated():
        os.environ["KEPT_BY_A_TEST"] = "after"
        sys.path.append(str(tmp_path))
        logging.getLogger("kept.by.a.test").setLevel(logging.DEBUG)
    assert os.environ["KEPT_BY_A_TEST"] == "after"
    assert str(tmp_path) in sys.path
    assert logging.getLogger("kept.by.a.test").level == logging.DEBUG


def test_what_only_a_file_needs_that_fails_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("CHANGED_BY_A_TEST", "before")
    monkeypatch.setenv("REMOVED_BY_A_TEST", "before")
    before = dict(os.environ), list(sys.path)
    with suppress(SystemExit), isolated():
        os.environ["CHANGED_BY_A_TEST"] = os.environ["ADDED_BY_A_TEST"] = "after"
        del os.environ["REMOVED_BY_A_TEST"]
        sys.path.append(str(tmp_path))
        raise SystemExit
    assert (dict(os.environ), sys.path) == before


def test_after_an_import_a_loop_can_run() -> None:
    with isolated():
        asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
