"""What schedules without code start."""

from dbos import DBOS

from durable_workflows import receive


@DBOS.workflow()
def planned_words(word: str, times: int = 1) -> str:
    """Say a word."""
    return " ".join([word] * times)


@DBOS.workflow()
def planned_wait() -> None:
    """Wait, so that this version of the code keeps a worker."""
    receive("go on", prompt="Go on?")
