"""Resources: listed in pages, described, read by their URIs, and never in the way of a client's start. In both protocol eras."""

import json
import time
from pathlib import Path
from typing import Literal

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import Resource, TextResourceContents

from durable_workflows import content
from durable_workflows.docs import documents
from durable_workflows.engine.engine import Engine
from durable_workflows.mcp import resources, uris
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from mcp import Client

pytestmark = pytest.mark.anyio
Mode = Literal["auto", "legacy"]

RUNS = 8
PAGE = 5
ODD_IDS = ["a b", "a/b", "/abs", "../up", "50%", "?#&=", "ü漢", "durable://workflows/x/trace"]


@pytest.fixture
async def there(shared: Engine) -> Settings:
    """The settings of the shared project."""
    return Settings(project=Path((await shared.reader.status()).project))


async def start(engine: Engine, *workflow_ids: str) -> None:
    """Start runs of a short workflow; they need not have ended."""
    await engine.start_all([StartRequest(name="noisy", workflow_id=one) for one in workflow_ids])


async def read(client: Client, uri: str) -> str:
    [found] = (await client.read_resource(uri)).contents
    assert isinstance(found, TextResourceContents)
    return found.text


async def all_pages(client: Client) -> list[list[Resource]]:
    pages: list[list[Resource]] = []
    cursor: str | None = None
    while cursor or not pages:
        page = await client.list_resources(cursor=cursor)
        pages.append(page.resources)
        cursor = page.next_cursor
    return pages


async def refused(client: Client, uri: str) -> str:
    """The text of the error that reading is answered with: the caller's, not the server's."""
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    assert caught.value.error.code == -32602
    return str(caught.value)


# Listing


async def test_what_is_always_there_is_listed_while_nothing_runs(
    nowhere: Settings, mode: Mode, held_supervisor_lock: None
) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        began = time.monotonic()
        [listed] = await all_pages(client)
        assert time.monotonic() - began < 20, "a start that hangs is not waited for"
    templates = [path.stem for path in sorted(content.folder("templates").glob("*.py"))]
    references = [path.stem for path in sorted(content.folder("references").glob("[a-z]*.md"))]
    assert [one.uri for one in listed] == [
        "durable://workflows",
        *(f"durable://templates/{name}" for name in templates),
        *(f"durable://references/{name}" for name in references),
    ]


async def test_each_resource_says_what_it_is(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        [listed] = await all_pages(client)
        kinds = (await client.list_resource_templates()).resource_templates
    for one in [*listed, *kinds]:
        assert one.title
        assert one.description
        assert one.mime_type
        assert one.annotations is not None
        assert one.annotations.audience
    for one in listed[1:]:
        assert one.size
        assert one.annotations is not None
        assert one.annotations.last_modified
    assert all(one.icons for one in kinds)
    by_uri = {one.uri: one for one in listed}
    template = by_uri["durable://templates/basic_workflow"]
    assert template.description is not None
    assert template.description.startswith("Use when work has several steps")
    reference = by_uri["durable://references/patterns-and-antipatterns"]
    assert reference.title == "Patterns and antipatterns of workflow code"
    assert reference.description is not None
    assert reference.description.startswith("Each section stands alone")


async def test_the_kinds_of_resources_are_those_of_the_design(
    nowhere: Settings, mode: Mode
) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        kinds = (await client.list_resource_templates()).resource_templates
    assert {one.uri_template: one.mime_type for one in kinds} == {
        "durable://workflows{?cursor}": "application/json",
        "durable://workflows/{workflow_id}/trace": "text/markdown",
        "durable://workflows/{workflow_id}/trace.json": "application/json",
        "durable://templates/{name}": "text/x-python",
        "durable://references/{name}": "text/markdown",
    }


async def test_the_newest_runs_are_listed_in_pages(
    shared: Engine, there: Settings, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PAGE", PAGE)
    ids = [f"page-{mode}-{number}" for number in range(RUNS)]
    await start(shared, *ids)
    async with Client(build_server(there), mode=mode) as client:
        await client.call_tool("list_workflows", {})  # the engine is there
        first, second, *_ = await all_pages(client)
        fixed = [one for one in first if not uris.workflow_id_of(one.uri)]
        runs = [one for one in [*first, *second] if uris.workflow_id_of(one.uri)]
        assert [one.name for one in runs[:RUNS]] == ids[::-1]
        assert len(first) == len(fixed) + PAGE
        assert fixed[0].uri == uris.RUNS
        assert runs[0].title == f"{ids[-1]} (noisy)"
        assert await read(client, runs[0].uri)
        monkeypatch.setattr(resources, "_LISTED", PAGE)
        assert len(await all_pages(client)) == 1, "clients that fetch all pages are spared"


async def test_a_run_is_listed_with_what_became_of_it(
    shared: Engine, there: Settings, mode: Mode
) -> None:
    run = f"failed-{mode}"
    await shared.start(StartRequest(name="fails", args={"message": "no card"}, workflow_id=run))
    await shared.reader.wait([run])
    async with Client(build_server(there), mode=mode) as client:
        await client.call_tool("list_workflows", {})
        listed = {one.name: one for one in (await client.list_resources()).resources}
    assert listed[run].description == "ERROR: ValueError: no card"


@pytest.mark.parametrize("cursor", ["x", "50", ".x", "5000.x", "-1.x"])
async def test_a_cursor_of_another_list_is_refused(
    nowhere: Settings, mode: Mode, cursor: str
) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        with pytest.raises(MCPError, match="is not a cursor of this list") as caught:
            await client.list_resources(cursor=cursor)
    assert caught.value.error.code == -32602


# Reading


async def test_templates_and_references_are_read_as_they_are(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        for kind, known in (
            (uris.TEMPLATE, documents.templates()),
            (uris.REFERENCE, documents.references()),
        ):
            for one in known:
                shown = await read(client, uris.expand(kind, name=one.name))
                assert shown == one.path.read_text(encoding="utf-8")


async def test_an_unknown_document_is_answered_with_the_closest_names(
    nowhere: Settings, mode: Mode
) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        wrong = await refused(client, "durable://templates/basic_workflw")
        assert (
            "no template 'basic_workflw'. Did you mean 'basic_workflow'? Use one of agent" in wrong
        )
        wrong = await refused(client, "durable://references/recovry")
        assert "There is no reference 'recovry'. Did you mean 'recovery'?" in wrong
        for path in ("..%2Fpyproject", "%2Fetc%2Fpasswd", "recovery.md", "a%00b"):
            assert "root:" not in await refused(client, f"durable://references/{path}")


async def test_runs_are_read_in_pages(
    shared: Engine, there: Settings, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "NEWEST", PAGE)
    await start(shared, *(f"read-{mode}-{number}" for number in range(RUNS)))
    async with Client(build_server(there), mode=mode) as client:
        newest = json.loads(await read(client, uris.RUNS))
        assert len(newest["workflows"]) == PAGE
        older = json.loads(await read(client, f"{uris.RUNS}?cursor={newest['next_cursor']}"))
        both = [one["workflow_id"] for one in newest["workflows"] + older["workflows"]]
        assert both[:RUNS] == [f"read-{mode}-{number}" for number in range(RUNS)][::-1]
        assert len(set(both)) == len(both)
        assert "is not a cursor" in await refused(client, f"{uris.RUNS}?cursor=x")


async def test_any_workflow_id_has_its_trace(shared: Engine, there: Settings, mode: Mode) -> None:
    await start(shared, *ODD_IDS)
    async with Client(build_server(there), mode=mode) as client:
        for one in ODD_IDS:
            shown = await read(client, uris.expand(uris.TRACE, workflow_id=one))
            assert shown.startswith(f"# {one}: noisy ")
            whole = json.loads(await read(client, uris.expand(uris.TRACE_JSON, workflow_id=one)))
            assert whole["workflow_id"] == one


async def test_a_trace_of_no_run_is_answered_with_the_closest_ids(
    shared: Engine, there: Settings, mode: Mode
) -> None:
    await start(shared, "deploy-7")
    async with Client(build_server(there), mode=mode) as client:
        wrong = await refused(client, uris.expand(uris.TRACE, workflow_id="deploy-8"))
    assert "There is no run 'deploy-8'. Did you mean 'deploy-7'" in wrong


async def test_what_is_no_resource_is_refused(nowhere: Settings, mode: Mode) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        for uri in ("durable://nothing", "file:///etc/passwd", "durable://workflows/a/b/trace"):
            assert "Unknown resource" in await refused(client, uri)
