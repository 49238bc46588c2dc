"""The rule for steps that look like sends, payments or deployments, and do not say whether they may happen twice.

A step says so with an `effect`, or by allowing retries. Functions of the same file are followed. Anything that the text cannot show is
not reported: a client in an argument without a type hint, options in a variable.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

from durable_workflows import wording
from durable_workflows.code.checks import deployments
from durable_workflows.code.checks.determinism import Problem
from durable_workflows.code.checks.effects import OF, SENDS
from durable_workflows.code.checks.scopes import Function, Located, Module, Scope, step_body

RULES: Mapping[str, str] = {
    "effect": "A step looks like a send, a payment or a deployment, and does not say whether it may happen twice.",
}
_REQUESTS = re.compile(
    rf"(requests|httpx|aiohttp|urllib3|http\.client){OF}\.(request|stream|Request)", re.VERBOSE
)
_METHOD = re.compile(r"POST|PUT|PATCH|DELETE", re.IGNORECASE)
_URLLIB = re.compile(r"urllib\.request\.(Request|urlopen)")
_VERBS = re.compile(
    r"_*((re)?send|pay|charge|refund|transfer|deploy|publish|notify)(_\w+)? | _*(email|order)_\w+",
    re.VERBOSE,
)
# Some of these words are nouns before others: `order_total`, `email_address`.
_NOUNS = re.compile(
    r"""_*(pay|charge|refund|transfer|email|order)_(by(_\w+)? | (address|amount|body|count|date|detail|id|item|key|line|list|name|number
    |price|rate|result|row|state|status|subject|sum|template|text|time|total)(s|es)?)""",
    re.VERBOSE,
)
_CODE = 60  # characters of code in a message
_DECORATE = 'Write `@step(effect="once")`, with `from durable_workflows import step`: it happens at most once. If a repetition does no harm, write `@step(effect="repeatable")`.'
_CALL = 'Call a function that has `@step(effect="once")` above it, with `from durable_workflows import step`: it happens at most once. If a repetition does no harm, use `@step(effect="repeatable")`.'


def warnings(module: Module) -> Iterator[Problem]:
    """The steps that look like sends and say nothing about their effect: those with decorators, and calls that run something as a step."""
    sends = _Sends(module)
    for function in module.functions:
        step = function.registration
        if step is not None and function.kind == "step" and not _says(step.keywords):
            yield from _problems(step, function.name, sends.look(function), _DECORATE)
        for node in function.code:
            body = step_body(node, function.scope)
            if body is not None and isinstance(node, ast.Call) and not _may_say(node.args[0]):
                name = f"`{wording.line(module.text(body), _CODE)}`"
                look = sends.look_of_body(body, function.scope)
                yield from _problems(node, name, look, _CALL)


def _problems(node: Located, step: str, look: str | None, advice: str) -> Iterator[Problem]:
    if look is not None:
        harm = "runs again if its process dies before its result is recorded"
        yield Problem(node, "effect", f"step {step} {look}, and {harm}", advice)


def _says(keywords: Sequence[ast.keyword]) -> bool:
    """Whether the arguments of a decorator say that the step may run again, or may not; those that the text does not show may say so."""
    return any(
        one.arg in ("effect", None) or (one.arg == "retries_allowed" and _is_set(one.value))
        for one in keywords
    )


def _may_say(options: ast.expr) -> bool:
    """Whether the options of a call allow retries, or may do so."""
    match options:
        case ast.Dict(keys=keys, values=values):
            return any(
                key is None or (_constant(key) == "retries_allowed" and _is_set(value))
                for key, value in zip(keys, values, strict=True)
            )
        case _:
            return True


def _is_set(value: ast.expr) -> bool:
    return not (isinstance(value, ast.Constant) and not value.value)


class _Sends:
    """What looks like a send, by the functions of a file."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._calls = self._reached()

    def look(self, function: Function) -> str | None:
        """Why the function looks like a send, in words that follow its name; None: it does not."""
        if function in self._calls:
            return self._calling(self._calls[function])
        name = function.node.name
        if _VERBS.fullmatch(name) and not _NOUNS.fullmatch(name):
            return "is by its name a send, a payment or a deployment"
        return None

    def look_of_body(self, body: ast.expr, scope: Scope) -> str | None:
        """The same for what a call runs as a step."""
        function = self._module.function(body, scope)
        if function is not None:
            return self.look(function) if function.kind == "plain" else None
        code = ast.walk(body.body) if isinstance(body, ast.Lambda) else [body]
        sending = next((node for node in code if _sends(node, scope)), None)
        return self._calling(sending) if isinstance(sending, ast.expr) else None

    def _calling(self, node: ast.expr) -> str:
        return f"calls `{wording.line(self._module.text(node), _CODE)}` in line {node.lineno}"

    def _reached(self) -> dict[Function, ast.expr]:
        """The first call of each function that sends, its own or that of a plain function that it calls."""
        found: dict[Function, ast.expr] = {}
        callers: dict[Function, list[Function]] = {}
        for function in self._module.functions:
            for node in function.code:
                if isinstance(node, ast.expr) and _sends(node, function.scope):
                    found.setdefault(function, node)
                if isinstance(node, ast.Call):
                    for called in self._module.called(node, function.scope):
                        callers.setdefault(called, []).append(function)
        waiting = [function for function in found if function.kind == "plain"]
        while waiting:
            called = waiting.pop()
            for caller in callers.get(called, ()):
                if caller not in found:
                    found[caller] = found[called]
                    waiting += [caller] if caller.kind == "plain" else []
        return found


def _sends(node: ast.AST, scope: Scope) -> bool:
    """Whether the code refers to something that sends, or calls something that sends with these arguments."""
    match node:
        case ast.Attribute() | ast.Name():
            return SENDS.fullmatch(scope.meaning(node) or "") is not None
        case ast.Call(func=function):
            meaning = scope.meaning(function) or ""
            return _is_writing_request(node, meaning) or deployments.is_one(node, meaning)
        case _:
            return False


def _is_writing_request(call: ast.Call, meaning: str) -> bool:
    named = {one.arg: one.value for one in call.keywords}
    if _URLLIB.fullmatch(meaning):
        data = call.args[1] if len(call.args) > 1 else named.get("data")
        return (data is not None and _is_set(data)) or _is_method(named.get("method"))
    if _REQUESTS.fullmatch(meaning):
        return any(map(_is_method, [*call.args[:1], named.get("method")]))
    return False


def _is_method(node: ast.expr | None) -> bool:
    method = _constant(node)
    return isinstance(method, str) and _METHOD.fullmatch(method) is not None


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None
