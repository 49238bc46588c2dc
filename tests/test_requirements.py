"""Promises and tests name each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

from requirements import PROMISES


def marks() -> Iterator[ast.expr]:
    """The decorators of all tests, and what whole files are marked with."""
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                yield node.value
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from node.decorator_list


def test_every_promise_is_named_by_a_test() -> None:
    named = {
        argument.value
        for mark in marks()
        for node in ast.walk(mark)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "proves"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    assert named == PROMISES.keys()
