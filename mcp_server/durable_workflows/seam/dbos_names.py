"""The public names of the installed dbos, read from its source: importing it takes a second."""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def of_package() -> frozenset[str]:
    """The names that `from dbos import …` can import."""
    folder = _folder()
    modules = {path.stem for path in folder.iterdir()}
    return frozenset(modules | set(_bound(_tree(folder / "__init__.py").body)))


@cache
def of_class() -> frozenset[str]:
    """The attributes of `dbos.DBOS`."""
    tree = _tree(_folder() / "_dbos.py")
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "DBOS"]
    return frozenset(name for one in classes for name in _bound(one.body))


def _folder() -> Path:
    spec = importlib.util.find_spec("dbos")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _bound(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name
            case ast.ImportFrom(names=names) | ast.Import(names=names):
                yield from (one.asname or one.name for one in names)
            case _:
                pass
