"""Values that runs record come back as they were, in the first run and on each replay, or are refused with their place."""

import importlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from durable_workflows import tags
from durable_workflows.engine.engine import Engine
from durable_workflows.errors import NotRecordable, NotRestorable
from durable_workflows.models import StartRequest
from durable_workflows.seam import common_values
from durable_workflows.seam.own_classes import OwnClasses
from durable_workflows.seam.typed_json import TypedJson
from durable_workflows.telling import causes, traces
from helpers import FLOWS, copy_flow, processes_of, until_found, value
from requirements import proves

pytestmark = pytest.mark.anyio


async def output_of(engine: Engine, workflow_id: str) -> object:
    result = await engine.reader.wait([workflow_id], timeout_seconds=120)
    assert [one.status for one in result.done] == ["SUCCESS"], result
    return result.done[0].output


# Runs


@pytest.mark.long
@proves("value:as-it-was", "recovery:worker-killed")
async def test_values_come_as_they_were_in_the_first_run_and_again_on_a_replay(
    engine: Engine, folder: Path
) -> None:
    copy_flow("values", folder)
    request = StartRequest(name="all_values", workflow_id="all", args={"seeds": [*range(60)]})
    await engine.start(request)

    async def waits() -> bool | None:
        run = await engine.reader.run("all")
        assert run.status != "ERROR", run.error
        return bool(run.waiting) or None

    await until_found(waits, "all values were made", seconds=150)
    for worker in processes_of(folder, "durable_workflows.host.worker"):
        worker.kill()
    await engine.send("all", "go", None)
    assert await output_of(engine, "all") == []


@pytest.mark.long
@proves("value:as-it-was")
async def test_what_steps_children_messages_events_and_arguments_give_is_what_it_was(
    shared: Engine,
) -> None:
    request = StartRequest(name="all_values", args={"seeds": [*range(8)]})
    started = await shared.start(request)
    await shared.send(started.workflow_id, "go", None)
    assert await output_of(shared, started.workflow_id) == []
    last = (await shared.reader.run(started.workflow_id)).steps[-1]
    assert last.name == "DBOS.sleep"  # the deadline of the receive before it
    fork = await shared.fork(started.workflow_id, last.step - 1)
    await shared.send(fork.workflow_id, "go", None)
    assert await output_of(shared, fork.workflow_id) == []
    request = StartRequest(name="all_values_async", args={"seeds": [*range(60)]})
    assert await output_of(shared, (await shared.start(request)).workflow_id) == []


@proves("value:as-it-was")
async def test_our_kinds_of_steps_give_what_it_was_in_the_first_run_and_in_a_fork(
    shared: Engine,
) -> None:
    request = StartRequest(name="values_of_helpers", args={"seeds": [*range(8)]})
    started = await shared.start(request)
    await shared.send(started.workflow_id, "go", None)
    assert await output_of(shared, started.workflow_id) == []
    last = (await shared.reader.run(started.workflow_id)).steps[-1]
    fork = await shared.fork(started.workflow_id, last.step - 1)
    await shared.send(fork.workflow_id, "go", None)
    assert await output_of(shared, fork.workflow_id) == []


@proves("value:as-it-was")
async def test_the_first_run_gets_what_was_recorded_and_not_the_object(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="copied_values"))
    assert await output_of(shared, started.workflow_id) == [False] * 3
    started = await shared.start(StartRequest(name="copied_async"))
    assert await output_of(shared, started.workflow_id) is False


@proves("value:as-it-was")
async def test_an_argument_that_looks_like_a_value_with_a_type_stays_what_it_is(
    shared: Engine,
) -> None:
    given = {"$type": "date", "value": "2026-01-01"}
    request = StartRequest.model_validate({"name": "gives_back", "args": {"value": [given, 1]}})
    assert await output_of(shared, (await shared.start(request)).workflow_id) == [given, 1]


@proves("value:as-it-was")
async def test_values_are_read_by_people_and_by_sql(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="shown_values"))
    output: Any = await output_of(shared, started.workflow_id)
    values = ["2026-11-28T03:00:00", "1.10", "a/b", {"ok": [1, "eA=="]}]
    assert output == {"value": values, "price": "2.50"}
    run = await shared.reader.run(started.workflow_id)
    assert '["2026-11-28T03:00:00","1.10","a/b",' in traces.markdown(run)
    price = "select output::jsonb #>> '{value,price,value}' from dbos.workflow_output where workflow_uuid = %s"
    assert await value(shared, price, started.workflow_id) == "2.50"
    label = "select serialization from dbos.operation_outputs where workflow_uuid = %s"
    assert await value(shared, label, started.workflow_id) == tags.LABEL


@proves("value:refused")
@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("function", "value['a'][1][0] is of function"),
        ("object", "value.value is of object"),
        ("local", "value[0] is of local_value.<locals>.Inner, a class inside a function"),
        ("long", "value['n'][0] is a whole number of more than 4,300 digits"),
        (
            "foreign",
            "value is of urllib.parse.ParseResult, which no workflow file defines or imports",
        ),
        ("itself", "The value has more than 220 levels, or contains itself"),
    ],
)
async def test_a_value_that_cannot_be_recorded_is_refused_with_its_place(
    shared: Engine, kind: str, place: str
) -> None:
    started = await shared.start(StartRequest(name="bad_value", args={"kind": kind}))
    result = await shared.reader.wait([started.workflow_id], timeout_seconds=60)
    assert result.done[0].status == "ERROR"
    assert f"In the result of step 1: {place}" in str(result.done[0].error)
    run = await shared.reader.run(started.workflow_id)
    assert "the value that the next step, or the run, returned cannot be recorded" in (
        causes.cause(run, datetime.now().astimezone()).text
    )


@proves("value:own-classes")
async def test_a_row_cannot_name_a_class_that_is_not_in_the_code(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="shown_values"))
    await output_of(shared, started.workflow_id)
    crafted = '{"$type":"antigravity:Popen","value":{"args":["false"]}}'
    change = "update dbos.operation_outputs set output = %s where workflow_uuid = %s"
    await value(shared, change, crafted, started.workflow_id)
    fork = await shared.fork(started.workflow_id, 2)
    result = await shared.reader.wait([fork.workflow_id], timeout_seconds=60)
    assert "The class antigravity:Popen of a recorded value is not" in str(result.done[0].error)


@proves("value:as-it-was", "version:upgrade")
async def test_what_was_recorded_in_the_portable_form_stays_readable(shared: Engine) -> None:
    started = await shared.start(StartRequest(name="shown_values"))
    await output_of(shared, started.workflow_id)
    change = "update dbos.operation_outputs set output = %s, serialization = 'portable_json' where workflow_uuid = %s"
    plain = '[{"$type":"date","value":"2026-01-01"}]'
    await value(shared, change, plain, started.workflow_id)
    fork = await shared.fork(started.workflow_id, 2)
    output: Any = await output_of(shared, fork.workflow_id)
    assert output["value"] == [{"$type": "date", "value": "2026-01-01"}]


# The form


def own(folder: Path) -> TypedJson:
    classes = OwnClasses()
    classes.look_in([folder])
    return TypedJson(classes)


@pytest.fixture
def form() -> TypedJson:
    return own(FLOWS)


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the flows with values."""
    monkeypatch.setattr(sys, "path", [str(FLOWS), *sys.path])
    monkeypatch.delitem(sys.modules, "values", raising=False)
    return importlib.import_module("values")


def test_thousands_of_nested_values_come_back_as_they_were(form: TypedJson, flow: Any) -> None:
    for seed in range(3000):
        value = flow.made(seed)
        written = form.recorded(value)
        assert flow.same(form.value(written.text), value), seed
        assert flow.same(form.read_back(written), value), seed
        json.loads(written.text, parse_constant=pytest.fail)


@pytest.mark.parametrize("value", [{"a": [1.5, None, {"b": "é\0"}]}, [], "text", 3, None], ids=repr)
def test_plain_json_is_recorded_as_it_is_and_handed_over_as_a_copy(
    form: TypedJson, value: Any
) -> None:
    written = form.recorded(value)
    assert written.text == json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    copy = form.read_back(written)
    assert copy == value
    assert copy is not value or not isinstance(value, list | dict)


def test_subclasses_of_common_types_come_back_as_these(form: TypedJson) -> None:
    class Name(str):
        pass

    class Fraction(float):
        pass

    class Names(dict[str, int]):
        pass

    value = form.value(form.recorded([Name("x"), Fraction(0.5), Names(a=1)]).text)
    assert [type(one) for one in value] == [str, float, dict]


def test_a_class_gets_its_new_fields_and_loses_none_silently(
    form: TypedJson, flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = form.recorded(flow.Line(1)).text
    assert form.value(text.replace(',"tags":{"$type":"set","value":[]}', "")) == flow.Line(1)
    with pytest.raises(NotRestorable, match="without value, which it needs now"):
        form.value(text.replace('"value":1,', ""))
    with pytest.raises(NotRestorable, match="with gone, which it does not have any more"):
        form.value(text.replace('"value":1', '"value":1,"gone":2'))
    text = form.recorded(flow.Order(value=1)).text
    assert form.value(text.replace(',"price":{"$type":"Decimal","value":"0"}', "")).price == 0
    color = form.recorded(flow.Color.RED).text
    with pytest.raises(NotRestorable, match="'GREEN' was recorded"):
        form.value(color.replace("RED", "GREEN"))


@proves("value:own-classes")
@pytest.mark.parametrize(
    "name",
    [
        "antigravity:Popen",
        "subprocess:Popen",
        "builtins:dict",
        "os:stat_result",
        "values:made",
        "x",
    ],
)
def test_no_row_imports_or_makes_what_is_not_in_the_code(form: TypedJson, name: str) -> None:
    sys.modules.pop("antigravity", None)
    with pytest.raises(NotRestorable, match=f"The class {name} of a recorded value is not"):
        form.value(json.dumps({"$type": name, "value": {}}))
    assert "antigravity" not in sys.modules


@proves("value:own-classes")
def test_a_neighbour_that_only_a_step_imports_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass Late:\n    x: int\n"
    (tmp_path / "late_neighbour.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    value = own(tmp_path).value('{"$type":"late_neighbour:Late","value":{"x":1}}')
    assert value.x == 1
    monkeypatch.delitem(sys.modules, "late_neighbour")


def test_a_class_that_a_workflow_file_imports_by_name_is_its_own(
    form: TypedJson, flow: Any
) -> None:
    status = importlib.import_module("http").HTTPMethod.GET
    with pytest.raises(NotRecordable, match="value is of SimpleNamespace"):
        form.recorded(importlib.import_module("types").SimpleNamespace())
    assert form.value(form.recorded(status).text) == "GET"
    flow.HTTPMethod = type(status)
    assert own(FLOWS).value(own(FLOWS).recorded(status).text) is status


def test_readers_have_a_name_for_each_form() -> None:
    texts = {name for name in common_values.DECODERS if name not in (*tags.COLLECTIONS, tags.DICT)}
    assert texts == tags.TEXTS


def test_a_value_is_shown_without_its_types(form: TypedJson, flow: Any) -> None:
    text = form.recorded({(1, "a"): {1: math.inf}, "b": flow.Color.RED}).text
    assert tags.plain(json.loads(text)) == [[[1, "a"], {"1": "inf"}], ["b", "RED"]]
    cut = form.recorded([Path("a"), {"$type": "x"}, flow.Point(b"x")]).text[:-10]
    assert tags.readable(cut).startswith('["a",{"$type":"dict","value":[["$type","x"]]},')


@dataclass
class Outside:
    """A class that is in no workflow file."""

    x: int


def test_a_class_outside_of_the_workflow_files_is_refused(form: TypedJson) -> None:
    with pytest.raises(NotRecordable, match="which no workflow file defines or imports by name"):
        form.recorded([Outside(1)])


def install(site: Path, name: str, source: str, requires: str = "") -> None:
    """Put an installed library with one module into a folder of libraries."""
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(source, encoding="utf-8")
    (site / name / "late.py").write_text(source, encoding="utf-8")
    facts = site / f"{name}-1.0.dist-info"
    facts.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + requires
    (facts / "METADATA").write_text(metadata, encoding="utf-8")
    (facts / "top_level.txt").write_text(name, encoding="utf-8")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnClasses]:
    """The classes of a flow that imports a function of `made_agents`, which requires `made_client`; `made_other` is only loaded."""
    part = "from dataclasses import dataclass\n\n\n@dataclass\nclass Part:\n    x: int\n"
    part += "    def __getstate__(self): return {'x': self.x, '_kept': 1}\n"
    for folder in ("site", "flows"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(sys, "path", [f"{tmp_path}/site", f"{tmp_path}/flows", *sys.path])
    importlib.invalidate_caches()
    site = tmp_path / "site"
    for name in ("made_client", "made_other"):
        install(site, name, part)
    answer = "import made_client, made_other\n\n\ndef ask(): ...\n"
    extra = 'Requires-Dist: made-client>=1\nRequires-Dist: not-here; extra == "more"\n'
    install(site, "made_agents", answer, extra)
    flow = tmp_path / "flows" / "asks_agent.py"
    flow.write_text("from dbos import DBOS\nfrom made_agents import ask\n", encoding="utf-8")
    before = {*sys.modules}
    importlib.import_module("asks_agent")
    classes = OwnClasses()
    classes.look_in([flow.parent])
    classes.note_loaded()
    yield classes
    for name in {*sys.modules} - before:
        if name.startswith(("asks_agent", "made_")):
            del sys.modules[name]


@proves("value:own-classes")
def test_an_object_of_an_imported_library_or_of_what_it_requires_comes_back(
    library: OwnClasses,
) -> None:
    value = importlib.import_module("made_client").Part(1)
    text = TypedJson(library).recorded([value]).text
    assert text == '[{"$type":"made_client:Part","value":{"x":1}}]'
    [back] = TypedJson(library).value(text)
    assert (type(back), back) == (type(value), value)


@proves("value:as-it-was")
def test_what_a_class_itself_does_not_keep_is_not_recorded(library: OwnClasses) -> None:
    value = importlib.import_module("made_client").Part(1)
    value._kept, value._process = 1, sys.stdout
    back = TypedJson(library).value(TypedJson(library).recorded(value).text)
    assert vars(back) == {"x": 1, "_kept": 1}


@proves("value:own-classes")
def test_no_other_library_counts_and_no_module_that_another_process_may_lack(
    library: OwnClasses,
) -> None:
    form = TypedJson(library)
    for name in ("made_other", "made_client.late"):
        with pytest.raises(NotRecordable, match="which no workflow file defines or imports"):
            form.recorded(importlib.import_module(name).Part(1))
    with pytest.raises(NotRestorable, match="The class dbos:Queue of a recorded value is not"):
        form.value('{"$type":"dbos:Queue","value":{}}')
    with pytest.raises(NotRestorable, match=r"The class made_agents\.late:Part"):
        form.value('{"$type":"made_agents.late:Part","value":{"x":1}}')
    assert "made_agents.late" not in sys.modules
