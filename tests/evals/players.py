"""The players of a scenario: a script, or a model that calls tools. Calls and reading are counted for both."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from mcp.types import TextContent

from mcp import Client

MODEL = "claude-sonnet-5-5"
_ENDPOINT = "https://api.anthropic.com/v1/messages"
_MOST_TURNS = 20
_SECONDS = 300.0
_WRITE = "write_file"


@dataclass
class Agent:
    """A client that counts the tools it calls and the characters that it reads."""

    client: Client
    calls: list[str] = field(default_factory=list[str])
    read: int = 0

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool and return what a model would read."""
        result = await self.client.call_tool(tool, arguments)
        text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        self.calls.append(tool)
        self.read += len(text)
        return text

    @staticmethod
    def field(answer: str, *path: str | int) -> Any:
        """A part of a JSON answer."""
        found: Any = json.loads(answer)
        for part in path:
            found = found[part]
        return found


def has_model() -> bool:
    """Whether there is a key for a model."""
    return bool(os.environ.get("ANTHROPIC_API_KEY"))


async def play_with_model(agent: Agent, goal: str, folder: Path) -> str:
    """Have a model reach the goal; return what it says at last."""
    tools = [
        {"name": one.name, "description": one.description, "input_schema": one.input_schema}
        for one in (await agent.client.list_tools()).tools
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": goal}]
    async with httpx2.AsyncClient(timeout=_SECONDS) as web:
        for _ in range(_MOST_TURNS):
            content = await _reply(web, agent.client.instructions or "", [*tools, _FILES], messages)
            messages.append({"role": "assistant", "content": content})
            asked = [block for block in content if block["type"] == "tool_use"]
            if not asked:
                return "\n".join(block["text"] for block in content if block["type"] == "text")
            results = [await _use(agent, block, folder) for block in asked]
            messages.append({"role": "user", "content": results})
    raise AssertionError(f"no end after {_MOST_TURNS} turns: {agent.calls}")


_FILES = {
    "name": _WRITE,
    "description": "Read a file of the project (no text given), or replace its content by text.",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
        "required": ["path"],
    },
}


async def _reply(
    web: httpx2.AsyncClient, system: str, tools: list[Any], messages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    response = await web.post(
        _ENDPOINT,
        headers={"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"},
        json={
            "model": os.environ.get("EVAL_MODEL", MODEL),
            "max_tokens": 4000,
            "system": system,
            "tools": tools,
            "messages": messages,
        },
    )
    response.raise_for_status()
    return response.json()["content"]


async def _use(agent: Agent, block: dict[str, Any], folder: Path) -> dict[str, Any]:
    if block["name"] == _WRITE:
        text = _file(folder, **block["input"])
    else:
        text = await agent.call(block["name"], **block["input"])
    return {"type": "tool_result", "tool_use_id": block["id"], "content": text}


def _file(folder: Path, path: str, text: str | None = None) -> str:
    file = (folder / path).resolve()
    if not file.is_relative_to(folder):
        return "That is outside of the project."
    if text is not None:
        file.write_text(text, encoding="utf-8")
    return file.read_text(encoding="utf-8")
