"""Writing workflow files through MCP, and looking things up."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp.types import TextContent

from durable_workflows.mcp.server import build_server
from durable_workflows.settings import Settings
from mcp import Client
from requirements import long

pytestmark = pytest.mark.anyio

Mode = Literal["auto", "legacy"]

FLOW = '''"""A flow."""

import time

from dbos import DBOS


@DBOS.step()
def double(number: int) -> int:
    return number * 2


@DBOS.workflow()
def doubled(number: int) -> int:
    """Double a number."""
    return double(number)
'''


async def text_of(client: Client, tool: str, *, error: bool = False, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error is error, result.content
    [content] = result.content
    assert isinstance(content, TextContent)
    assert len(content.text) < 8000
    return content.text


@pytest.mark.long
@pytest.mark.parametrize("mode", ["auto", *long("legacy")])
async def test_a_workflow_is_written_loaded_started_repaired_and_forked(
    settings: Settings, folder: Path, mode: Mode
) -> None:
    async with Client(build_server(settings), mode=mode) as client:
        source = FLOW.replace("number * 2", "number // 0")
        written = json.loads(await text_of(client, "write_workflow", name="my_flow", source=source))
        assert written["file"] == "workflows/my_flow.py"
        [startable] = written["workflows"]
        assert startable["name"] == "doubled"
        assert startable["args_schema"]["required"] == ["number"]
        run: dict[str, Any] = {"name": "doubled", "args": {"number": 4}, "workflow_id": "d-1"}
        failed = json.loads(await text_of(client, "start_workflow", wait_seconds=30, **run))
        assert failed["status"] == "ERROR"
        taken = await text_of(client, "write_workflow", name="my_flow", source=FLOW, error=True)
        assert "workflows/my_flow.py already exists" in taken
        assert "overwrite=true" in taken
        again = await text_of(client, "write_workflow", name="my_flow", source=FLOW, overwrite=True)
        repaired = json.loads(again)
        assert repaired["version"] != written["version"]
        fork = json.loads(await text_of(client, "fork", workflow_id="d-1", from_step=1))
        ids = [fork["workflow_id"]]
        ended = json.loads(await text_of(client, "wait_for_workflows", workflow_ids=ids))
        assert ended["done"][0]["output"] == 8
    assert (folder / "workflows" / "my_flow.py").read_text(encoding="utf-8") == FLOW


@pytest.mark.long
@pytest.mark.parametrize("mode", ["auto", *long("legacy")])
async def test_what_is_wrong_with_a_text_is_said_with_its_line_and_nothing_is_written(
    settings: Settings, folder: Path, mode: Mode
) -> None:
    wrong = {
        "def broken(:\n": "this is not valid Python",
        "x = 1\n": "defines no workflow",
        FLOW + FLOW.split('"""A flow."""')[1]: "doubled",
    }
    async with Client(build_server(settings), mode=mode) as client:
        for source, complaint in wrong.items():
            text = await text_of(client, "write_workflow", name="bad", source=source, error=True)
            assert complaint in text
            assert "workflows/bad.py:" in text
            assert "Nothing was written" in text
        for name in ("../outside", "a b", "class", ""):
            await text_of(client, "write_workflow", name=name, source=FLOW, error=True)
        neither = await text_of(client, "write_workflow", name="bad", error=True)
        assert "either source or template" in neither
        unknown = await text_of(
            client, "write_workflow", name="bad", template="basic_workflo", error=True
        )
        assert "basic_workflow" in unknown
    assert not (folder / "workflows").exists() or not list((folder / "workflows").iterdir())
    assert not (folder / "outside.py").exists()


@pytest.mark.parametrize("mode", ["auto", *long("legacy")])
@pytest.mark.long
async def test_what_may_go_wrong_on_a_replay_and_what_does_not_load_is_said(
    settings: Settings, folder: Path, mode: Mode
) -> None:
    async with Client(build_server(settings), mode=mode) as client:
        loose = FLOW.replace("return double(number)", "return double(int(time.time()))")
        written = json.loads(await text_of(client, "write_workflow", name="loose", source=loose))
        [warning] = written["warnings"]
        assert warning.startswith("workflows/loose.py:16:")
        assert "time.time" in warning
        lacking = FLOW.replace("import time", "import no_such_library").replace("doubled", "other")
        written = json.loads(await text_of(client, "write_workflow", name="lacks", source=lacking))
        assert "No module named 'no_such_library'" in written["error"]
        assert "workflows" not in written
        copy = json.loads(
            await text_of(client, "write_workflow", name="my_copy", template="basic_workflow")
        )
        assert [one["name"] for one in copy["workflows"]] == ["my_copy"]


async def test_the_documentation_is_searched_without_anything_running(
    nowhere: Settings, mode: Mode
) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        found = await text_of(client, "search_docs", query="wait for an approval with a deadline")
        assert "durable://references/" in found or "durable://templates/" in found
        assert "timeout" in found
        nothing = await text_of(client, "search_docs", query="zzqx")
        assert "No passage contains" in nothing
