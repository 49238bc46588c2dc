"""Tools as the protocol has them: the error boundary, arguments taken literally, descriptions from docstrings."""

import difflib
import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from durable_workflows import fitting
from durable_workflows.errors import DurableWorkflowsError

_LONGEST_ERROR = 4000  # characters
_SHOWN_PROBLEMS = 5
_NULL = {"type": "null"}
_UNSAID: list[tuple[str, object]] = [
    ("$ref", "#/$defs/JsonValue"),
    ("additionalProperties", {"$ref": "#/$defs/JsonValue"}),
    ("default", None),
]
_ARGUMENT = re.compile(r"^- (\w+): (.+(?:\n  .+)*)$", re.MULTILINE)


@dataclass(frozen=True)
class ToolSpec:
    """A tool for the server. The function's docstring describes it, and in lines `- name: text` at its end its arguments."""

    function: Callable[..., Awaitable[Any]]
    title: str
    reads: bool = False  # and changes nothing
    destroys: bool = False
    repeatable: bool = False
    open_world: bool = False  # the effects of a workflow reach as far as its author lets them
    structured: bool = True
    unknown: str = ""  # the advice about arguments that it does not have
    app: str | None = None  # the URI of the page that shows its answers
    for_page: bool = False  # and not for models

    @property
    def annotations(self) -> ToolAnnotations:
        """All four hints of the protocol."""
        return ToolAnnotations(
            read_only_hint=self.reads,
            destructive_hint=self.destroys,
            idempotent_hint=self.repeatable or self.reads,
            open_world_hint=self.open_world,
        )

    @property
    def meta(self) -> dict[str, Any] | None:
        """What clients with pages read, in both spellings; others pass over it."""
        if self.for_page:
            return {"ui": {"visibility": ["app"]}}
        return {"ui": {"resourceUri": self.app}, "ui/resourceUri": self.app} if self.app else None


def strict_tool(spec: ToolSpec) -> Tool:
    """The tool of a specification; it refuses unknown arguments."""
    described = inspect.cleandoc(spec.function.__doc__ or "")
    tool = _StrictTool.from_function(
        spec.function,
        title=spec.title,
        description=_unwrapped(_ARGUMENT.sub("", described)),
        annotations=spec.annotations,
        meta=spec.meta,
        structured_output=spec.structured,
    )
    assert isinstance(tool, _StrictTool)
    tool.unknown = spec.unknown
    loose = tool.fn_metadata.arg_model
    # Built at the first call of the tool: 21 models more would delay the answer to `initialize`.
    config = ConfigDict(extra="forbid", defer_build=True)
    strict = type(loose.__name__, (loose,), {"model_config": config})
    tool.fn_metadata = _AsGiven.model_validate({**dict(tool.fn_metadata), "arg_model": strict})
    tool.parameters = _advertised({**tool.parameters, "additionalProperties": False})
    for name, text in _ARGUMENT.findall(described):
        tool.parameters["properties"][name]["description"] = _unwrapped(text)
    return tool


def _advertised(schema: Any) -> Any:
    """A schema for clients: shorter than pydantic's, and in forms that all of them read.

    `JsonValue`, which takes anything, does not appear as a reference: some clients drop an argument that is only a reference. A null is
    accepted for an optional argument, but not advertised: models should omit the argument.
    """
    if isinstance(schema, list):
        return [_advertised(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _advertised(part)
        for key, part in cast("dict[str, Any]", schema).items()
        if (key, part) not in _UNSAID and not (key == "title" and isinstance(part, str))
    }
    choices: list[Any] = kept.get("anyOf", [])
    if _NULL in choices:
        named = [one for one in choices if one != _NULL]
        kept.pop("anyOf")
        kept |= named[0] if len(named) == 1 else {"anyOf": named}
    if "$defs" in kept:
        kept["$defs"].pop("JsonValue", None)
    return {key: part for key, part in kept.items() if (key, part) != ("$defs", {})}


class _AsGiven(FuncMetadata):
    """Keeps a text as a text where any value is accepted: the base class parses JSON objects and lists in texts."""

    def pre_parse_json(self, data: dict[str, object]) -> dict[str, object]:
        parsed = super().pre_parse_json(data)
        for name, field in self.arg_model.model_fields.items():
            if name in data and field.annotation == cast("Any", JsonValue):
                parsed[name] = data[name]
        return parsed


def _unwrapped(text: str) -> str:
    """A text without its line breaks for width."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


class _StrictTool(Tool):
    """A tool that refuses unknown arguments, whose errors are written for a model, and whose answers hold no empty fields."""

    unknown: str = Field(default="", exclude=True)

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Any:
        try:
            result = await super().run(arguments, context)
        except ToolError as error:
            raise self._readable(error) from error.__cause__
        return _answer(result) if convert_result else result

    def _readable(self, error: ToolError) -> ToolError:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            return ToolError(_shortened(self._wrong_arguments(cause)))
        if isinstance(cause, DurableWorkflowsError):
            return ToolError(_shortened(str(cause)))
        return UnexpectedToolError(
            f"{self.name} failed because of an error in the server; the error is in its log. "
            "Call again, or call server_status to see what is wrong. Nothing is lost."
        )

    def _wrong_arguments(self, error: ValidationError) -> str:
        fields = self.parameters["properties"]
        known, found = list(fields), error.errors()
        problems = [_problem(one["type"], one["loc"], one["msg"], known) for one in found]
        more = len(problems) - _SHOWN_PROBLEMS
        shown = "; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; {more} more" if more > 0 else "")
        has_unknown = any(one["type"] == "extra_forbidden" for one in found)
        said = f" {self.unknown}" if has_unknown and self.unknown else ""
        concerned = [
            name for name in dict.fromkeys(one["loc"][0] for one in found) if name in fields
        ]
        right = "".join(f" {name}: {fields[name]['description']}" for name in concerned)
        takes = f"Its arguments are {', '.join(known)}." if known else "It takes no arguments."
        return f"Wrong arguments for {self.name}: {shown}.{said} Nothing was done.{right} {takes}"


def _answer(result: object) -> CallToolResult | InputRequiredResult:
    """Text for the tools that give Markdown; for the others the same data twice, since clients show their models one or the other."""
    # The client asks its person, and calls again; or it shows a page.
    if isinstance(result, InputRequiredResult | CallToolResult):
        return result
    if not isinstance(result, BaseModel):
        return CallToolResult(content=[TextContent(type="text", text=fitting.shown(str(result)))])
    return CallToolResult(
        content=[TextContent(type="text", text=result.model_dump_json(exclude_defaults=True))],
        structured_content=result.model_dump(mode="json", exclude_defaults=True),
    )


def _problem(kind: str, location: Sequence[int | str], message: str, known: Sequence[str]) -> str:
    name = ".".join(map(str, location))
    if kind == "missing":
        return f"{name} is missing"
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    close = difflib.get_close_matches(name, known, n=1) if len(location) == 1 else []
    return f"there is no {name!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _shortened(text: str) -> str:
    """An error with its beginning, which says what happened, and its end, which says what to do."""
    text = fitting.shown(text)
    if len(text) <= _LONGEST_ERROR:
        return text
    half = _LONGEST_ERROR // 2
    return f"{text[:half]} … {text[-half:]}"
