"""Script in every field that a run can fill: a page shows it as text."""

from dbos import DBOS

from durable_workflows import receive

NAME = "<img src=x onerror=alert(1)>"


@DBOS.step(name=f"{NAME}step")
def attacking_step(text: str) -> str:
    print(text)
    DBOS.logger.warning(text)
    return text


@DBOS.step(name=f"{NAME}fails")
def attacking_failure(text: str) -> str:
    raise ValueError(text)


@DBOS.workflow(name=f"{NAME}workflow")
def attacking(text: str) -> str:
    attacking_step(text)
    DBOS.set_event(text, {text: text})
    DBOS.write_stream(text, text)
    receive(text, prompt=text)
    attacking_failure(text)
    return text
