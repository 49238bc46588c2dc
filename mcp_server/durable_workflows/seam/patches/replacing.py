"""Parts of dbos that are replaced by ours."""

import sys
from types import FunctionType


def replace(owner: object, **members: object) -> None:
    """Put each of the named members into a class or a module of dbos, in place of its own of that name.

    Raises:
        AttributeError: the owner has none of that name.
    """
    for name, member in members.items():
        getattr(owner, name)
        setattr(owner, name, member)


def replace_in_dbos(function: object, replacement: object) -> None:
    """Put the replacement wherever a module of dbos has the function: they import it by its name."""
    assert isinstance(function, FunctionType)
    for name, module in list(sys.modules.items()):
        if name.startswith("dbos.") and getattr(module, function.__name__, None) is function:
            setattr(module, function.__name__, replacement)
