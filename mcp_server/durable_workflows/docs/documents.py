"""The files of this installation that agents read: templates of workflows, and references."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from durable_workflows import content
from durable_workflows.code.templates import template_entries

_SUMMARY = 300  # characters


@dataclass(frozen=True)
class Document:
    """A file, by its name without the suffix."""

    name: str
    title: str
    summary: str
    path: Path
    mime_type: str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.path.stat().st_size

    @property
    def modified(self) -> datetime:
        """The time when the file was written, or installed."""
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)


@cache
def templates() -> list[Document]:
    """Workflow files to begin with; the summary says when to use each."""
    folder = content.folder("templates")
    return [
        Document(
            name=one.name,
            title=one.name.replace("_", " ").capitalize(),
            summary=one.use_when,
            path=folder / f"{one.name}.py",
            mime_type="text/x-python",
        )
        for one in template_entries()
    ]


@cache
def references() -> list[Document]:
    """Texts on one subject each, without their index; the summary is the first paragraph."""
    return [_reference(path) for path in sorted(content.folder("references").glob("[a-z]*.md"))]


def _reference(path: Path) -> Document:
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    title = blocks[0].partition("\n")[0].lstrip("# ")
    paragraphs = (block for block in blocks if not block.startswith(("#", "```", "|")))
    summary = " ".join(next(paragraphs, "").split())
    return Document(
        name=path.stem,
        title=title,
        summary=summary if len(summary) <= _SUMMARY else f"{summary[: _SUMMARY - 1]}…",
        path=path,
        mime_type="text/markdown",
    )
