"""The references (and the skill) as data: their sections, and the code blocks in them with what their info strings say.

An info string is a language and options: `python run=name args='{}' output='…'`. They are described in `test_references.py`.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from durable_workflows import content

FOLDER = content.folder("references")
SKILL = Path(__file__).parents[2] / "skills" / "durable-workflows" / "SKILL.md"
DOCUMENTS = [*sorted(FOLDER.glob("[a-z]*.md")), SKILL]
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    document: str
    line: int
    language: str
    words: tuple[str, ...]
    options: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Section:
    """A heading of the second level, with the text under it."""

    document: str
    title: str
    text: str


def blocks(*languages: str) -> list[Block]:
    """The blocks of these languages in all references."""
    found = [block for document in DOCUMENTS for block in blocks_of(document)]
    return [block for block in found if block.language in languages]


def blocks_of(document: Path) -> Iterator[Block]:
    """The blocks of one document."""
    for token in MarkdownIt().parse(document.read_text(encoding="utf-8")):
        if token.type == "fence" and token.map is not None:
            language, *rest = shlex.split(token.info) or [""]
            yield Block(
                document.name,
                token.map[0] + 1,
                language,
                tuple(word for word in rest if "=" not in word),
                dict(word.split("=", 1) for word in rest if "=" in word),
                token.content,
            )


def sections(document: Path) -> list[Section]:
    """The sections of one document."""
    text = document.read_text(encoding="utf-8")
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return [Section(document.name, part.split("\n", 1)[0], f"## {part}") for part in parts]


def code_words(text: str) -> list[str]:
    """The words in single backticks."""
    return _INLINE.findall(text)
