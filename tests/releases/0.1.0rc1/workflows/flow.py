"""What a user of this release may have written."""

from dbos import DBOS

from durable_workflows import ask_human, receive


@DBOS.step()
def multiply(number: int, factor: int) -> int:
    return number * factor


@DBOS.workflow()
def multiplied(number: int) -> int:
    """Multiply a number by what a message says, if a person wants it."""
    factor = receive("factor", schema=int, prompt=f"{number} times what?")
    if ask_human(f"Multiply {number} by {factor}?", schema=bool):
        return multiply(number, factor)
    return 0
