"""Search in the references and templates of this installation: passages that stand alone, the best one first. It needs no network.

A passage of a reference is the text under a heading; a passage of a template is its description, or one function. SQLite's
full-text search, which comes with Python, ranks them: BM25, words by their stems. Identifiers are found whole and by their parts.
"""

import ast
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock

from durable_workflows import limits, wording
from durable_workflows.docs import documents
from durable_workflows.docs.documents import Document

_LONGEST_QUERY = 1000  # characters; far more than a person asks
_LONGEST = 2600  # characters of a passage; the sections of the references are shorter
_LEAST = 600  # characters: a passage that would be cut shorter is only named
_POINTER = 160  # characters of a line that only names a passage
_FRAME = 250  # characters for the text around the passages
_TITLE_WEIGHT = 4.0  # of a word in a title, compared to one in the text
_STOP_WORDS = """
    about an and any are as at be but by can could do does for from get give had has have how if in into is it its me
    my of on or our please should show so some tell than that the their them then there these they this to us want was
    way we were what when where which who why will with would you your
"""
_CAMEL_CASE = re.compile(r"\b(?=\w*(?:[a-z][A-Z]|[A-Z]{2}[a-z]))\w+")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# A fence with its content, a heading, or lines without an empty line in between.
_BLOCKS = re.compile(
    r"^ *(?P<fence>`{3,}|~{3,})(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *(?P=fence)[ \t]*$"
    r"|^(?P<level>\#{1,3})[ ](?P<heading>[^\n]+)$"
    r"|(?:^(?!\ *(?:`{3}|~{3})|\#{1,3}\ )[^\n]*\S[^\n]*(?:\n|\Z))+",
    re.MULTILINE | re.DOTALL,
)
# SQLite reads a word with underscores, quoted in a query, as a phrase of its parts.
_SCHEMA = "CREATE VIRTUAL TABLE passages USING fts5(title, body, tokenize = porter)"
_BEST = "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, ?, 1.0), rowid LIMIT ?"


@dataclass(frozen=True)
class Passage:
    """A part of a document: `title` names file and heading, `uri` is the resource of the whole file, `text` is Markdown."""

    title: str
    uri: str
    text: str


class Index:
    """The passages of some documents, searchable from any thread."""

    def __init__(self, texts: Iterable[Document]) -> None:
        self._passages = [passage for text in texts for passage in passages(text)]
        self._lock = Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute(_SCHEMA)
        self._database.executemany(
            "INSERT INTO passages VALUES (?, ?)",
            [(_spread(one.title), _spread(one.text)) for one in self._passages],
        )

    def search(self, query: str, limit: int) -> list[Passage]:
        """The passages with words of the query, the best one first."""
        words = _searched(query)
        if not words:
            return []
        wanted = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            rows = self._database.execute(_BEST, (wanted, _TITLE_WEIGHT, limit)).fetchall()
        return [self._passages[number - 1] for (number,) in rows]


def search(query: str, *, limit: int = 6) -> list[Passage]:
    """The passages of the references and templates that best match a question, or some words; none if no word of it occurs."""
    return _installed().search(query, limit)


def render(query: str, found: Sequence[Passage], budget: int = limits.ANSWER) -> str:
    """The passages as Markdown of at most `budget` characters: the best ones in full while they fit, the others by their titles."""
    if not found:
        return wording.clamp(_nothing(query), budget)
    parts = [f"# Passages for {_quoted(query)}"]
    named: list[str] = []
    left = budget - _FRAME - _POINTER * len(found)
    for passage in found:
        head = f"## {passage.title}\n{passage.uri}\n\n"
        room = left - len(head)
        if room < min(len(passage.text), _LEAST):
            named.append(wording.line(f"- {passage.title} ({passage.uri})", _POINTER))
        else:
            parts.append(head + cut(passage.text, room))
            left -= len(parts[-1]) + 2
    if named:
        parts += ["Also found; search for the words of a title to read it:", "\n".join(named)]
    return wording.clamp("\n\n".join(parts), budget)


def _nothing(query: str) -> str:
    head = f"No passage contains a word of {_quoted(query)}. Try the names of tools, settings, errors or functions. These documents exist:\n"
    texts = [f"- {_uri(one)}: {one.summary or one.title}" for one in _documents()]
    return "\n".join([head, *(wording.line(text, _POINTER) for text in texts)])


def _quoted(query: str) -> str:
    return f'"{wording.line(query, 100)}"'


@cache
def _installed() -> Index:
    return Index(_documents())


def _documents() -> list[Document]:
    return [*documents.references(), *documents.templates()]


# Passages


def passages(document: Document) -> Iterator[Passage]:
    """The parts of a document, in order."""
    text = document.path.read_text(encoding="utf-8")
    for heading, part in _of_template(text) if _is_template(document) else _of_reference(text):
        title = f"{document.name} › {heading or document.title}"
        yield Passage(title, _uri(document), cut(part, _LONGEST))


def _is_template(document: Document) -> bool:
    return document.path.suffix == ".py"


def _uri(document: Document) -> str:
    return f"durable://{'templates' if _is_template(document) else 'references'}/{document.name}"


def _of_reference(text: str) -> Iterator[tuple[str, str]]:
    """The text under each heading of the second and third level, and before the first heading."""
    headings: list[str] = []
    blocks: list[str] = []
    for found in _BLOCKS.finditer(text):
        if found["level"] is None:
            blocks.append(_block(found))
            continue
        if blocks:
            yield " › ".join(headings), "\n\n".join(blocks)
        blocks = []
        depth = len(found["level"]) - 1  # the first level is the document's title
        headings = [*headings[: depth - 1], found["heading"].strip()] if depth else []
    if blocks:
        yield " › ".join(headings), "\n\n".join(blocks)


def _block(found: re.Match[str]) -> str:
    """A block of text; of a fence's first line only the language, since the rest is for tests."""
    if found["fence"] is None:
        return found[0].strip("\n")
    return f"{found['fence']}{found['language']}\n{found['code']}{found['fence']}"


def _of_template(text: str) -> Iterator[tuple[str, str]]:
    """The description of a template, and each of its functions."""
    tree = ast.parse(text)
    lines = text.splitlines()
    yield "", ast.get_docstring(tree) or ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node, *node.decorator_list], key=lambda one: one.lineno).lineno
            while first > 1 and lines[first - 2].startswith(
                "#"
            ):  # a comment above it belongs to it
                first -= 1
            yield node.name, wording.fenced("\n".join(lines[first - 1 : node.end_lineno]), "python")


def cut(text: str, width: int) -> str:
    """The beginning of a text, up to the end of a paragraph or of a block of code; `…` says that there is more."""
    if len(text) <= width:
        return text
    kept: list[str] = []
    left = width - len("\n\n…")
    for found in _BLOCKS.finditer(text):
        block = found[0].strip("\n")
        if len(block) > left:
            break
        kept.append(block)
        left -= len(block) + 2
    return "\n\n".join([*kept, "…"]) if kept else _cut_block(text, width)


def _cut_block(text: str, width: int) -> str:
    """The first lines of a block that is too long by itself."""
    found = _BLOCKS.match(text)
    fence = found["fence"] if found is not None else None
    end = f"\n…\n{fence}" if fence else "\n…"
    kept = text[: width - len(end)].rpartition("\n")[0]
    return (kept or text[: width - len(end)]) + end


# Words


def _spread(text: str) -> str:
    """The text with the parts of each name like `DBOSUnexpectedStepError` added after it."""
    return _CAMEL_CASE.sub(lambda found: " ".join([found[0], *_PARTS.findall(found[0])]), text)


def _searched(query: str) -> list[str]:
    """The words to search for, each once, with the parts of identifiers."""
    stop_words = frozenset(_STOP_WORDS.split())
    whole = re.findall(r"\w+", query[:_LONGEST_QUERY])
    words = [part.lower() for word in whole for part in [word, *_PARTS.findall(word)]]
    return [one for one in dict.fromkeys(words) if len(one) > 1 and one not in stop_words]
