"""Workflows have the names that they are registered under, wherever a text says something else; methods too."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue

from durable_workflows.code.catalog import declared_names
from durable_workflows.code.checks.checking import check
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import InvalidArguments, WorkflowUnavailable
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from durable_workflows.telling import causes
from helpers import processes_of
from requirements import proves

HEAD = "from dbos import DBOS, DBOSConfiguredInstance\n"
FILES = {
    "documented": '"""How to:\n\n    @DBOS.workflow()\n    def sample():\n        ...\n"""\n'
    "@DBOS.workflow()\ndef documented() -> str:\n    return 'documented'\n",
    "sample": 'TEXT = """\n@DBOS.workflow()\ndef generated():\n    pass\n"""\n'
    "@DBOS.workflow()\ndef sample() -> str:\n    return 'sample'\n",
    "reports": "@DBOS.dbos_class()\nclass Report:\n    @staticmethod\n    @DBOS.workflow()\n"
    "    def run(day: str) -> str:\n        return day\n",
    "imports": "@DBOS.dbos_class()\nclass Import:\n    @staticmethod\n    @DBOS.workflow()\n"
    "    def run(path: str) -> str:\n        return path\n\n    @classmethod\n    @DBOS.workflow()\n"
    "    def again(cls, path: str) -> str:\n        return cls.__name__ + path\n",
    "objects": "@DBOS.dbos_class()\nclass Shop(DBOSConfiguredInstance):\n    @DBOS.workflow()\n"
    "    def sell(self, item: str) -> str:\n        return self.config_name + item\n\n"
    "@DBOS.dbos_class()\nclass Mail(DBOSConfiguredInstance):\n    @DBOS.workflow()\n"
    "    def post(self) -> str:\n        return DBOS.workflow_id\n\n"
    "class Bare:\n    @DBOS.workflow()\n    def work(self) -> None: ...\n\n"
    "shop, fast, slow = Shop('main'), Mail('fast'), Mail('slow')\n\n"
    "@DBOS.workflow()\ndef post_twice() -> list[str]:\n    return [slow.post(), fast.post()]\n",
    "keys": "@DBOS.step()\ndef numbered() -> object:\n    return {'rows': [{}, {1: iter('a')}]}\n\n"
    "@DBOS.workflow()\ndef keys() -> None:\n    numbered()\n",
    "wrapping": "def plain(function):\n    def inner(*args, **kwargs):\n        return function(*args, **kwargs)\n"
    "    inner.__qualname__ = function.__qualname__\n    return inner\n\n"
    "def made(name):\n    @DBOS.workflow(name=name)\n    def function() -> str:\n        return name\n    return function\n",
    "wrapped": "from wrapping import made, plain\n@DBOS.workflow()\n@plain\ndef wrapped(x: int) -> int:\n    return x\n\n"
    "made('by_factory')\n",
    "taking": "from wrapping import plain\n@DBOS.workflow()\ndef free() -> None: ...\n\n"
    "@DBOS.workflow(name='documented')\n@plain\ndef other() -> str:\n    return 'clash'\n",
    "broken": "@DBOS.workflow()\ndef registered_first() -> None: ...\n\nclass Lost:\n    @staticmethod\n"
    "    @DBOS.workflow()\n    def run() -> None: ...\n\nimport no_such_library\n",
    "neighbour": "import registering\n@DBOS.workflow()\ndef neighbour() -> None: ...\n",
    "registering": "def plainly() -> str:\n    return 'plainly'\n\nDBOS.workflow()(plainly)\n",
}

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def named(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = (tmp_path_factory.mktemp("names") / "project").resolve()
    (folder / "workflows").mkdir(parents=True)
    for name, text in FILES.items():
        head, _, rest = text.rpartition('"""\n')  # a docstring comes first
        whole = f"{head}{_}{HEAD}{rest}"
        (folder / "workflows" / f"{name}.py").write_text(whole, encoding="utf-8")
    project = Project(Settings(project=folder))
    yield await project.engine()
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    assert not processes_of(folder)


async def output(engine: Engine, name: str, **args: str | int) -> object:
    started = await engine.start(StartRequest(name=name, args=dict(args)))
    (ended,) = (await engine.reader.wait([started.workflow_id], timeout_seconds=60)).done
    assert ended.status == "SUCCESS", ended.error
    return ended.output


@proves("catalog:registered")
async def test_the_catalog_has_what_is_registered_each_under_its_name_and_file(
    named: Engine,
) -> None:
    entries = [one for one in (await named.catalog()).workflows if "_bundled" not in one.source]
    fine = {one.name: Path(one.source).stem for one in entries if not one.error}
    assert fine == {
        "documented": "documented",
        "sample": "sample",
        "Report.run": "reports",
        "Import.run": "imports",
        "Import.again": "imports",
        "Shop.sell": "objects",
        "Mail.post": "objects",
        "Bare.work": "objects",
        "post_twice": "objects",
        "wrapped": "wrapped",
        "by_factory": "wrapped",
        "neighbour": "neighbour",
        "plainly": "registering",
        "keys": "keys",
    }
    wrong = {one.name: (one.error or "").splitlines()[-1] for one in entries if one.error}
    taken = "The name 'documented' is already used in workflows/documented.py."
    assert wrong.keys() == {"free", "registered_first", "Lost.run"}
    assert wrong["free"] == taken
    assert "no_such_library" in wrong["Lost.run"]


@proves("catalog:registered")
async def test_each_name_starts_its_own_workflow(named: Engine) -> None:
    assert await output(named, "documented") == "documented"
    assert await output(named, "sample") == "sample"
    assert await output(named, "Report.run", day="today") == "today"
    assert await output(named, "wrapped", x=3) == 3
    assert await output(named, "by_factory") == "by_factory"
    assert await output(named, "plainly") == "plainly"


@proves("catalog:registered")
async def test_methods_of_a_class_and_of_its_only_object_are_started_without_them(
    named: Engine,
) -> None:
    assert await output(named, "Import.again", path="/x") == "Import/x"
    assert await output(named, "Shop.sell", item="/hat") == "main/hat"
    with pytest.raises(InvalidArguments, match="'item' is a required property"):
        await named.start(StartRequest(name="Shop.sell"))
    items: dict[str, JsonValue] = {"workflow": "Import.again", "items": [{"path": "/y"}]}
    started = await named.start(StartRequest(name="fan_out", args=items))
    (ended,) = (await named.reader.wait([started.workflow_id], timeout_seconds=60)).done
    assert "Import/y" in str(ended.output)


@proves("catalog:registered")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("Mail.post", r"several objects \(fast, slow\)"), ("Bare.work", "no `@DBOS.dbos_class")],
)
async def test_a_method_without_its_object_is_refused_with_the_reason(
    named: Engine, name: str, reason: str
) -> None:
    with pytest.raises(WorkflowUnavailable, match=reason) as raised:
        await named.start(StartRequest(name=name))
    assert "Write a workflow function in workflows/objects.py" in raised.value.hint


async def test_runs_of_methods_that_a_workflow_calls_are_ordinary_children(named: Engine) -> None:
    children = await output(named, "post_twice")
    ids = cast("list[str]", children)
    assert [(await named.reader.run(one)).name for one in ids] == ["Mail.post", "Mail.post"]
    assert (await named.reader.startable_names()).count("Mail.post") == 0


async def test_a_value_that_cannot_be_recorded_is_named_with_its_step_and_place(
    named: Engine,
) -> None:
    started = await named.start(StartRequest(name="keys"))
    (ended,) = (await named.reader.wait([started.workflow_id], timeout_seconds=60)).done
    said = "In the result of step 1: value['rows'][1][1] is of str_ascii_iterator"
    assert said in str(ended.error)
    run = await named.reader.run(started.workflow_id)
    assert "cannot be recorded" in causes.cause(run, datetime.now(UTC)).text


def test_names_are_read_from_the_syntax_and_only_without_one_from_the_text() -> None:
    text = (Path(__file__).parent / "test_names.py").read_text(encoding="utf-8")
    assert declared_names(text) == []
    classes = (
        "class A:\n    class B:\n        @DBOS.workflow()\n        def run(self): ...\n"
        "if True:\n    @DBOS.workflow()\n    @retry(name='no')\n    def yes(): ...\n"
        "def f():\n    @DBOS.workflow()\n    def inner(): ...\n"
    )
    assert declared_names(f"\ufeff{classes}") == ["A.B.run", "yes"]
    assert declared_names(f"{classes}\ndef broken(:\n") == ["run", "yes", "inner"]
    assert declared_names("x = " + "-" * 100_000 + "1") == []


def test_check_takes_equal_methods_and_examples_in_texts_for_what_they_are() -> None:
    reports, imports, sample, documented = (
        HEAD + FILES[name] for name in ("reports", "imports", "sample", "documented")
    )
    assert check("workflows/a.py", reports, {"workflows/b.py": imports}) == []
    assert check("workflows/a.py", sample, {"workflows/b.py": documented}) == []
