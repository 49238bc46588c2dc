"""The entries of our processes: the command line, and `python -m durable_workflows.entry MODULE ARGUMENTS…`, which calls the module's `main`."""

import importlib
import sys

from durable_workflows.system.importing import undisturbed


def command_line() -> None:
    """What `durable-workflows` calls."""
    _call("durable_workflows.cli.app")


def main() -> None:
    """Call the `main` of the module that the first argument names, with the remaining arguments."""
    _call(sys.argv.pop(1))


def _call(name: str) -> None:
    with undisturbed():
        module = importlib.import_module(name)  # by name: all its imports happen here
    module.main()


if __name__ == "__main__":
    main()
