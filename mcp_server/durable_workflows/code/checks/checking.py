"""Mistakes in a workflow file, as far as its text can show; nothing is imported or run.

An *error* keeps the file, or a workflow of it, from being registered, or is code that always raises. A *warning* is code that may take
another path when a run is replayed, after a crash or in a fork, that does not do what it seems to do, or that may do something twice. A
*note* needs no action. An author who knows better than a warning gives the reason in a comment on the same line:
`# deterministic: its answer is only logged`.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from durable_workflows.code import catalog
from durable_workflows.code.checks import determinism, held, misuse, sends
from durable_workflows.code.checks.determinism import Problem
from durable_workflows.code.checks.scopes import OUR_STEPS, Function, Located, Module
from durable_workflows.models import Model

Severity = Literal["error", "warning", "note"]

RULES: Mapping[str, str] = {
    "syntax": "Error: the file is not valid Python. Warning: it is nested too deeply to be checked.",
    "no-workflow": "Note: the file defines no workflow; it may be a module that others import.",
    "no-parentheses": "Error: `@DBOS.workflow`, `@DBOS.step` or `@step` has no parentheses.",
    "name-taken": "Error: two workflows have the same name, in the file or in two files of the folder.",
    "overrides": "Note: a workflow replaces a bundled one.",
    **misuse.ERRORS,
    **misuse.WARNINGS,
    **held.RULES,
    **sends.RULES,
    **determinism.RULES,
}
_DECORATORS: Mapping[str, str] = {
    "dbos.DBOS.workflow": "DBOS.workflow",
    "dbos.DBOS.step": "DBOS.step",
    **dict.fromkeys(OUR_STEPS, "step"),
}
_REASON = re.compile(r"#\s*deterministic:\s*\S")
_DEFINE = "To define one, write `from dbos import DBOS`, and `@DBOS.workflow()` above the function to start."
_PARTS = "Split long expressions into several shorter ones."
_RENAME = 'Rename one of them: `@DBOS.workflow(name="…")`.'


class Finding(Model):
    """A mistake, its place, and the right way. Lines and columns count from 1."""

    line: int
    column: int
    rule: str
    severity: Severity
    message: str
    advice: str


def check(path: str, source: str, others: Mapping[str, str] = {}) -> list[Finding]:
    """The mistakes in a file, in the order of its lines.

    `others` are the texts of the files that are loaded with it, by their paths in a snapshot of the catalog; the one at `path` is ignored.
    """
    source = source.removeprefix("\ufeff")  # a byte order mark, which Python skips in a file
    try:
        tree = _parsed(path, source)
    except SyntaxError as error:
        return [_unreadable(error.msg, error.lineno, error.offset)]
    except (ValueError, RecursionError, MemoryError) as error:
        return [_unreadable(str(error) or "it is nested too deeply")]
    try:
        module = Module(tree, source)
        found = [*_registration(module, path, source, others), *_problems(module, path, source)]
    except RecursionError:  # Python may read code that is still too deep for this walk
        return [_top("syntax", "warning", "the file is nested too deeply to be checked", _PARTS)]
    return sorted(found, key=lambda one: (one.line, one.column, one.rule))


def render(path: str, findings: Sequence[Finding]) -> str:
    """A line for each finding, in the form of compilers: `path:line:column: rule: message. advice`."""
    return "\n".join(
        f"{path}:{one.line}:{one.column}: {one.rule}: {one.message}. {one.advice}"
        for one in findings
    )


def _parsed(path: str, source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes, for example, which are harmless to a run
        tree = ast.parse(source, path)
        compile(tree, path, "exec", dont_inherit=True)  # finds a `return` outside of a function
    return tree


def _unreadable(problem: str, line: int | None = None, column: int | None = None) -> Finding:
    advice = "Correct it; the rest of the file is checked then."
    found = _top("syntax", "error", f"this is not valid Python: {problem}", advice)
    return found.model_copy(update={"line": line or 1, "column": column or 1})


def _top(rule: str, severity: Severity, message: str, advice: str) -> Finding:
    """A finding about the file as a whole."""
    return Finding(line=1, column=1, rule=rule, severity=severity, message=message, advice=advice)


def _finding(
    module: Module, rule: str, severity: Severity, node: Located, message: str, advice: str
) -> Finding:
    return Finding(
        line=node.lineno,
        column=module.column(node),
        rule=rule,
        severity=severity,
        message=message,
        advice=advice,
    )


# Registrations, and their names


def _registration(
    module: Module, path: str, source: str, others: Mapping[str, str]
) -> Iterator[Finding]:
    workflows = [one for one in module.functions if one.kind == "workflow"]
    if not workflows or "dbos" not in source:  # as the catalog finds the files to load
        message = "the file defines no workflow: there is nothing to start"
        yield _top("no-workflow", "note", message, _DEFINE)
    yield from _bare_decorators(module)
    yield from _doubles(module, workflows)
    if not _is_bundled(path):
        yield from _clashes(module, workflows, path, others)


def _bare_decorators(module: Module) -> Iterator[Finding]:
    for function in module.functions:
        for decorator in function.node.decorator_list:
            if name := _DECORATORS.get(function.outer.meaning(decorator) or ""):
                message = (
                    f"`@{name}` above {function.name} has no parentheses, so the file does not load"
                )
                advice = f"Write `@{name}()`."
                yield _finding(module, "no-parentheses", "error", decorator, message, advice)


def _doubles(module: Module, workflows: Sequence[Function]) -> Iterator[Finding]:
    first: dict[str, Function] = {}
    for function in workflows:
        known = first.setdefault(function.registered_name, function)
        if known is not function:
            message = f"the name {function.registered_name!r} is also declared in line {known.node.lineno}, and only one of them is registered"
            yield _finding(module, "name-taken", "error", function.node, message, _RENAME)


def _clashes(
    module: Module, workflows: Sequence[Function], path: str, others: Mapping[str, str]
) -> Iterator[Finding]:
    """Names that other files also declare."""
    nodes = {one.registered_name: one.node for one in reversed(workflows)}
    homes = _homes(path, others)
    for name, node in nodes.items():
        if name in homes:
            home = homes[name]
            if _is_bundled(home):
                message = f"the workflow {name!r} replaces the bundled one with that name"
                advice = f"If it should not: {_RENAME}"
                yield _finding(module, "overrides", "note", node, message, advice)
            else:
                message = f"the name {name!r} is also declared in {home}, and only one of the files is loaded"
                yield _finding(module, "name-taken", "error", node, message, _RENAME)


def _homes(path: str, others: Mapping[str, str]) -> dict[str, str]:
    """The other file that declares each name; of several, one of the project's own."""
    homes: dict[str, str] = {}
    for other in sorted(others, key=_is_bundled):
        if other != path and other.endswith(".py"):
            for name in catalog.declared_names(others[other]):
                homes.setdefault(name, other)
    return homes


def _is_bundled(path: str) -> bool:
    return path.startswith(f"{catalog.BUNDLED}/")


# The behaviour of the code


def _problems(module: Module, path: str, source: str) -> Iterator[Finding]:
    """The problems, each once; of the warnings, those without a reason."""
    for problem in _once(misuse.errors(module)):
        yield _of_problem(module, problem, "error")
    reasons = _reasons(source)
    warned = [
        *determinism.problems(module),
        *held.warnings(module),
        *misuse.warnings(module, path),
        *sends.warnings(module),
    ]
    for problem in _once(warned):
        node = problem.node
        if reasons.isdisjoint(range(node.lineno, (node.end_lineno or node.lineno) + 1)):
            yield _of_problem(module, problem, "warning")


def _once(problems: Iterable[Problem]) -> Iterator[Problem]:
    seen: set[tuple[int, int, str]] = set()
    for problem in problems:
        key = (problem.node.lineno, problem.node.col_offset, problem.rule)
        if key not in seen:
            yield problem
        seen.add(key)


def _of_problem(module: Module, problem: Problem, severity: Severity) -> Finding:
    return _finding(module, problem.rule, severity, problem.node, problem.message, problem.advice)


def _reasons(source: str) -> set[int]:
    """The lines with a comment that gives a reason."""
    if "deterministic:" not in source:
        return set()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [one for one in tokens if one.type == tokenize.COMMENT]
    return {one.start[0] for one in comments if _REASON.match(one.string)}
