"""What workflow files import from this package. Nothing else here is meant for them.

**The promise.** What `__all__` names keeps its name, its arguments and its meaning in all later releases. A run finishes on the code with
which it began, and that code imports from whatever release is installed by then. `tests/releases` has the code of each release, and
`tests/test_releases.py` finishes runs of it.

| for | names |
|---|---|
| waiting | `receive`, `receive_async`, `ask_human`, `ask_human_async`, `does_not_park` |
| many runs at once | `map_runs`, `map_runs_async`, `gather_runs`, `gather_runs_async`; what they return: `Outcomes`, `NamedOutcomes`, `Outcome`; `RunsFailed` |
| callbacks | `callback`, `callback_async`, `wait_for_callback`, `wait_for_callback_async`; what they make: `Callback`; `CallbackFailed`, `CallbackTimeout`, `HeartbeatTimeout` |
| polling | `wait_until`, `wait_until_async`, `DeadlinePassed` |
| names in the trace | `sleep`, `sleep_async`, `scope` |
| what becomes of children | `workflow_options` |
| steps with effects | `step`, `Retry`, `StepTimeout`, `NOT_DONE`, `idempotency_key` |
| steps that are transactions | `project_datasource`, `project_datasource_async` |
| children by name | `registered_workflows`, `argument_check`, `register_child_queue`, `start_child`, `ended_children`, `returned`, `problem_of`, `not_ok`; the types `Arguments`, `Returned`, `Problem` |
| commands in a step | `run_command`, `CommandListener`, `inside_project`, `redacted` |
| errors that tell what to do | `InvalidArguments`, `UnknownWorkflow`, `MessageTooLarge`, all of them `UsageError`; `did_you_mean`; `MAX_PAYLOAD_BYTES` |

The names in the first seven rows, but `does_not_park`, can also be imported from `durable_workflows`.
"""

from durable_workflows.authoring.arguments import argument_check, registered_workflows
from durable_workflows.authoring.callbacks import (
    Callback,
    callback,
    callback_async,
    wait_for_callback,
    wait_for_callback_async,
)
from durable_workflows.authoring.children import (
    Arguments,
    Problem,
    Returned,
    ended_children,
    not_ok,
    problem_of,
    register_child_queue,
    returned,
    start_child,
)
from durable_workflows.authoring.commands import CommandListener, inside_project, run_command
from durable_workflows.authoring.effects import NOT_DONE, idempotency_key, step
from durable_workflows.authoring.many import (
    gather_runs,
    gather_runs_async,
    map_runs,
    map_runs_async,
)
from durable_workflows.authoring.naming import scope, sleep, sleep_async
from durable_workflows.authoring.options import workflow_options
from durable_workflows.authoring.outcomes import NamedOutcomes, Outcome, Outcomes
from durable_workflows.authoring.parking import does_not_park
from durable_workflows.authoring.polling import wait_until, wait_until_async
from durable_workflows.authoring.redaction import redacted
from durable_workflows.authoring.retrying import Retry
from durable_workflows.authoring.transactions import (
    project_datasource,
    project_datasource_async,
)
from durable_workflows.authoring.waiting import (
    ask_human,
    ask_human_async,
    receive,
    receive_async,
)
from durable_workflows.errors import (
    CallbackFailed,
    CallbackTimeout,
    DeadlinePassed,
    HeartbeatTimeout,
    InvalidArguments,
    MessageTooLarge,
    RunsFailed,
    StepTimeout,
    UnknownWorkflow,
    UsageError,
)
from durable_workflows.settings import MAX_PAYLOAD_BYTES
from durable_workflows.wording import closest as did_you_mean

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "NOT_DONE",
    "Arguments",
    "Callback",
    "CallbackFailed",
    "CallbackTimeout",
    "CommandListener",
    "DeadlinePassed",
    "HeartbeatTimeout",
    "InvalidArguments",
    "MessageTooLarge",
    "NamedOutcomes",
    "Outcome",
    "Outcomes",
    "Problem",
    "Retry",
    "Returned",
    "RunsFailed",
    "StepTimeout",
    "UnknownWorkflow",
    "UsageError",
    "argument_check",
    "ask_human",
    "ask_human_async",
    "callback",
    "callback_async",
    "did_you_mean",
    "does_not_park",
    "ended_children",
    "gather_runs",
    "gather_runs_async",
    "idempotency_key",
    "inside_project",
    "map_runs",
    "map_runs_async",
    "not_ok",
    "problem_of",
    "project_datasource",
    "project_datasource_async",
    "receive",
    "receive_async",
    "redacted",
    "register_child_queue",
    "registered_workflows",
    "returned",
    "run_command",
    "scope",
    "sleep",
    "sleep_async",
    "start_child",
    "step",
    "wait_for_callback",
    "wait_for_callback_async",
    "wait_until",
    "wait_until_async",
    "workflow_options",
]
