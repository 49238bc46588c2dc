"""What the agent template lets a model do, and where it stops. The model is a command that replies as the task says."""

import json
from pathlib import Path
from typing import Any

import pytest

from durable_workflows import content

from .projects import Running

pytestmark = pytest.mark.anyio

SECRET = "the secret outside"


def use(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments}


def task(*replies: object) -> str:
    return json.dumps(replies)


@pytest.fixture(scope="module")
def outside(agent: Running) -> Path:
    """A file beside the project, links to it, and what is hidden in the project."""
    secret = agent.folder.parent / "outside.txt"
    secret.write_text(SECRET, encoding="utf-8")
    (agent.folder / "link.txt").symlink_to(secret)
    (agent.folder / "link").symlink_to(secret.parent)
    (agent.folder / ".env").write_text(f"KEY={SECRET}", encoding="utf-8")
    (agent.folder / "shown").symlink_to(agent.folder / ".env")
    return secret


async def test_a_command_is_asked_turn_by_turn_and_its_tool_calls_are_steps(
    agent: Running,
) -> None:
    (agent.folder / "notes.txt").write_text("First line.\n" + "x" * 9000, encoding="utf-8")
    replies = task(
        use("read_file", path="notes.txt"),
        "```json\n" + json.dumps(use("read_file", path="notes.txt", offset=9000)) + "\n```",
        use("search_tree", text="FIRST line", folder="."),
        "It begins with 'First line.'.",
    )
    workflow_id = await agent.start("agent_workflow", task=replies)
    result = await agent.output(workflow_id)
    assert result["answer"] == "It begins with 'First line.'."
    assert (result["stopped"], result["turns"]) == ("answered", 4)
    assert result["model"].startswith("command: ")
    steps = [step for step in await agent.step_outputs(workflow_id) if step[0] in TOOLS]
    assert [name for name, _ in steps] == ["read_file", "read_file", "search_tree"]
    assert steps[0][1].startswith("First line.\nxxx")
    assert steps[0][1].endswith("x\n[1012 bytes more, from offset 8000]")
    assert steps[1][1] == "x" * 12
    assert steps[2][1] == "notes.txt:1: First line."


TOOLS = ("read_file", "search_tree", "run_command", "unknown_tool")
REFUSED = [
    (use("read_file", path="../outside.txt"), "outside of the project"),
    (use("read_file", path="link.txt"), "outside of the project"),
    (use("read_file", path="link/outside.txt"), "outside of the project"),
    (use("read_file", path=".env"), "is hidden"),
    (use("read_file", path="shown"), "is hidden"),
    (use("read_file", path=".dbos/connection.json"), "is hidden"),
    (use("read_file", path="/etc/passwd"), "outside of the project"),
    (use("read_file", path="workflows"), "is not a file"),
    (use("read_file", path="missing.txt"), "is not a file"),
    (use("read_file", path="a\0b"), "null"),
    (use("read_file"), "Field required"),
    (use("read_file", path="notes.txt", mode="w"), "Extra inputs"),
    (use("search_tree", text="secret", folder=".."), "outside of the project"),
    (use("search_tree", text="secret", folder="link"), "outside of the project"),
    (use("run_command", argv=["touch", "touched"]), "is not allowed"),
    (use("run_command", argv=["ls", "-l", "/"]), "is not allowed"),
    (use("run_command", argv=["ls", "-l; touch touched"]), "is not allowed"),
    (use("run_command", argv="ls -l"), "valid list"),
    (use("delete_file", path="notes.txt"), "there is no tool 'delete_file'"),
    ({"tool": "read_file", "arguments": "notes.txt"}, "valid dictionary"),
]


async def test_what_a_tool_may_not_do_is_refused_and_the_model_is_told_why(
    agent: Running, outside: Path
) -> None:
    calls = [call for call, _ in REFUSED]
    replies = task(*calls, use("search_tree", text=SECRET), "done")
    workflow_id = await agent.start("agent_workflow", task=replies, max_turns=50)
    assert (await agent.output(workflow_id))["answer"] == "done"
    results = [output for name, output in await agent.step_outputs(workflow_id) if name in TOOLS]
    for (call, why), result in zip(REFUSED, results, strict=False):
        assert result.startswith("Error: "), (call, result)
        assert why in result, call
    assert results[len(REFUSED)] == "Nothing found."
    assert not (agent.folder / "touched").exists()
    assert outside not in agent.folder.rglob("*")


async def test_an_allowed_command_runs_without_a_shell_in_the_projects_folder(
    agent: Running,
) -> None:
    (agent.folder / "seen.txt").touch()
    replies = task(use("run_command", argv=["ls", "-l"]), "done")
    workflow_id = await agent.start("agent_workflow", task=replies)
    await agent.output(workflow_id)
    listing = dict(await agent.step_outputs(workflow_id))["run_command"]
    assert listing.startswith("exit status 0\n")
    assert "seen.txt" in listing


async def test_the_agent_stops_after_its_turns_and_uses_no_tool_in_vain(agent: Running) -> None:
    call = use("search_tree", text="DBOS")
    workflow_id = await agent.start("agent_workflow", task=task(call, call, call), max_turns=2)
    result = await agent.output(workflow_id)
    assert (result["stopped"], result["turns"]) == ("max_turns", 2)
    names = [name for name, _ in await agent.step_outputs(workflow_id)]
    assert (names.count("ask_model"), names.count("search_tree")) == (2, 1)


async def test_the_agent_stops_when_its_tokens_are_spent(agent: Running) -> None:
    replies = task(use("search_tree", text="DBOS"), use("search_tree", text="DBOS"), "done")
    workflow_id = await agent.start("agent_workflow", task=replies, token_budget=1)
    result = await agent.output(workflow_id)
    assert (result["stopped"], result["turns"]) == ("token_budget", 1)
    assert "search_tree" not in dict(await agent.step_outputs(workflow_id))
    more = result["tokens"] + 1  # than the first turn takes
    result = await agent.run("agent_workflow", task=replies, token_budget=more)
    assert (result["stopped"], result["turns"]) == ("token_budget", 2)
    assert result["tokens"] > more


async def test_a_model_that_is_out_of_order_for_a_moment_is_asked_again(agent: Running) -> None:
    failure = agent.folder / "fail-once"
    failure.touch()
    result = await agent.run("agent_workflow", task=task("done"))
    assert (result["answer"], result["turns"]) == ("done", 1)
    assert not failure.exists()


def test_the_template_says_which_libraries_it_may_need() -> None:
    source = (content.folder("templates") / "agent_workflow.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    assert lines[0] == "# /// script"
    assert "# ///" in lines[1:5]
    assert 'add "anthropic" or "openai"' in source
