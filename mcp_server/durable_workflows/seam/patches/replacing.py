# pyright: reportPrivateUsage=false
"""Functions of dbos that its modules import by name."""

import sys
from typing import Any


def replace_in_dbos(function: Any, replacement: Any) -> None:
    """Put the replacement wherever a module of dbos has the function: they import it by its name."""
    for name, module in list(sys.modules.items()):
        if name.startswith("dbos.") and getattr(module, function.__name__, None) is function:
            setattr(module, function.__name__, replacement)
