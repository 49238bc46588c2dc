"""The rule for things that a workflow's own code holds while its run waits: the run may leave memory, and begin again from the top."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from durable_workflows import wording
from durable_workflows.code.checks.determinism import WAITS, Problem
from durable_workflows.code.checks.scopes import Module, Scope

RULES: Mapping[str, str] = {
    "held": "A workflow waits inside a `with` block, such as an open file or a lock, or catches `BaseException` around a wait: a run that waits is taken out of memory.",
}
_WAIT = re.compile(
    rf"{WAITS}(_async)? | dbos\.DBOS\.(recv|sleep|get_event|wait_first)(_async)?", re.VERBOSE
)
_HOLDS_NOTHING = re.compile(
    r"dbos\..* | contextlib\.(suppress|nullcontext) | durable_workflows\.(authoring\.)?scope",
    re.VERBOSE,
)


def warnings(module: Module) -> Iterator[Problem]:
    """The things lost at a wait, in the functions that are workflows."""
    for function in module.functions:
        if function.kind == "workflow":
            for node in ast.walk(function.node):
                yield from _problems(module, node, function.scope)


def _problems(module: Module, node: ast.AST, scope: Scope) -> Iterator[Problem]:
    match node:
        case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
            for item in items:
                if _holds(item.context_expr, scope) and _waits(body, scope):
                    held = wording.line(module.text(item.context_expr), 60)
                    message = f"`{held}` is let go while the run waits inside of it, and made anew when the run goes on"
                    advice = "Do what needs it in a step, before or after the wait."
                    yield Problem(item.context_expr, "held", message, advice)
        case ast.Try(body=body, handlers=handlers):
            for handler in handlers:
                if _takes_everything(handler, scope) and _waits(body, scope):
                    message = "this catches `BaseException` around a wait, also the exception by which a run that waits is taken out of memory"
                    yield Problem(handler, "held", message, "Catch `Exception`.")
        case _:
            pass


def _holds(manager: ast.expr, scope: Scope) -> bool:
    called = manager.func if isinstance(manager, ast.Call) else manager
    return not _HOLDS_NOTHING.fullmatch(scope.meaning(called) or "")


def _takes_everything(handler: ast.ExceptHandler, scope: Scope) -> bool:
    """Whether it catches more than `Exception`, and does not raise it again."""
    passes_on = any(isinstance(one, ast.Raise) and one.exc is None for one in handler.body)
    kind = handler.type
    return not passes_on and (kind is None or scope.meaning(kind) == "builtins.BaseException")


def _waits(body: Iterable[ast.stmt], scope: Scope) -> bool:
    calls = (node for part in body for node in ast.walk(part) if isinstance(node, ast.Call))
    return any(_WAIT.fullmatch(scope.meaning(call.func) or "") for call in calls)
