"""Replacing parts of dbos by ours."""

import sys
from types import FunctionType


def replace(owner: object, **members: object) -> None:
    """Put each of the named members into a class or module of dbos, in place of the member of the same name.

    Raises:
        AttributeError: the owner has no member of that name.
    """
    for name, member in members.items():
        getattr(owner, name)
        setattr(owner, name, member)


def replace_in_dbos(function: object, replacement: object) -> None:
    """Replace the function in every module of dbos that has it: modules import it by name."""
    assert isinstance(function, FunctionType)
    for name, module in list(sys.modules.items()):
        if name.startswith("dbos.") and getattr(module, function.__name__, None) is function:
            setattr(module, function.__name__, replacement)
