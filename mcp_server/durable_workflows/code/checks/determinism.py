"""The rules for the code of workflows and steps: a replay must take the same path through a workflow, and find the same steps.

Functions of the same file are followed. Anything that the text cannot show is not reported: an imported name, a function in a variable.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template

from durable_workflows import wording
from durable_workflows.code.checks.effects import effects
from durable_workflows.code.checks.scopes import Function, Located, Module, Scope, step_body

RULES: Mapping[str, str] = {
    "time": "A workflow reads the clock.",
    "random": "A workflow draws random numbers, or uses values that differ between processes (`hash`, `id`).",
    "uuid": "A workflow makes an id.",
    "network": "A workflow talks to a server, a database or a model.",
    "files": "A workflow reads, writes or looks at files.",
    "processes": "A workflow starts or signals a program.",
    "environment": "A workflow depends on environment variables or on the machine.",
    "input": "A workflow reads from the terminal.",
    "sleep": "A workflow waits without a record.",
    "threads": "A workflow uses threads or processes of its own.",
    "timing": "A workflow depends on timing: `asyncio.wait`, `as_completed`, `wait_for`, `timeout`.",
    "order": "Coroutines that start several steps each run at the same time: the order of the steps is unpredictable.",
    "set-order": "A workflow starts steps in the order of a set.",
    "globals": "A workflow changes a variable of the module.",
    "async-call": "An async workflow calls a sync function that raises there; use its `_async` variant.",
    "not-in-workflow": "A workflow calls something that DBOS refuses in a workflow.",
    "step-in-step": "A step calls a step: an ordinary call, which is not recorded.",
    "not-in-step": "A step calls something that DBOS refuses in a step: a wait, a durable sleep, the start of a run.",
    "values": "By its type hint, a step returns something that cannot be recorded: a function, an iterator, an open file, a lock.",
    "child": "A child run is started from a function that is not a workflow, or from one that is defined inside a workflow or step.",
}

WAITS = r"durable_workflows\.(authoring\.)?(receive|ask_human|sleep)"  # and `_async` after it
_OURS = rf"{WAITS}(_async)? | durable_workflows\.authoring\.start_child"
_RUN_STEP = r"(.*\.)?run_(tx_)?step(_async)?"
_STARTS = re.compile(rf"{_OURS} | {_RUN_STEP} | dbos\.DBOS\.(?!reserve_step\b)\w+", re.VERBOSE)
_SYNC = re.compile(
    rf"""{WAITS} | dbos\.DBOS\.
    (recv|sleep|send|send_bulk|run_step|set_event|get_event|get_all_events|wait_first|get_result|get_workflow_status|retrieve_workflow
    |list_workflows|list_queued_workflows|list_workflow_steps|cancel_workflows?|resume_workflows?|delete_workflows?|fork_workflow
    |rewind_workflow|set_workflow_delay|update_workflow_attributes|register_queue|retrieve_queue|delete_queue|list_queues
    |write_stream|close_stream|read_stream|read_stream_offset|patch|deprecate_patch)""",
    re.VERBOSE,
)
_NOT_IN_STEP = re.compile(
    rf"""{_OURS} | dbos\.DBOS\.(reserve_step
    | (recv|sleep|start_workflow|enqueue_workflow|enqueue_workflow_with_options|patch|deprecate_patch)(_async)?)""",
    re.VERBOSE,
)
_SET = re.compile(
    r"builtins\.(frozen)?set\(\) (\.(union|intersection|(symmetric_)?difference|copy)\(\))*",
    re.VERBOSE,
)
_CHILD = re.compile(r"dbos\.DBOS\.(start|(?P<queued>enqueue))_workflow(_async)?")
_ORDER_KEPT = re.compile(r"builtins\.(list|tuple|enumerate|iter|zip)")
_CHANGING = re.compile(
    r"append(left)?|extend|insert|add|update|pop(left|item)?|remove|discard|clear|setdefault"
)
_NOT_RECORDABLE = re.compile(
    r"""builtins\.(complex|memoryview|range|slice) | types\.\w+ | threading\.\w+ | _?io\.\w+
    | (typing|collections\.abc)\.(Async)?(Callable|Iterator|Generator|Coroutine|Awaitable) | typing\.(IO|TextIO|BinaryIO)""",
    re.VERBOSE,
)
_HELD = ("builtins.", "collections.", "itertools.", ".")  # types of values that a module may hold
_ENVIRONMENT = {"os.environ", "os.environb"}
_CODE = 60  # characters of code in a message
_SYNC_WORDS = {"run": "DBOS.run_step", "wait": "", "suffix": ""}
_ASYNC_WORDS = {"run": "await DBOS.run_step_async", "wait": "await ", "suffix": "_async"}


@dataclass(frozen=True)
class Problem:
    """Code that breaks a rule, what is wrong with it, and the right way in one sentence."""

    node: Located
    rule: str
    message: str
    advice: str


def problems(module: Module) -> Iterator[Problem]:
    """Possible failures when runs of the file's workflows are replayed. The same code may be reported for several workflows."""
    steps = _Steps(module)
    for place in _places(module, [one for one in module.functions if one.kind == "workflow"]):
        words = _Words(place)
        yield from _outside(place, words)
        yield from _async_calls(place, words)
        yield from _unordered(place, words, steps)
        yield from _branches(place, words, steps)
        yield from _globals(place, words)
        yield from _children(place, words)
    step_functions = _step_functions(module)
    for place in _places(module, step_functions):
        yield from _in_step(place, _Words(place))
    for function in step_functions:
        yield from _values(function, _Words(_Place(module, function, function)))


# Where code runs


@dataclass(frozen=True)
class _Place:
    """A workflow, a step, or a function that it uses."""

    module: Module
    root: Function
    function: Function

    @property
    def scope(self) -> Scope:
        return self.function.scope

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """The calls, and the meaning of the called names."""
        for node in self.function.code:
            if isinstance(node, ast.Call):
                yield node, self.scope.meaning(node.func) or ""

    def __str__(self) -> str:
        kind = "workflow" if self.root.kind == "workflow" else "step"
        root = f"{kind} {self.root.name}"
        if self.root is self.function:
            return root
        return f"`{self.function.name}`, called from {root},"


def _places(module: Module, roots: Sequence[Function]) -> Iterator[_Place]:
    """The functions, and the plain functions that they call, directly or indirectly: once for all sync roots, once for the async roots."""
    found: set[tuple[Function, bool]] = set()
    for root in roots:
        waiting = [root]
        while waiting:
            function = waiting.pop()
            yield _Place(module, root, function)
            calls = [node for node in function.code if isinstance(node, ast.Call)]
            for other in (other for call in calls for other in module.called(call, function.scope)):
                if other.kind == "plain" and (other, root.is_async) not in found:
                    found.add((other, root.is_async))
                    waiting.append(other)


def _step_functions(module: Module) -> list[Function]:
    """The decorated functions, and the functions passed on to run as steps."""
    found = [one for one in module.functions if one.kind == "step"]
    for function in module.functions:
        for node in function.code:
            body = module.function(step_body(node, function.scope), function.scope)
            if body is not None and body.kind == "plain":
                found.append(body)
    return list(dict.fromkeys(found))


class _Words:
    """The wording of a problem in a place."""

    def __init__(self, place: _Place) -> None:
        self._place = place

    def problem(self, rule: str, node: Located, harm: str, advice: str) -> Problem:
        """The problem of `node`; `advice` is a template (`effects`)."""
        words = _ASYNC_WORDS if self._place.function.is_async else _SYNC_WORDS
        if isinstance(node, ast.Call):
            argument = self.code(node.args[0]) if node.args else "…"
            words = words | {"code": self._callable(node), "argument": argument}
        message = f"`{self.code(node)}` in {self._place} {harm}"
        return Problem(node, rule, message, Template(advice).safe_substitute(words))

    def code(self, node: Located) -> str:
        """The code in one short line."""
        return wording.line(self._place.module.text(node), _CODE)

    def _callable(self, node: ast.Call) -> str:
        code = self.code(node)
        return f"{self.code(node.func)}(…)" if code.endswith("…") else code


# The rules for workflows


def _outside(place: _Place, words: _Words) -> Iterator[Problem]:
    """Code that reaches outside of the run."""
    for node, meaning in place.calls():
        if not (meaning.endswith(".sleep") and _is_zero(node.args)):  # zero only lets others run
            for effect in effects(meaning, len(node.args)):
                yield words.problem(effect.rule, node, effect.harm, effect.advice)
    for node in place.function.code:
        if isinstance(node, ast.Name | ast.Attribute):
            meaning = place.scope.meaning(node)
            for effect in effects(meaning) if meaning in _ENVIRONMENT else ():
                yield words.problem(effect.rule, node, effect.harm, effect.advice)


def _async_calls(place: _Place, words: _Words) -> Iterator[Problem]:
    for node, meaning in place.calls() if place.root.is_async else ():
        if _SYNC.fullmatch(meaning):
            name = meaning.removeprefix("dbos.").removeprefix("durable_workflows.")
            harm = "raises in an async workflow, because it would block all other runs"
            yield words.problem("async-call", node, harm, f"Write `await {name}_async(…)`.")


def _unordered(place: _Place, words: _Words, steps: "_Steps") -> Iterator[Problem]:
    """Loops over sets that start steps."""
    for node in place.function.code:
        overs, body = _loop(node)
        if any(steps.started_by(part, place.scope) for part in body):
            for over in overs:
                if _is_unordered(over, place.scope):
                    harm = "has no fixed order: on a replay the steps start in a different one"
                    advice = f"Sort it: `sorted({words.code(over)})`."
                    yield words.problem("set-order", over, harm, advice)


def _branches(place: _Place, words: _Words, steps: "_Steps") -> Iterator[Problem]:
    """Coroutines of several steps that are not awaited at once, so others run at the same time."""
    awaited = {node.value for node in place.function.code if isinstance(node, ast.Await)}
    for node, _ in place.calls():
        function = place.module.function(node.func, place.scope)
        if node in awaited or function is None or not _makes_coroutine(function):
            continue
        if steps.of(function) > 1:
            harm = "starts several steps while others run: their numbers are unpredictable"
            advice = (
                f"Decorate {function.name} with `@DBOS.workflow()` and start it in a fixed order: "
                f"`handle = await DBOS.start_workflow_async({function.name}, …)`."
            )
            yield words.problem("order", node, harm, advice)


def _globals(place: _Place, words: _Words) -> Iterator[Problem]:
    harm = "changes a variable of the module: other runs see the change, and a restart loses it"
    advice = "Keep it in a local variable; take what controls a run from its arguments and steps."
    for node in place.function.code:
        if isinstance(node, ast.Global) or (
            isinstance(node, ast.expr) and _changes_global(node, place.scope)
        ):
            yield words.problem("globals", node, harm, advice)


def _children(place: _Place, words: _Words) -> Iterator[Problem]:
    nested = {one.node: one for one in place.module.functions if "<locals>" in one.name}
    for node in place.function.code:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and nested[node].kind == "workflow":  # fmt: skip
            message = f"workflow {node.name} is defined while {place} runs: after a restart it is not registered, and its runs cannot go on"
            yield Problem(node, "child", message, "Define it at the top of the file.")
    for node, meaning in place.calls():
        if started := _CHILD.fullmatch(meaning):
            number = 1 if started["queued"] else 0
            function = place.module.function(node.args[number], place.scope) if len(node.args) > number else None  # fmt: skip
            if function is not None and function.kind == "plain":
                harm = f"raises: {function.name} is not a workflow"
                advice = f"Write `@DBOS.workflow()` above {function.name}, at the top of the file."
                yield words.problem("child", node, harm, advice)


# The rules for steps


def _in_step(place: _Place, words: _Words) -> Iterator[Problem]:
    for node, meaning in place.calls():
        function = place.module.function(node.func, place.scope)
        kind = "plain" if function is None else function.kind
        if kind == "step" or re.fullmatch(_RUN_STEP, meaning):
            harm = "is an ordinary call: both are recorded as one step"
            advice = "Call both from the workflow, one after the other; put shared code in a function without a decorator."
            yield words.problem("step-in-step", node, harm, advice)
        elif kind == "workflow" or _NOT_IN_STEP.fullmatch(meaning):
            harm = "is refused by DBOS inside a step"
            advice = "Call it in the workflow, before or after the step."
            yield words.problem("not-in-step", node, harm, advice)


def _values(function: Function, words: _Words) -> Iterator[Problem]:
    hint = function.node.returns
    for part in ast.walk(hint) if hint is not None else ():
        is_named = isinstance(part, ast.expr)
        if is_named and _NOT_RECORDABLE.fullmatch(function.scope.meaning(part) or ""):
            harm = "cannot be recorded"
            advice = "Return values: numbers, texts, times, collections, and dataclasses, models and enums of your own code."
            yield words.problem("values", part, harm, advice)


# Properties of code


class _Steps:
    """Counts the steps that code may start one after the other, up to two: the exact number beyond does not matter."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._known: dict[Function, int] = {}

    def of(self, function: Function) -> int:
        """The number that a call of the function starts."""
        if function not in self._known:
            self._known[function] = 0  # for a function that calls itself
            self._known[function] = min(self._block(function.node.body, function.scope), 2)
        return self._known[function]

    def started_by(self, node: ast.AST, scope: Scope) -> int:
        """The number that the code starts when it runs."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                return 0
            case ast.If(test=test, body=body, orelse=otherwise):
                ways = [self._block(body, scope), self._block(otherwise, scope)]
                return self.started_by(test, scope) + max(ways)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                ways = [self.started_by(body, scope), self.started_by(otherwise, scope)]
                return self.started_by(test, scope) + max(ways)
            case ast.For(iter=over, body=body) | ast.AsyncFor(iter=over, body=body):
                return self.started_by(over, scope) + 2 * self._block(body, scope)
            case ast.Match(subject=subject, cases=cases):
                ways = [self._block(one.body, scope) for one in cases]
                return self.started_by(subject, scope) + max(ways)
            case _:
                inner = sum(self.started_by(child, scope) for child in ast.iter_child_nodes(node))
                return self._started_itself(node, scope) + inner * (2 if _is_loop(node) else 1)

    def _block(self, statements: Sequence[ast.stmt], scope: Scope) -> int:
        total = 0
        for number, statement in enumerate(statements, 1):
            if isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Return | ast.Raise):  # fmt: skip
                rest = [*statement.orelse, *statements[number:]]
                ways = [self._block(statement.body, scope), self._block(rest, scope)]
                return total + self.started_by(statement.test, scope) + max(ways)
            total += self.started_by(statement, scope)
        return total

    def _started_itself(self, node: ast.AST, scope: Scope) -> int:
        if not isinstance(node, ast.Call):
            return 0
        function = self._module.function(node.func, scope)
        if function is not None:
            return self.of(function) if function.kind == "plain" else 1
        return int(_STARTS.fullmatch(scope.meaning(node.func) or "") is not None)


def _loop(node: ast.AST) -> tuple[list[ast.expr], Sequence[ast.AST]]:
    """The iterated value of a loop, and the code of each iteration."""
    match node:
        case ast.For(iter=over, body=body) | ast.AsyncFor(iter=over, body=body):
            return [over], body
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
            return [one.iter for one in node.generators], [node.elt]
        case ast.DictComp():
            return [one.iter for one in node.generators], [node.key, node.value]
        case _:
            return [], []


def _is_loop(node: ast.AST) -> bool:
    return isinstance(node, ast.While) or bool(_loop(node)[0])


def _is_zero(arguments: Sequence[ast.expr]) -> bool:
    return any(isinstance(one, ast.Constant) and one.value == 0 for one in arguments)


def _is_unordered(node: ast.expr, scope: Scope) -> bool:
    meaning = scope.meaning(node) or ""
    if isinstance(node, ast.Call) and _ORDER_KEPT.fullmatch(meaning.removesuffix("()")):
        return any(_is_unordered(one, scope) for one in node.args)
    return _SET.fullmatch(meaning) is not None


def _makes_coroutine(function: Function) -> bool:
    """Whether a call of it only makes a coroutine, which runs when it is awaited."""
    yields = any(isinstance(node, ast.Yield) for node in function.code)
    return function.is_async and not function.node.decorator_list and not yields


def _changes_global(node: ast.expr, scope: Scope) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if _CHANGING.fullmatch(name):
            return _is_held(value, scope)
        case ast.Call(func=function, args=[value, *_]):
            return scope.meaning(function) == "builtins.next" and _is_held(value, scope)
        case (
            ast.Subscript(value=value, ctx=ast.Store() | ast.Del())
            | ast.Attribute(value=value, ctx=ast.Store() | ast.Del())
        ):
            return _is_held(value, scope)
        case _:
            return False


def _is_held(node: ast.expr, scope: Scope) -> bool:
    """Whether a variable of the module holds the value."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    if not isinstance(node, ast.Name) or not scope.is_global(node.id):
        return False
    return (scope.meaning(node) or _HELD[0]).startswith(_HELD)
