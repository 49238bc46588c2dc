"""The page's API: its calls by path, with their input and output types.

The server uses these lists, and so does `make docs`, which writes their types.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from durable_workflows.models import (
    Answer,
    Catalog,
    ChangedList,
    Child,
    Compared,
    Delivered,
    Forked,
    InboxItem,
    LogLine,
    Message,
    MovedList,
    Preview,
    Rehearsal,
    Rewound,
    ScheduleInfo,
    ScheduleRequest,
    ScheduleResult,
    Started,
    StartRequest,
    Step,
    Stream,
)
from durable_workflows.web import acting, looking
from durable_workflows.web.shapes import (
    AnswerBody,
    ChangesQuery,
    CompareQuery,
    ForkBody,
    LogQuery,
    MarksShown,
    MoveBody,
    Nothing,
    Project,
    RehearsalQuery,
    RewindBody,
    RunQuery,
    RunsBody,
    RunShown,
    RunsQuery,
    RunsShown,
    ScheduleBody,
    SendBody,
    Source,
    StatusShown,
    StepQuery,
    StepsPage,
    StepsQuery,
    ValueQuery,
)
from durable_workflows.web.site import Site


class Call(NamedTuple):
    """A call: `/api/` and its path, the model of its input, the type of its answer, and the function that answers it."""

    path: str
    takes: Any
    answers: Any
    function: Callable[[Site, Any], Awaitable[Any]]


GETS = (
    Call("project", Nothing, Project, looking.project),
    Call("runs", RunsQuery, RunsShown, looking.runs),
    Call("run", RunQuery, RunShown, looking.run),
    Call("steps", StepsQuery, StepsPage, looking.steps),
    Call("step", StepQuery, Step, looking.step),
    Call("value", ValueQuery, Preview | None, looking.value),
    Call("log", LogQuery, list[LogLine], looking.log),
    Call("messages", RunQuery, list[Message], looking.messages),
    Call("answers", RunQuery, list[Answer], looking.answers),
    Call("tree", RunQuery, list[Child], looking.tree),
    Call("source", RunQuery, Source, looking.source),
    Call("streams", RunQuery, list[Stream], looking.streams),
    Call("compare", CompareQuery, Compared, looking.compare),
    Call("rehearsal", RehearsalQuery, Rehearsal, looking.rehearsal),
    Call("waits", Nothing, list[InboxItem], looking.waits),
    Call("marks", ChangesQuery, MarksShown, looking.marks),
    Call("catalog", Nothing, Catalog, looking.catalog),
    Call("status", Nothing, StatusShown, looking.status),
)
POSTS = (
    Call("start", StartRequest, Started, acting.start),
    Call("fork", ForkBody, Forked, acting.fork),
    Call("rewind", RewindBody, Rewound, acting.rewind),
    Call("move", MoveBody, MovedList, acting.move),
    Call("cancel", RunsBody, ChangedList, acting.cancel),
    Call("resume", RunsBody, ChangedList, acting.resume),
    Call("delete", RunsBody, ChangedList, acting.delete),
    Call("answer", AnswerBody, Delivered, acting.answer),
    Call("send", SendBody, Delivered, acting.send),
    Call("create_schedule", ScheduleRequest, ScheduleResult, acting.create_schedule),
    Call("schedule", ScheduleBody, ScheduleInfo | Started, acting.schedule),
)
