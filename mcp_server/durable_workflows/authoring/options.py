"""Options of a workflow that DBOS does not have."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from durable_workflows.errors import UsageError
from durable_workflows.settings import ENDS_CHILDREN

Function = TypeVar("Function", bound=Callable[..., Any])
_GO_ON, _END = "go on", "end with parent"


def workflow_options(
    *, children: Literal["go on", "end with parent"]
) -> Callable[[Function], Function]:
    """Say what becomes of the runs that a run of a workflow has started, when it ends. Put it below `@DBOS.workflow()`.

    | `children` | meaning |
    |---|---|
    | `"go on"` | They go on by themselves, as without this decorator. |
    | `"end with parent"` | When the run ends, whether it returns, fails or is cancelled, those that it has started and that are not finished are cancelled, and so are those that they have started. |

    It happens in the transaction that ends the run, so no crash comes in between. A run that is resumed later finds its children cancelled.

    Raises:
        UsageError: `children` is something else.
    """
    if children not in (_GO_ON, _END):
        raise UsageError(
            f"children={children!r} is not an option of a workflow.",
            hint=f'Give "{_GO_ON}" or "{_END}".',
        )

    def decorated(function: Function) -> Function:
        setattr(inspect.unwrap(function), ENDS_CHILDREN, children == _END)
        return function

    return decorated
