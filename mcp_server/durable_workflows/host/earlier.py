"""Names that earlier releases offered to workflow files and that `authoring` does not have.

A saved version runs on its own code while it has unfinished runs, on the release that is installed then. `tests/releases` has the
code of each release.
"""

import sys
from collections.abc import Mapping
from types import ModuleType

from durable_workflows import authoring
from durable_workflows.schemas import arguments, described

_MODULES: Mapping[str, Mapping[str, object]] = {
    # The bundled workflows of 0.1.0rc1.
    "arguments": {"check": arguments.check},
    "children": {
        "Arguments": authoring.Arguments,
        "Output": authoring.Returned,
        "Problem": authoring.Problem,
        "ended": authoring.ended_children,
        "entry": described.entry,
        "not_ok": authoring.not_ok,
        "output": authoring.returned,
        "problem": authoring.problem_of,
        "register_queue": authoring.register_child_queue,
        "start": authoring.start_child,
    },
    "dbos_internals": {"registered_workflows": authoring.registered_workflows},
    "process_group": {
        "Listener": authoring.CommandListener,
        "execute": authoring.run_command,
        "inside_project": authoring.inside_project,
    },
    "redaction": {"redacted": authoring.redacted},
}


def offer() -> None:
    """Let the files that this process loads import the earlier names."""
    for name, contents in _MODULES.items():
        module = ModuleType(f"durable_workflows.{name}")
        vars(module).update(contents)
        sys.modules[module.__name__] = module
