"""Promises and tests name each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

from requirements import PROMISES

LONG = "pytest.mark.long"


def marks(*, also_long: bool) -> Iterator[ast.expr]:
    """The decorators of all tests, and what whole files are marked with."""
    for path in Path(__file__).parent.rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        whole = [node.value for node in tree.body if isinstance(node, ast.Assign)]
        if any(LONG in ast.unparse(mark) for mark in whole) and not also_long:
            continue
        yield from whole
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own = node.decorator_list
                if also_long or LONG not in map(ast.unparse, own):
                    yield from own


def named(*, also_long: bool) -> set[object]:
    """The promises that tests prove."""
    return {
        argument.value
        for mark in marks(also_long=also_long)
        for node in ast.walk(mark)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "proves"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def test_every_promise_is_named_by_a_test() -> None:
    assert named(also_long=True) == PROMISES.keys()


def test_every_promise_is_proved_by_a_test_that_is_not_long() -> None:
    assert PROMISES.keys() - named(also_long=False) == set()
