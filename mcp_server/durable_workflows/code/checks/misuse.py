"""The rules for code that dbos refuses, and for code that treats the worker's process, or its copy of the file, as its own."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import PurePosixPath

from durable_workflows import wording
from durable_workflows.code.checks.determinism import WAITS, Problem
from durable_workflows.code.checks.scopes import Located, Module, Scope
from durable_workflows.seam import dbos_names

ERRORS: Mapping[str, str] = {
    "not-in-dbos": "Error: the file uses something that the installed dbos does not have, such as `@DBOS.scheduled`, `@DBOS.transaction` or `Queue(…)`.",
    "sync-timeout": "Error: a sync step has `timeout_seconds` or `preemptible`, or our `timeout`, which only async steps can have.",
    "typed-dict": "Error: arguments or messages are a `typing.TypedDict`, which pydantic refuses before Python 3.12.",
}
WARNINGS: Mapping[str, str] = {
    "chdir": "Code changes the working directory, which all runs share.",
    "beside-file": "Code writes next to `__file__`, or finds the project from there: `__file__` is in a copy of the workflow folder.",
}

_ASYNC_ONLY = ("preemptible", "timeout_seconds", "timeout")  # options of steps
_STEP = "Write `@DBOS.step()` above it."
_INSTEAD: Mapping[str, str] = {
    "scheduled": "Decorate it with `@DBOS.workflow()` only, and create the schedule in a step, with `DBOS.apply_schedules(schedules)`.",
    "transaction": _STEP,
    "sql_session": "Open your own connection in a step.",
}
_CHDIR = re.compile(r"os\.f?chdir|contextlib\.chdir")
_PATHS = re.compile(r"pathlib\.(Path|PurePath|PosixPath) | builtins\.str | os\.fspath | os\.path\.(join|abspath|realpath|normpath)", re.VERBOSE)  # fmt: skip
_SAME = {"resolve", "absolute", "joinpath", "with_name", "with_suffix", "expanduser", "as_posix"}
_WRITES = {"write_text", "write_bytes", "mkdir", "touch", "unlink", "rmdir", "symlink_to"}
_WRITES_FIRST = re.compile(r"os\.(makedirs|mkdir|remove|unlink|rmdir)")
_WRITES_SECOND = re.compile(r"shutil\.(copy\w*|move) | os\.(rename|replace)", re.VERBOSE)
_MESSAGES = re.compile(rf"{WAITS}(_async)?")


def errors(module: Module) -> Iterator[Problem]:
    """Mistakes that keep the file, or code of it, from working at all."""
    yield from _not_in_dbos(module)
    yield from _sync_timeouts(module)
    if sys.version_info < (3, 12):
        yield from _typed_dicts(module)


def warnings(module: Module, path: str) -> Iterator[Problem]:
    """Code that does not do what it seems to do; `path` is the path of the file in a snapshot of the catalog."""
    for node, scope in module.nodes():
        if isinstance(node, ast.Call) and _CHDIR.fullmatch(scope.meaning(node.func) or ""):
            message = f"`{_code(module, node)}` changes the working directory of all runs; after the import it is reset"
            advice = "Remove it: the working directory is the project directory. Pass `cwd=…` to a program that you start."
            yield Problem(node, "chdir", message, advice)
    yield from _beside_file(module, max(len(PurePosixPath(path).parts) - 1, 1))


def _code(module: Module, node: Located) -> str:
    return wording.line(module.text(node), 60)


# Code that dbos refuses


def _not_in_dbos(module: Module) -> Iterator[Problem]:
    for node, scope in module.nodes():
        match node:
            case ast.Attribute(value=value, attr=name) if scope.meaning(value) == "dbos.DBOS":
                if name not in dbos_names.of_class():
                    near = wording.closest(name, dbos_names.of_class()).strip()
                    yield _absent(node, f"DBOS.{name}", _INSTEAD.get(name) or near)
            case ast.ImportFrom(module="dbos", names=names):
                for one in names:
                    if one.name != "*" and one.name not in dbos_names.of_package():
                        near = wording.closest(one.name, dbos_names.of_package()).strip()
                        yield _absent(node, f"dbos.{one.name}", near)
            case ast.Call(func=function) if scope.meaning(function) == "dbos.Queue":
                advice = "Register it in a step or in a workflow: `DBOS.register_queue(name, worker_concurrency=2)`."
                yield _absent(node, "Queue(…)", advice)
            case _:
                pass


def _absent(node: Located, name: str, advice: str) -> Problem:
    message = f"`{name}` does not exist in the installed dbos, so it raises"
    return Problem(node, "not-in-dbos", message, advice or "Remove it.")


def _sync_timeouts(module: Module) -> Iterator[Problem]:
    for function in module.functions:
        call = function.registration
        if call and function.kind == "step" and not function.is_async:
            given = {one.arg for one in call.keywords if _is_set(one.value)}
            yield from _refused(call, function.name, given)
    for node, scope in module.nodes():
        match node:
            case ast.Call(func=function, args=[ast.Dict(keys=keys), *_]):
                if scope.meaning(function) == "dbos.DBOS.run_step":
                    given = {one.value for one in keys if isinstance(one, ast.Constant)}
                    yield from _refused(node, "DBOS.run_step", given)
            case _:
                pass


def _is_set(value: ast.expr) -> bool:
    return not (isinstance(value, ast.Constant) and value.value in (None, False))


def _refused(node: Located, step: str, given: Set[object]) -> Iterator[Problem]:
    """The options of a sync step that DBOS refuses."""
    advice = "Make it an `async def`, or set a timeout on the call that may hang; or run what may hang as a command, with `run_command`."
    for option in _ASYNC_ONLY:
        if option in given:
            message = f"`{option}` of {step} is refused: a sync step cannot be interrupted"
            yield Problem(node, "sync-timeout", message, advice)


def _typed_dicts(module: Module) -> Iterator[Problem]:
    """Uses of `typing.TypedDict` as the type of an argument or a message."""
    found: set[str] = {"typing.TypedDict()"}
    for node, scope in module.nodes():
        if isinstance(node, ast.ClassDef):
            bases = {scope.meaning(base) or "" for base in node.bases}
            if bases & {"typing.TypedDict", *found}:
                found.add(scope.meaning(ast.Name(node.name, ast.Load())) or "")
    for hint, scope in _schemas(module):
        for part in ast.walk(hint):
            if isinstance(part, ast.expr) and scope.meaning(part) in found:
                message = f"`{_code(module, part)}` is a `typing.TypedDict`, which pydantic refuses before Python 3.12"
                advice = (
                    "Import it from typing_extensions: `from typing_extensions import TypedDict`."
                )
                yield Problem(part, "typed-dict", message, advice)


def _schemas(module: Module) -> Iterator[tuple[ast.expr, Scope]]:
    for function in module.functions:
        if function.kind == "workflow":
            given = function.node.args
            for argument in [*given.posonlyargs, *given.args, *given.kwonlyargs]:
                if argument.annotation is not None:
                    yield argument.annotation, function.scope
    for node, scope in module.nodes():
        if isinstance(node, ast.Call) and _MESSAGES.fullmatch(scope.meaning(node.func) or ""):
            yield from ((one.value, scope) for one in node.keywords if one.arg == "schema")


# The place of the file


def _beside_file(module: Module, depth: int) -> Iterator[Problem]:
    """`depth` is the number of folders between the file and the folder that holds the workflow folder."""
    paths = _Paths(depth)
    for node, scope in module.nodes():
        paths.note(node, scope)
        if isinstance(node, ast.expr) and paths.leaves(node, scope):
            message = f"`{_code(module, node)}` is not the project directory: `__file__` is in a copy of the workflow folder"
            advice = "Use `Path(name)` alone: the working directory is the project directory."
            yield Problem(node, "beside-file", message, advice)
        elif isinstance(node, ast.Call) and paths.is_written(node, scope):
            message = f"`{_code(module, node)}` writes next to `__file__`, into a copy of the workflow folder that the next version does not have"
            advice = "Write into the project with a path relative to the working directory: `Path(name)`."
            yield Problem(node, "beside-file", message, advice)


class _Paths:
    """The names and expressions that are paths made from `__file__`, and how many folders above it they are."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._known: dict[tuple[Scope | None, str], int] = {}

    def note(self, node: ast.AST, scope: Scope) -> None:
        """Note a name that is bound to such a path."""
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value):
                self._note(name, value, scope)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._note(name, value, scope)
            case _:
                pass

    def leaves(self, node: ast.AST, scope: Scope) -> bool:
        """Whether the expression leads out of the copied folder."""
        match node:
            case ast.Attribute(value=value, attr="parent"):
                inner = value
            case ast.Subscript(value=ast.Attribute(value=value, attr="parents")):
                inner = value
            case ast.Call(args=[value, *_]) if scope.meaning(node.func) == "os.path.dirname":
                inner = value
            case _:
                return False
        above, below = self._level(node, scope), self._level(inner, scope)
        return above is not None and below is not None and below <= self._depth < above

    def is_written(self, node: ast.Call, scope: Scope) -> bool:
        """Whether the call writes to such a path."""
        meaning = scope.meaning(node.func) or ""
        mode = [*node.args, *(one.value for one in node.keywords if one.arg == "mode")]
        changes = any(isinstance(one, ast.Constant) and _is_writing(one.value) for one in mode)
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _WRITES:
                target = value
            case ast.Call(func=ast.Attribute(value=value, attr="open")) if changes:
                target = value
            case ast.Call(args=[value, *_]) if meaning == "builtins.open" and changes:
                target = value
            case ast.Call(args=[value, *_]) if _WRITES_FIRST.fullmatch(meaning):
                target = value
            case ast.Call(args=[_, value, *_]) if _WRITES_SECOND.fullmatch(meaning):
                target = value
            case _:
                return False
        return self._level(target, scope) is not None

    def _note(self, name: str, value: ast.expr, scope: Scope) -> None:
        level = self._level(value, scope)
        if level is not None:
            self._known[None if scope.is_global(name) else scope, name] = level

    def _level(self, node: ast.AST, scope: Scope) -> int | None:
        """The number of folders that a path is above `__file__`; None if it is no such path."""
        match node:
            case ast.Name(id="__file__"):
                return 0
            case ast.Name(id=name):
                return self._known.get((None if scope.is_global(name) else scope, name))
            case ast.BinOp(left=left, op=ast.Div()):
                return self._level(left, scope)
            case ast.Attribute(value=value, attr="parent"):
                return self._above(value, 1, scope)
            case ast.Subscript(
                value=ast.Attribute(value=value, attr="parents"),
                slice=ast.Constant(value=int(number)),
            ):
                return self._above(value, number + 1, scope)
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _SAME:
                return self._level(value, scope)
            case ast.Call(func=function, args=[value, *_]):
                meaning = scope.meaning(function) or ""
                if meaning == "os.path.dirname":
                    return self._above(value, 1, scope)
                return self._level(value, scope) if _PATHS.fullmatch(meaning) else None
            case _:
                return None

    def _above(self, node: ast.AST, folders: int, scope: Scope) -> int | None:
        level = self._level(node, scope)
        return None if level is None else level + folders


def _is_writing(mode: object) -> bool:
    return isinstance(mode, str) and re.fullmatch(r"[rbt+]*[wax+][wbt+]*", mode) is not None
