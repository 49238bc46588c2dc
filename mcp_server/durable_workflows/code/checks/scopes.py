"""The meaning of the names in a workflow file, as far as its text can show; nothing is imported or run.

A meaning is a dotted path: after `from time import time as now`, `now` means `time.time`. The result of a call ends in
parentheses (`pathlib.Path()`); a definition of the file itself begins with a dot (`.count`, `.Work().report`). A name that is bound to
different things has no meaning: it hides outer names, and nothing more is known of it.
"""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Located = ast.expr | ast.stmt | ast.ExceptHandler
Kind = Literal["workflow", "step", "plain"]

OUR_STEPS = frozenset({"durable_workflows.step", "durable_workflows.authoring.step"})
_KINDS: Mapping[str, Kind] = {"workflow": "workflow", "step": "step", "transaction": "step"}
_STEP_RUNNERS = {"run_step", "run_step_async", "run_tx_step", "run_tx_step_async"}
_RESERVATIONS = {"dbos.DBOS.reserve_step()", "dbos.StepReservation()"}
_BUILTINS = frozenset(dir(builtins))
_SAME_TYPE = (ast.Div, ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)  # as those of paths and sets


class Scope:
    """The names of a module or a function, and the scope around it."""

    def __init__(self, outer: "Scope | None", nodes: Iterable[ast.AST]) -> None:
        self._outer = outer
        self._meanings: dict[str, str | None] = {}
        self._elsewhere: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.Global | ast.Nonlocal):
                self._elsewhere.update(node.names)

    def bind(self, name: str, meaning: str | None) -> None:
        """Note one thing that the name is bound to here."""
        if name in self._elsewhere:
            return
        known = self._meanings.setdefault(name, meaning)
        self._meanings[name] = known if known == meaning else None

    def meaning(self, node: ast.expr | None) -> str | None:
        """The meaning of an expression."""
        match node:
            case ast.Name(id=name):
                return self._lookup(name)
            case ast.Attribute(value=value, attr=attr):
                of = self.meaning(value)
                if of == "dbos.DBOS()":  # its methods are those of the class
                    of = "dbos.DBOS"
                return of and f"{of}.{attr}"
            case ast.Call(func=function):
                return _called(self.meaning(function))
            case ast.BinOp(left=left, op=op) if isinstance(op, _SAME_TYPE):
                return self.meaning(left)
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self.meaning(value)
            case ast.Set() | ast.SetComp():
                return "builtins.set()"
            case _:
                return None

    def hinted(self, value: ast.expr | None, hint: ast.expr | None) -> str | None:
        """The meaning of a name with that value and type hint; either may be missing."""
        hint = hint.value if isinstance(hint, ast.Subscript) else hint
        found = self.meaning(value)
        own = found is None or found.startswith(".")
        return (_called(self.meaning(hint)) if own else None) or found

    def is_global(self, name: str) -> bool:
        """Whether the name, seen from here, is bound by the module."""
        if self._outer is None:
            return name in self._meanings
        return name not in self._meanings and self._outer.is_global(name)

    def _lookup(self, name: str) -> str | None:
        if name in self._meanings:
            return self._meanings[name]
        if self._outer is not None:
            return self._outer._lookup(name)
        return f"builtins.{name}" if name in _BUILTINS else None


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the file: its qualified name, the meaning of a reference to it, the names in it, and those around it."""

    node: FunctionNode
    name: str
    meaning: str
    scope: Scope
    outer: Scope

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @cached_property
    def kind(self) -> Kind:
        """Its kind, by its decorators."""
        for decorator in self.node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            if kind := self._registered_as(target):
                return kind
        return "plain"

    @cached_property
    def registration(self) -> ast.Call | None:
        """The decorator that registers it, if the decorator is called."""
        for decorator in self.node.decorator_list:
            if isinstance(decorator, ast.Call) and self._registered_as(decorator.func):
                return decorator
        return None

    @cached_property
    def registered_name(self) -> str:
        """The name under which its decorator registers it."""
        for keyword in self.registration.keywords if self.registration else ():
            match keyword:
                case ast.keyword(arg="name", value=ast.Constant(value=str(name))):
                    return name
                case _:
                    pass
        return self.name

    @cached_property
    def code(self) -> list[ast.AST]:
        """The code that runs when it is called, in the order of the text, without code that it passes on to run as a step."""
        return list(_run(self.node.body, self.scope))

    def _registered_as(self, decorator: ast.expr) -> Kind | None:
        if isinstance(decorator, ast.Attribute):
            return _KINDS.get(decorator.attr)
        return "step" if self.outer.meaning(decorator) in OUR_STEPS else None


class Module:
    """A file: its functions, including those in functions and classes, and its text."""

    def __init__(self, tree: ast.Module, source: str) -> None:
        self._lines = [line.encode() for line in re.split(r"\r\n|\r|\n", source)]
        self.functions: list[Function] = []
        self._by_meaning: dict[str, Function] = {}
        nodes = list(_own(tree.body))
        self._tree = tree
        self._scope = Scope(None, nodes)
        _bind(self._scope, nodes, "")
        self._define(nodes, self._scope, "", "")

    def nodes(self) -> Iterator[tuple[ast.AST, Scope]]:
        """All nodes of the file in the order of the text, with the scope of each; nodes of a class have the scope around it."""
        inner = {function.node: function.scope for function in self.functions}
        waiting: list[tuple[ast.AST, Scope]] = [(self._tree, self._scope)]
        while waiting:
            node, scope = waiting.pop()
            yield node, scope
            if isinstance(node, FunctionNode):
                scope = inner.get(node, scope)
            waiting += reversed([(child, scope) for child in ast.iter_child_nodes(node)])

    def text(self, node: Located) -> str:
        """The text of a node."""
        lines = self._lines[node.lineno - 1 : node.end_lineno]
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return b"\n".join(lines).decode()

    def column(self, node: Located) -> int:
        """The column in which a node begins, counted in characters from 1; `ast` counts bytes."""
        return len(self._lines[node.lineno - 1][: node.col_offset].decode()) + 1

    def function(self, node: ast.expr | None, scope: Scope) -> Function | None:
        """The function that an expression refers to; for a class of the file, the function that makes its instances."""
        meaning = scope.meaning(node)
        return self._by_meaning.get(meaning or "", self._by_meaning.get(f"{meaning}().__init__"))

    def called(self, call: ast.Call, scope: Scope) -> list[Function]:
        """The functions of the file that a call calls, including those passed to a builtin, as in `sorted(rows, key=size)`."""
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        nodes = [call.func, *(given if _is_builtin(call, scope) else ())]
        found = [self.function(node, scope) for node in nodes]
        return [function for function in found if function is not None]

    def _define(self, nodes: Sequence[ast.AST], scope: Scope, place: str, prefix: str) -> None:
        for node in nodes:
            if isinstance(node, FunctionNode):
                self._function(node, scope, f"{place}.{node.name}", prefix + node.name)
            elif isinstance(node, ast.ClassDef):
                self._class(node, scope, f"{place}.{node.name}", f"{prefix}{node.name}.")

    def _class(self, node: ast.ClassDef, scope: Scope, meaning: str, prefix: str) -> None:
        for item in _own(node.body):
            if isinstance(item, FunctionNode):
                own = f"{meaning}().{item.name}"
                method = self._function(item, scope, own, prefix + item.name, owner=meaning)
                self._by_meaning[f"{meaning}.{item.name}"] = method
            elif isinstance(item, ast.ClassDef):
                self._class(item, scope, f"{meaning}.{item.name}", f"{prefix}{item.name}.")

    def _function(
        self, node: FunctionNode, outer: Scope, meaning: str, name: str, *, owner: str = ""
    ) -> Function:
        nodes = list(_own(node.body))
        scope = Scope(outer, nodes)
        for argument, value in _arguments(node, outer, owner).items():
            scope.bind(argument, value)
        place = f"{meaning}.<locals>"
        _bind(scope, nodes, place)
        function = Function(node, name, meaning, scope, outer)
        self.functions.append(function)
        self._by_meaning[meaning] = function
        self._define(nodes, scope, place, f"{name}.<locals>.")
        return function


def step_body(node: ast.AST, scope: Scope) -> ast.expr | None:
    """The function that a call passes on to run as a step, as `DBOS.run_step(options, function, …)` does."""
    match node:
        case ast.Call(func=ast.Attribute(value=runner, attr=name), args=[options, body, *_]):
            reserved = isinstance(options, ast.Dict) or scope.meaning(runner) in _RESERVATIONS
            runs = name in _STEP_RUNNERS or (name in {"run", "run_async"} and reserved)
            return body if runs else None
        case _:
            return None


def _is_builtin(node: ast.AST, scope: Scope) -> bool:
    return isinstance(node, ast.Call) and (scope.meaning(node.func) or "").startswith("builtins.")


def _own(statements: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of some statements in the order of the text; of functions and classes in them only the definition."""
    waiting = list(reversed(statements))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FunctionNode | ast.ClassDef):
            waiting += reversed(list(ast.iter_child_nodes(node)))


def _run(statements: Sequence[ast.AST], scope: Scope) -> Iterator[ast.AST]:
    """The nodes that run. A function that is passed on does not run here, unless a builtin calls it, as for a sort key."""
    waiting = list(reversed(statements))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FunctionNode | ast.ClassDef | ast.Lambda):
            handed = step_body(node, scope)
            parts = [part for part in ast.iter_child_nodes(node) if part is not handed]
            waiting += reversed([*map(_body, parts)] if _is_builtin(node, scope) else parts)


def _body(part: ast.AST) -> ast.AST:
    given = part.value if isinstance(part, ast.keyword) else part
    return given.body if isinstance(given, ast.Lambda) else given


def _bind(scope: Scope, nodes: Sequence[ast.AST], place: str) -> None:
    """Bind all names that the nodes bind."""
    values = dict(_values(nodes))
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                scope.bind(name, scope.hinted(*values.get(node, (None, None))))
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                scope.bind(name, f"{place}.{name}")
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.split(".")[0]
                    scope.bind(alias.asname or top, alias.name if alias.asname else top)
            case ast.ImportFrom(module=module, names=names):
                for alias in names:
                    scope.bind(alias.asname or alias.name, f"{module}.{alias.name}")
            case (
                ast.arg(arg=str(name))
                | ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
            ):
                scope.bind(name, None)
            case _:
                pass


def _values(
    nodes: Sequence[ast.AST],
) -> Iterator[tuple[ast.AST, tuple[ast.expr | None, ast.expr | None]]]:
    """The value and the type hint of each name that is assigned as a whole."""
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                yield from ((target, (value, None)) for target in targets)
            case ast.AnnAssign(target=target, value=value, annotation=hint):
                yield target, (value, hint)
            case ast.NamedExpr(target=target, value=value):
                yield target, (value, None)
            case ast.withitem(optional_vars=ast.Name() as target, context_expr=value):
                yield target, (value, None)
            case _:
                pass


def _arguments(node: FunctionNode, outer: Scope, owner: str) -> dict[str, str | None]:
    """The meanings of the arguments; `owner` is the class of a method."""
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    meanings = {item.arg: outer.hinted(None, item.annotation) for item in named}
    decorators = {item.id for item in node.decorator_list if isinstance(item, ast.Name)}
    if owner and named and "staticmethod" not in decorators:
        meanings[named[0].arg] = owner if "classmethod" in decorators else f"{owner}()"
    extra = [item.arg for item in (node.args.vararg, node.args.kwarg) if item is not None]
    return meanings | dict.fromkeys(extra)


def _called(meaning: str | None) -> str | None:
    return None if meaning is None else f"{meaning}()"
