"""Workflows that say which message came, if one did."""

from dbos import DBOS

from durable_workflows import receive, receive_async


@DBOS.workflow()
def say_message(timeout: float = 600) -> str:
    """Say the message, or that none came."""
    message = receive("go", timeout=timeout, default="nothing came")
    again = receive("go", timeout=timeout, default="nothing came")
    return f"{message!r}, {again!r}"


@DBOS.workflow()
async def say_message_async(seconds: float = 600) -> str:
    """Say the message, or that none came, in an async workflow."""
    return repr(await receive_async("go", timeout=seconds, default=0))


@DBOS.workflow()
def say_text() -> str:
    """Say a text that is asked for."""
    return repr(receive("go", schema=str))


@DBOS.workflow()
def say_numbers() -> str:
    """Say a list of numbers that is asked for."""
    return repr(receive("go", schema=list[int]))
