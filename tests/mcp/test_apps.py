"""What clients with pages see of the server, and what the others do not."""

from typing import Any

import pytest
from mcp.client import advertise
from mcp.types import TextResourceContents

from durable_workflows.engine.engine import Engine
from durable_workflows.mcp import apps, uris
from durable_workflows.mcp.server import build_server
from durable_workflows.models import StartRequest
from durable_workflows.settings import Settings
from helpers import until_found
from mcp import Client
from requirements import proves
from web.app_client import WITH_PAGES

pytestmark = pytest.mark.anyio

SHOWN = {
    "inspect": uris.APP_RUN,
    "wait_for_workflows": uris.APP_RUN,
    "start_workflow": uris.APP_RUN,
    "list_workflows": uris.APP_INBOX,
}


@pytest.mark.parametrize("extensions", [[], [WITH_PAGES]], ids=["without", "with"])
async def test_four_tools_name_the_page_that_shows_them_in_both_spellings(
    nowhere: Settings, extensions: list[Any]
) -> None:
    async with Client(build_server(nowhere), extensions=extensions) as client:
        tools = (await client.list_tools()).tools
    named = {one.name: one.meta for one in tools if one.name != apps.NAME and one.meta}
    assert named == {
        name: {"ui": {"resourceUri": uri}, "ui/resourceUri": uri} for name, uri in SHOWN.items()
    }


@proves("apps:others")
async def test_clients_without_pages_see_neither_the_page_nor_its_tool(
    nowhere: Settings, mode: Any
) -> None:
    other = advertise(apps.APPS, {"mimeTypes": ["text/html"]})
    for extensions in ([], [other]):
        async with Client(build_server(nowhere), mode=mode, extensions=extensions) as client:
            tools = (await client.list_tools()).tools
            resources = (await client.list_resources()).resources
        assert apps.NAME not in [one.name for one in tools]
        assert not [one for one in resources if one.uri in uris.APPS]


@proves("apps:others")
async def test_clients_with_pages_see_the_same_and_the_page(nowhere: Settings, mode: Any) -> None:
    async with Client(build_server(nowhere), mode=mode) as client:
        before = (await client.list_tools()).tools
    async with Client(build_server(nowhere), mode=mode, extensions=[WITH_PAGES]) as client:
        *tools, page = (await client.list_tools()).tools
        resources = (await client.list_resources()).resources
    assert tools == before
    assert page.name == apps.NAME
    assert page.meta == {"ui": {"visibility": ["app"]}}
    assert {one.uri for one in resources if one.mime_type == apps.MIME_TYPE} == set(uris.APPS)


@pytest.mark.parametrize(("uri", "view"), [(uris.APP_RUN, "run"), (uris.APP_INBOX, "inbox")])
async def test_the_page_is_one_file_that_loads_nothing_and_knows_what_it_shows(
    nowhere: Settings, uri: str, view: str
) -> None:
    async with Client(build_server(nowhere), extensions=[WITH_PAGES]) as client:
        [page] = (await client.read_resource(uri)).contents
    assert isinstance(page, TextResourceContents)
    assert page.mime_type == apps.MIME_TYPE
    assert page.meta is not None
    assert page.meta["ui"]["csp"] == {"connectDomains": [], "resourceDomains": []}
    assert f'<html data-app="{view}" lang="en">' in page.text
    assert 'src="http' not in page.text


async def test_what_is_wrong_with_a_call_of_the_page_is_said(shared: Engine) -> None:
    settings = Settings(project=shared.project)
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"path": "nothing"}, 400, "no call 'nothing'"),
        ({"path": "run"}, 400, "id: "),
        ({"path": "run", "given": {"id": "no-such-run"}}, 404, "no-such-run"),
        ({"path": "run", "given": {"id": "x", "more": 1}}, 400, "more: "),
    ]
    async with Client(build_server(settings), extensions=[WITH_PAGES]) as client:
        for given, status, said in wrong:
            result = await client.call_tool(apps.NAME, given)
            assert result.is_error
            assert result.structured_content is not None
            assert result.structured_content["status"] == status
            assert said in result.structured_content["error"]
            assert result.structured_content["hint"]


@proves("apps:person")
@pytest.mark.parametrize("declared", [False, True])
async def test_what_one_answers_with_is_handed_only_to_clients_that_declare_pages(
    shared: Engine, declared: bool
) -> None:
    run = (await shared.start(StartRequest(name="ask_anything"))).workflow_id
    await until_found(lambda: shared.reader.waits(run), "it asks")
    server = build_server(Settings(project=shared.project))
    async with Client(server, extensions=[WITH_PAGES] if declared else []) as client:
        found = await client.call_tool(apps.NAME, {"path": "waits"})
    assert run in str(found.structured_content)
    handed = [one["workflow_id"] for one in (found.meta or {}).get(apps.NONCES, [])]
    assert (run in handed) == declared
    await shared.cancel([run])
