from dbos import DBOS


@DBOS.workflow()
def capped(budget: float = float("inf"), name: str = "a\0b\ud800") -> float:
    """Stop when the budget is used up.

    Names are split at \0.
    """  # noqa: D301 - a NUL is wanted
    return min(budget, 3.0)
