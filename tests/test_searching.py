"""Searching in the references and templates: what is found, what it looks like, and that it stays small."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from durable_workflows import content, errors, limits
from durable_workflows.docs import documents, searching
from durable_workflows.docs.documents import Document
from durable_workflows.docs.searching import Index, Passage, cut, passages, render, search
from durable_workflows.mcp import uris
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.settings import Settings

GUIDE = """# Guide to it

What this is.

## Waiting for messages

A run waits, as it is `told`.

```python run=x args='{}'
# no heading
DBOS.recv("topic")

## nor this
```

Behind the code.

### Of people

Only a person answers.

## Sending

~~~sh
durable-workflows send
~~~
"""
TEMPLATE = '''"""Use when it fits.

More of it.
"""

LIMIT = 3


# What it is for.
@DBOS.step()
def fetch_rows(url: str) -> str:
    """Fetch."""

    return url


class Row:
    """A row."""


@DBOS.workflow()
async def nightly() -> None:
    """Do it."""
'''


def document(folder: Path, name: str, text: str) -> Document:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return Document(path.stem, "The title", "The summary.", path, "text/plain")


def index(folder: Path, *texts: str) -> Index:
    numbered = enumerate(texts, 1)
    return Index([document(folder, f"text{number}.md", text) for number, text in numbered])


def titles(found: list[Passage]) -> list[str]:
    return [passage.title for passage in found]


# Passages


def test_a_reference_is_cut_at_its_headings_and_not_in_code(tmp_path: Path) -> None:
    found = list(passages(document(tmp_path, "guide.md", GUIDE)))
    assert titles(found) == [
        "guide › The title",
        "guide › Waiting for messages",
        "guide › Waiting for messages › Of people",
        "guide › Sending",
    ]
    assert {passage.uri for passage in found} == {"durable://references/guide"}
    assert found[0].text == "What this is."
    assert found[2].text == "Only a person answers."


def test_code_stays_whole_and_loses_what_is_for_tests(tmp_path: Path) -> None:
    found = list(passages(document(tmp_path, "guide.md", GUIDE)))
    assert found[1].text == (
        "A run waits, as it is `told`.\n\n"
        '```python\n# no heading\nDBOS.recv("topic")\n\n## nor this\n```\n\n'
        "Behind the code."
    )
    assert found[3].text == "~~~sh\ndurable-workflows send\n~~~"


def test_a_template_is_its_description_and_its_whole_functions(tmp_path: Path) -> None:
    found = list(passages(document(tmp_path, "nightly.py", TEMPLATE)))
    assert titles(found) == ["nightly › The title", "nightly › fetch_rows", "nightly › nightly"]
    assert {passage.uri for passage in found} == {"durable://templates/nightly"}
    assert found[0].text == "Use when it fits.\n\nMore of it."
    assert found[1].text == (
        "```python\n# What it is for.\n@DBOS.step()\ndef fetch_rows(url: str) -> str:\n"
        '    """Fetch."""\n\n    return url\n```'
    )


def test_uris_are_those_of_the_resources() -> None:
    found = {passage.uri for one in documents.references() for passage in passages(one)}
    assert found == {uris.expand(uris.REFERENCE, name=one.name) for one in documents.references()}
    found = {passage.uri for one in documents.templates() for passage in passages(one)}
    assert found == {uris.expand(uris.TEMPLATE, name=one.name) for one in documents.templates()}


def test_nothing_of_the_references_is_lost() -> None:
    for one in documents.references():
        text = one.path.read_text(encoding="utf-8")
        words = set(re.findall(r"\w+", re.sub(r"^ *[`~]{3,}.*|^#+ .*", "", text, flags=re.M)))
        kept = "\n".join(passage.text for passage in passages(one))
        assert words <= set(re.findall(r"\w+", kept)), one.name


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (200, "One two.\n\n```sh\nthree\n\nfour\n```\n\nFive."),
        (36, "One two.\n\n```sh\nthree\n\nfour\n```\n\n…"),
        (30, "One two.\n\n…"),
    ],
)
def test_a_text_is_cut_between_paragraphs_and_never_in_code(width: int, expected: str) -> None:
    text = "One two.\n\n```sh\nthree\n\nfour\n```\n\nFive."
    assert cut(text, width) == expected


def test_a_block_that_is_too_long_by_itself_is_cut_between_lines(tmp_path: Path) -> None:
    code = "\n".join(f"line {number}" for number in range(1000))
    for text in (f"```python\n{code}\n```", code):
        short = cut(text, 100)
        assert len(short) <= 100
        assert re.search(r"^line \d+\n…(\n```)?\Z", short, flags=re.MULTILINE)
        assert short.count("```") % 2 == 0
    assert len(cut("x" * 1000, 100)) <= 100
    (passage,) = passages(document(tmp_path, "long.md", code))
    assert len(passage.text) < 3000


# What is found


@pytest.mark.parametrize("query", ["waits", "waiting", "Waited?", "I want it to wait"])
def test_words_are_found_by_their_stems(tmp_path: Path, query: str) -> None:
    assert len(index(tmp_path, "A run waits.", "Something else.").search(query, 6)) == 1


@pytest.mark.parametrize(
    "query",
    ["start_workflow", "start", "workflow", "DBOSUnexpectedStepError", "unexpected step", "DBOS"],
)
def test_identifiers_are_found_whole_and_by_their_parts(tmp_path: Path, query: str) -> None:
    found = index(tmp_path, "`start_workflow` raises DBOSUnexpectedStepError.", "Nothing here.")
    assert len(found.search(query, 6)) == 1


def test_the_whole_identifier_counts_more_than_its_parts(tmp_path: Path) -> None:
    texts = ["workflows start; a workflow starts", "call start_workflow now", "the workflow"]
    found = index(tmp_path, *texts).search("start_workflow", 6)
    assert found[0].text == texts[1]
    assert len(found) == 3


def test_a_word_in_a_title_counts_more(tmp_path: Path) -> None:
    texts = ["## Other\n\nForking, and more words.", "## Forking\n\nOther, and more words."]
    assert titles(index(tmp_path, *texts).search("fork", 6))[0] == "text2 › Forking"


def test_common_words_of_a_question_do_not_count(tmp_path: Path) -> None:
    found = index(tmp_path, "How can you do it with that?", "Cancel a run.", "Nothing else.")
    assert [one.text for one in found.search("How can I cancel it?", 6)] == ["Cancel a run."]
    assert found.search("how do I do that", 6) == []


def test_no_more_passages_than_asked_for(tmp_path: Path) -> None:
    found = index(tmp_path, *["a workflow"] * 9)
    assert [len(found.search("workflow", limit)) for limit in (1, 6, 20)] == [1, 6, 9]


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        '"',
        '" OR *',
        "NEAR(a b)",
        "body:x",
        "- -",
        "\0",
        "\ud800",
        "'; DROP",
        "é ß 中",
        "__",
        "^a",
    ],
)
def test_any_query_is_only_words(tmp_path: Path, query: str) -> None:
    found = index(tmp_path, "A run waits.")
    assert found.search(query, 6) == []
    assert len(found.search(f"{query} waits", 6)) == 1


def test_a_query_of_a_million_words_is_answered(tmp_path: Path) -> None:
    found = index(tmp_path, "A run waits.")
    query = "wait " + " ".join(f"word{number}" for number in range(1_000_000))
    assert len(found.search(query, 6)) == 1


def test_an_index_is_searched_in_many_threads(tmp_path: Path) -> None:
    found = index(tmp_path, *(f"number{number} waits" for number in range(50)))
    words = [f"number{number}" for number in range(50)] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(found.search, words, [1] * len(words)))
    assert [one.text for (one,) in answers] == [f"{word} waits" for word in words]


# The real documents


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("how do I ask a person for an approval", "Approval"),
        ("random numbers", "Random"),
        ("what happens when the process crashes in the middle of a step", "recovery"),
        ("the file has time.time() in the workflow", "Time"),
        ("run many items in parallel with a limit", "queue_parallel"),
        ("cron schedule every night", "Schedules"),
        ("repair a failed run", "Repair"),
        ("use my own Postgres", "postgres"),
        ("language model with tools", "agent_workflow"),
        ("undo earlier steps when a later one fails", "Saga"),
        ("run shell commands with dependencies", "bundled-workflows › run_commands"),
        ("same workflow for many items", "bundled-workflows › fan_out"),
        ("graph of steps as data", "bundled-workflows › plan"),
        ("arguments of plan", "bundled-workflows › plan"),
        ("how do I answer an approval of a plan", "plan: conditions and approvals"),
        ("a node of a plan failed", "plan: results, failures and crashes"),
        ("approval that only a person can give", "bundled-workflows › plan_approval"),
        ("arguments of agent_task", "bundled-workflows › agent_task"),
        ("token budget of an agent", "agent_task: budgets"),
        ("which bundled workflow", "Which bundled workflow to take"),
        ("agent must end its turn", "end its turn"),
        ("long wait", "end its turn"),
        ("session ends", "end its turn"),
    ],
)
def test_questions_are_answered_in_the_first_three_passages(query: str, expected: str) -> None:
    assert any(expected in title for title in titles(search(query))[:3]), titles(search(query))


@pytest.mark.parametrize("tool", [spec.function.__name__ for spec in TOOLS])
def test_each_tool_is_found_by_its_name(tool: str) -> None:
    assert f"tools › {tool}" in titles(search(tool))


SETTINGS = [f"DURABLE_WORKFLOWS_{name.upper()}" for name in Settings.model_fields]
ERRORS = [
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("name", SETTINGS + ERRORS)
def test_settings_and_errors_are_found_where_the_references_have_them(name: str) -> None:
    texts = "".join(
        path.read_text(encoding="utf-8") for path in content.folder("references").iterdir()
    )
    if name in texts:
        assert any(name in f"{one.title} {one.text}" for one in search(name)[:3])


def test_the_index_is_built_quickly() -> None:
    installed = [*documents.references(), *documents.templates()]
    began = time.process_time()
    Index(installed)
    assert time.process_time() - began < 0.5


# The answer


def test_the_answer_has_the_best_passages_whole_and_names_the_rest(tmp_path: Path) -> None:
    text = "\n\n".join(f"## Part {number}\n\nwait {'word ' * 380}" for number in range(6))
    found = index(tmp_path, text).search("wait", 6)
    answer = render("wait", found)
    assert answer.startswith(
        '# Passages for "wait"\n\n## text1 › Part 0\ndurable://references/text1\n\nwait word'
    )
    shown = answer.partition("Also found")[0].split("## text1 › Part ")[1:]
    assert [part[0] for part in shown] == ["0", "1", "2", "3"]
    assert [part.count("word") for part in shown[:3]] == [380, 380, 380]
    assert shown[3].rstrip().endswith("…")
    named = answer.partition("Also found")[2]
    assert re.findall(
        r"^- text1 › Part (\d) \(durable://references/text1\)$", named, re.MULTILINE
    ) == ["4", "5"]


@pytest.mark.parametrize("budget", [7900, 2000, 500])
@pytest.mark.parametrize("limit", [1, 6, 50])
def test_no_answer_is_longer_than_its_budget(tmp_path: Path, budget: int, limit: int) -> None:
    code = "wait = 1\n" * 5_000
    long = f"## {'Title ' * 100}\n\n```python\n{code}```"
    found = index(tmp_path, *[long, "## B\n\nwait\n\n" + "wait " * 4000] * 30).search("wait", limit)
    assert len(found) == limit
    assert len(render("wait " * 1000, found, budget)) <= budget
    assert len(render("zzz " * 1000, [], budget)) <= budget


def test_every_passage_of_the_installation_fits_an_answer_whole() -> None:
    for one in [*documents.references(), *documents.templates()]:
        for passage in passages(one):
            assert passage.text in render("it", [passage])


def test_if_nothing_is_found_the_answer_says_what_there_is() -> None:
    found = search("xyzzy")
    answer = render("xyzzy", found)
    assert found == []
    assert answer.startswith('No passage contains a word of "xyzzy".')
    for one in [*documents.references(), *documents.templates()]:
        assert f"/{one.name}: " in answer
    assert len(answer) < limits.ANSWER


def test_the_installed_documents_are_indexed_once() -> None:
    assert search("fork")[0] is search("fork")[0]
    assert searching.search("fork", limit=1) == search("fork")[:1]
