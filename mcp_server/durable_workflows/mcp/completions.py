"""Completion of a person's typing in a client: workflow_ids, names, topics, templates, references.

It answers quickly and starts nothing: if the words are not known in time, there are none.
"""

from collections.abc import Awaitable, Callable, Mapping

from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from durable_workflows.docs import documents
from durable_workflows.mcp import uris
from durable_workflows.mcp.backend import Backend

_SECONDS = 1.0  # a person is typing
_MOST = 100  # the maximum of the protocol

Reference = PromptReference | ResourceTemplateReference
Words = Callable[[str, Mapping[str, str]], Awaitable[list[str]]]


class Completions:
    """The words of one project. `complete` is the server's handler of completions."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._of_arguments: Mapping[str, Words] = {
            "workflow_id": self._workflow_ids,
            "workflow": self._names,
            "topic": self._topics,
            "template": self._templates,
        }
        self._of_documents: Mapping[str, Words] = {
            uris.TEMPLATE: self._templates,
            uris.REFERENCE: self._references,
        }

    async def complete(
        self,
        reference: Reference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        """The words that begin with the typed text; none for an argument that takes any text."""
        words = self._of_arguments.get(argument.name)
        if isinstance(reference, ResourceTemplateReference):
            words = self._of_documents.get(reference.uri, words)
        given = (context.arguments if context else None) or {}
        found = await words(argument.value, given) if words else []
        fitting = [word for word in found if word.startswith(argument.value)]
        return Completion(values=fitting[:_MOST], has_more=len(fitting) > _MOST)

    async def _workflow_ids(self, typed: str, _given: Mapping[str, str]) -> list[str]:
        return await self._backend.when_running(
            lambda engine: engine.reader.ids_beginning(typed, limit=_MOST + 1),
            seconds=_SECONDS,
            otherwise=[],
        )

    async def _names(self, _typed: str, _given: Mapping[str, str]) -> list[str]:
        return await self._backend.when_running(
            lambda engine: engine.reader.startable_names(),
            seconds=_SECONDS,
            otherwise=[],
        )

    async def _topics(self, _typed: str, given: Mapping[str, str]) -> list[str]:
        return await self._backend.when_running(
            lambda engine: engine.reader.open_topics(given.get("workflow_id"), limit=_MOST + 1),
            seconds=_SECONDS,
            otherwise=[],
        )

    async def _templates(self, _typed: str, _given: Mapping[str, str]) -> list[str]:
        return [one.name for one in documents.templates()]

    async def _references(self, _typed: str, _given: Mapping[str, str]) -> list[str]:
        return [one.name for one in documents.references()]
