"""Promises and tests name each other."""

import ast
from pathlib import Path

from requirements import PROMISES


def test_every_promise_is_named_by_a_test() -> None:
    named = {
        argument.value
        for path in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "proves"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    assert named == PROMISES.keys()
