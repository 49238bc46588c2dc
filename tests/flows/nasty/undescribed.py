from typing import Any

from dbos import DBOS


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no words for it")


@DBOS.workflow()
def undescribed(value: Any = Mute()) -> None:  # noqa: B008
    """Have a default that cannot be described."""
