"""Workflows that are rewound. Each step writes a line into the file `done-RUN`."""

import time
from pathlib import Path

from dbos import DBOS

from durable_workflows import idempotency_key, receive, step


def _note(run: str | None, word: str) -> int:
    """Note that a step has run; return how many had before."""
    path = Path(f"done-{run}")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{word}\n")
    return len(path.read_text(encoding="utf-8").splitlines())


@DBOS.step()
def note(word: str) -> int:
    return _note(DBOS.workflow_id, word)


@DBOS.step()
def key() -> str:
    return idempotency_key()


@step(effect="once")
def pay() -> int:
    return _note(DBOS.workflow_id, "paid")


@DBOS.step()
def unless(path: str) -> str:
    if not Path(path).exists():
        raise FileNotFoundError(f"no file {path}")
    return "found"


@DBOS.workflow()
def rewound_steps(path: str) -> list[object]:
    first = note("first")
    DBOS.set_event("at", 1)
    DBOS.write_stream("lines", "one")
    second = note("second")
    DBOS.set_event("at", 2)
    DBOS.set_event("late", True)
    DBOS.write_stream("lines", "two")
    return [first, second, key(), unless(path)]


@DBOS.workflow()
def rewound_approval() -> list[object]:
    note("asked")
    answer = receive("go", prompt="Go?")
    note("answered")
    if answer != "yes":
        raise ValueError("not approved")
    return [answer]


@DBOS.workflow()
def rewound_child(name: str) -> int:
    number = note(name)
    if name == "middle":
        DBOS.start_workflow(rewound_child, "below").get_result()
    return number


@DBOS.workflow()
def rewound_parent() -> list[int]:
    return [
        DBOS.start_workflow(rewound_child, "early").get_result(),
        DBOS.start_workflow(rewound_child, "middle").get_result(),
    ]


@DBOS.workflow()
def rewound_payment() -> int:
    note("begun")
    return pay()


@DBOS.step()
def hold(path: str) -> int:
    """Wait until a file is there; return how many steps had begun before."""
    number = _note(DBOS.workflow_id, "held")
    while not Path(path).exists():
        time.sleep(0.05)
    return number


@DBOS.workflow()
def rewound_hold(path: str) -> int:
    note("begun")
    return hold(path)


@DBOS.workflow()
def rewound_try(path: str) -> list[object]:
    return [note("tried"), unless(path)]


@DBOS.workflow()
def rewound_family(path: str) -> object:
    child = DBOS.start_workflow(rewound_try, path)
    note("between")
    return child.get_result()


@DBOS.step()
def due_at() -> object:
    return "never"


@DBOS.workflow()
def rewound_types(path: str) -> list[str]:
    found = due_at()
    unless(path)
    return [type(found).__name__, str(found)]


@DBOS.workflow()
def rewound_asking_parent() -> object:
    return DBOS.start_workflow(rewound_approval).get_result()
