"""Every error that an agent can cause, with the whole text that it reads: what was wrong, what is allowed, what to do next.

`CASES` is the place where a text is looked up and changed. Two tests hold that it is complete: each class of error that a request may have
is in it, and so is each place in the code that raises one.
"""

import ast
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.client import ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, ElicitRequestParams, ElicitResult, TextContent
from pydantic import JsonValue

from durable_workflows import errors
from durable_workflows.docs import documents
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.errors import (
    AlreadyAnswered,
    CannotAsk,
    DurableWorkflowsError,
    InvalidArguments,
    MessageTooLarge,
    NotInDoubt,
    NotWaiting,
    PeopleOnly,
    ScheduleTaken,
    UnknownSchedule,
    UnknownStep,
    UnknownWorkflow,
    UnknownWorkflowId,
    UsageError,
    WorkflowFinished,
    WorkflowIdTaken,
    WorkflowUnavailable,
    WouldRepeat,
)
from durable_workflows.mcp.server import build_server
from durable_workflows.mcp.tools import TOOLS
from durable_workflows.models import ScheduleRequest, StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import Settings
from helpers import copy_flow, insert_lost_run, processes_of, until_found
from mcp import Client
from nasty import nested
from requirements import long, proves

pytestmark = [pytest.mark.anyio, proves("request:refused")]

Json = dict[str, Any]
Kind = type[UsageError] | None  # None: refused by the protocol's side, before any of our classes
LONGEST = 1500  # characters that an agent should have to read of an error

FLOW = '''from dbos import DBOS


@DBOS.workflow()
def my_flow() -> None:
    """Do nothing."""
'''
BROKEN = "import no_such_library\n\n" + FLOW.replace("my_flow", "broken")
ONCE = '''from dbos import DBOS

from durable_workflows import step


@step(effect="once")
def pay() -> str:
    return "paid"


@DBOS.workflow()
def pays() -> str:
    """Pay, at most once."""
    return pay()
'''
HASTY = '''import asyncio

from dbos import DBOS

from durable_workflows import ask_human


@DBOS.workflow()
def hasty() -> None:
    """Ask a person, and wait for something else if there is no answer soon."""
    ask_human("Quick?", topic="quick", timeout=10)
    DBOS.recv("later", timeout_seconds=600)


@DBOS.workflow()
async def two_waits() -> None:
    """Wait for two messages at once."""
    topics = ("left", "right")
    await asyncio.gather(*[DBOS.recv_async(topic, timeout_seconds=600) for topic in topics])
'''


@dataclass(frozen=True)
class Case:
    """A wrong request, and what comes of it. In the text, names in braces, as `{version}`, stand for what differs."""

    what: str
    kind: Kind
    method: str  # a tool, or a method of the protocol
    arguments: Json
    text: str


CASES = [
    # What the tools themselves refuse, before anything is looked up
    Case(
        "a misspelt argument",
        None,
        "inspect",
        {"workflowid": "ended"},
        "Wrong arguments for inspect: workflow_id is missing; there is no 'workflowid' (did you mean 'workflow_id'?). Nothing was done. workflow_id: The run. Its arguments are workflow_id, step, detail, cursor.",
    ),
    Case(
        "a missing argument",
        None,
        "send_message",
        {"workflow_id": "waits", "topic": "amount"},
        "Wrong arguments for send_message: message is missing. Nothing was done. message: Any JSON value of at most 1 MB, as the workflow expects it. Its arguments are workflow_id, topic, message, idempotency_key.",
    ),
    Case(
        "an argument of a tool that has none",
        None,
        "server_status",
        {"verbose": True},
        "Wrong arguments for server_status: there is no 'verbose'. Nothing was done. It takes no arguments.",
    ),
    Case(
        "a wrong type",
        None,
        "inspect",
        {"workflow_id": "ended", "step": "last"},
        "Wrong arguments for inspect: step: Input should be a valid integer, unable to parse string as an integer. Nothing was done. step: A finished step, to read its whole output or error. 0: those of the run itself. Its arguments are workflow_id, step, detail, cursor.",
    ),
    Case(
        "a wrong choice",
        None,
        "inspect",
        {"workflow_id": "ended", "detail": "code"},
        "Wrong arguments for inspect: detail: Input should be 'summary', 'full', 'tree', 'messages', 'log' or 'source'. Nothing was done. detail: full: more of each step. tree: the runs it started. messages: those sent to it. log: what it printed and logged. source: its code. Its arguments are workflow_id, step, detail, cursor.",
    ),
    Case(
        "a number that is too small",
        None,
        "fork",
        {"workflow_id": "ended", "from_step": 0},
        "Wrong arguments for fork: from_step: Input should be greater than or equal to 1. Nothing was done. from_step: The first step to run again, by its number in inspect. Its arguments are workflow_id, from_step, version, new_workflow_id, args, outputs, repeat, cancel_original, fork_children.",
    ),
    Case(
        "a number that is too large",
        None,
        "list_workflows",
        {"limit": 500},
        "Wrong arguments for list_workflows: limit: Input should be less than or equal to 100. Nothing was done. limit: Runs per page. Its arguments are status, name, waiting, since, roots, parent, version, started_by, text, oldest_first, limit, cursor.",
    ),
    Case(
        "a status that there is not",
        None,
        "list_workflows",
        {"status": "FAILED"},
        "Wrong arguments for list_workflows: status: Input should be 'PENDING', 'ENQUEUED', 'DELAYED', 'SUCCESS', 'ERROR', 'CANCELLED' or 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'. Nothing was done. status: Only runs with this status. Its arguments are status, name, waiting, since, roots, parent, version, started_by, text, oldest_first, limit, cursor.",
    ),
    Case(
        "a time in words",
        None,
        "list_workflows",
        {"since": "yesterday"},
        "Wrong arguments for list_workflows: since: Input should be a valid datetime or date, input is too short. Nothing was done. since: Only runs created since this ISO 8601 time (default UTC). Its arguments are status, name, waiting, since, roots, parent, version, started_by, text, oldest_first, limit, cursor.",
    ),
    Case(
        "a flag in words",
        None,
        "cancel",
        {"workflow_ids": ["waits"], "children": "some"},
        "Wrong arguments for cancel: children: Input should be a valid boolean, unable to interpret input. Nothing was done. children: Also the runs that these started, and theirs. Its arguments are workflow_ids, children.",
    ),
    Case(
        "a wait that is too long",
        None,
        "wait_for_workflows",
        {"workflow_ids": ["ended"], "timeout_seconds": 99999},
        "Wrong arguments for wait_for_workflows: timeout_seconds: Input should be less than or equal to 3600. Nothing was done. timeout_seconds: Return after this long. Many clients cut calls at 60 s. Its arguments are workflow_ids, until, timeout_seconds.",
    ),
    Case(
        "an id where a list of ids belongs",
        None,
        "resume",
        {"workflow_ids": "ended"},
        "Wrong arguments for resume: workflow_ids: Input should be a valid list. Nothing was done. workflow_ids: The workflow_ids of runs. Its arguments are workflow_ids, children.",
    ),
    Case(
        "an empty list of ids",
        None,
        "cancel",
        {"workflow_ids": []},
        "Wrong arguments for cancel: workflow_ids: List should have at least 1 item after validation, not 0. Nothing was done. workflow_ids: The workflow_ids of runs. Its arguments are workflow_ids, children.",
    ),
    Case(
        "an empty id",
        None,
        "answer_in_person",
        {"workflow_id": ""},
        "Wrong arguments for answer_in_person: workflow_id: String should have at least 1 character. Nothing was done. workflow_id: The run. Its arguments are workflow_id, topic.",
    ),
    Case(
        "an empty query",
        None,
        "search_docs",
        {"query": ""},
        "Wrong arguments for search_docs: query: String should have at least 1 character. Nothing was done. query: Words, a question, an error's text, or a name. Its arguments are query.",
    ),
    Case(
        "a query that is no text",
        None,
        "workflow_catalog",
        {"query": 3},
        "Wrong arguments for workflow_catalog: query: Input should be a valid string. Nothing was done. query: A name, or part of a name or summary. A whole name brings its whole args_schema. Default: all. Its arguments are query.",
    ),
    Case(
        "a text that is too long",
        None,
        "write_workflow",
        {"name": "x" * 300, "template": "basic_workflow"},
        "Wrong arguments for write_workflow: name: String should have at most 256 characters. Nothing was done. name: The file is NAME.py; with a template also the workflow's name. Its arguments are name, source, template, overwrite.",
    ),
    Case(
        "arguments that are no object",
        None,
        "start_workflow",
        {"name": "line_counts", "args": ["a.txt"]},
        'Wrong arguments for start_workflow: args: Input should be a valid dictionary. Nothing was done. args: The arguments by name, as args_schema says: {"path": "src"}. Its arguments are name, args, batch, workflow_id, queue, delay_seconds, timeout_seconds, priority, wait_seconds.',
    ),
    Case(
        "mistakes in a batch",
        None,
        "start_workflow",
        {"batch": [{"name": "noisy"}, {"nam": "noisy"}]},
        'Wrong arguments for start_workflow: batch.1.name is missing; there is no \'batch.1.nam\'. Put the workflow\'s name in `name`, and its arguments in `args`. Nothing was done. batch: Several starts, answered in their order: [{"name": …, "args": {…}}, …]. Its arguments are name, args, batch, workflow_id, queue, delay_seconds, timeout_seconds, priority, wait_seconds.',
    ),
    Case(
        "a tool that there is not",
        None,
        "start_workflows",
        {},
        "There is no tool 'start_workflows'. Use one of workflow_catalog, start_workflow, list_workflows, wait_for_workflows, inspect, compare, send_message, resolve_step, fork, fork_failed, rewind, move_to_version, schedule, cancel, resume, delete_workflows, answer_in_person, write_workflow, search_docs, server_status.",
    ),
    # Starting
    Case(
        "a start of nothing",
        InvalidArguments,
        "start_workflow",
        {"args": {"paths": []}},
        'Neither name nor batch was given. Nothing was started. Pass {"name": "…", "args": {…}} or {"batch": [{"name": "…", "args": {…}}]}.',
    ),
    Case(
        "a start of one and of a batch",
        InvalidArguments,
        "start_workflow",
        {"name": "noisy", "queue": "workflows", "batch": [{"name": "noisy"}]},
        'With batch, name, queue must be given in its items. Nothing was started. Pass {"name": "…", "args": {…}} or {"batch": [{"name": "…", "args": {…}}]}.',
    ),
    Case(
        "a workflow that there is not",
        UnknownWorkflow,
        "start_workflow",
        {"name": "line_count"},
        "There is no workflow 'line_count'. Did you mean 'line_counts'? Call workflow_catalog to see the registered names.",
    ),
    Case(
        "a workflow that there is not in a batch",
        UnknownWorkflow,
        "start_workflow",
        {"batch": [{"name": "noisy"}, {"name": "nosy"}]},
        "batch[1]: There is no workflow 'nosy'. Did you mean 'noisy'? Call workflow_catalog to see the registered names. Nothing of the batch was started.",
    ),
    Case(
        "a workflow whose file does not load",
        WorkflowUnavailable,
        "start_workflow",
        {"name": "broken"},
        "broken cannot be started: its file workflows/broken.py does not load:\nTraceback (most recent call last):\n  File \"{project}/.dbos/code/{version}/workflows/broken.py\", line 1, in <module>\n    import no_such_library\nModuleNotFoundError: No module named 'no_such_library'\nRepair the file, then call again; the new version is picked up automatically.",
    ),
    Case(
        "a missing argument of a workflow",
        InvalidArguments,
        "start_workflow",
        {"name": "line_counts"},
        'The arguments of line_counts are wrong: \'paths\' is a required property. Nothing was started. Pass arguments like this: {"paths": ["…"]}',
    ),
    Case(
        "a misspelt argument of a workflow",
        InvalidArguments,
        "start_workflow",
        {"name": "line_counts", "args": {"path": ["a.txt"]}},
        "The arguments of line_counts are wrong: 'paths' is a required property; 'path' is not an argument (did you mean 'paths'?). Nothing was started. Pass arguments like this: {\"paths\": [\"…\"]}",
    ),
    Case(
        "a wrong argument of a workflow",
        InvalidArguments,
        "start_workflow",
        {"name": "line_counts", "args": {"paths": ["a.txt", 3]}},
        'The arguments of line_counts are wrong: paths[1]: 3 is not of type \'string\'. Nothing was started. Pass arguments like this: {"paths": ["…"]}',
    ),
    Case(
        "a wrong argument that may be left out",
        InvalidArguments,
        "start_workflow",
        {"name": "wait_for_amount", "args": {"timeout": "soon"}},
        "The arguments of wait_for_amount are wrong: timeout: 'soon' is not of type 'number' or 'null'. Nothing was started. Pass arguments like this: {\"timeout\": 1.5}",
    ),
    Case(
        "a wrong argument that is a book",
        InvalidArguments,
        "start_workflow",
        {"name": "line_counts", "args": {"paths": "x" * 100_000}},
        "The arguments of line_counts are wrong: paths: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx … xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' is not of type 'array'. Nothing was started. Pass arguments like this: {\"paths\": [\"…\"]}",
    ),
    Case(
        "an argument of a workflow that has none",
        InvalidArguments,
        "start_workflow",
        {"name": "noisy", "args": {"loud": True}},
        "The arguments of noisy are wrong: 'loud' is not an argument. Nothing was started. Pass no arguments.",
    ),
    Case(
        "a part of an argument is missing",
        InvalidArguments,
        "start_workflow",
        {"name": "run_commands", "args": {"commands": [{"name": "build"}]}},
        'The arguments of run_commands are wrong: commands[0]: \'run\' is a required property. Nothing was started. Pass arguments like this: {"commands": [{"name": "…", "run": "…"}]}',
    ),
    Case(
        "arguments that are too large",
        MessageTooLarge,
        "start_workflow",
        {"name": "fails", "args": {"message": "x" * 1_000_000}},
        "The arguments would take 1,000,015 bytes; the limit is 1,000,000. Write the data to a file in the project and pass its path instead.",
    ),
    Case(
        "arguments that are too deep",
        InvalidArguments,
        "start_workflow",
        {"name": "fails", "args": {"message": nested(210)}},
        "The arguments would be nested more than 200 levels deep. Pass a flatter value, or its JSON as a string.",
    ),
    Case(
        "a message with a number that is too long",
        InvalidArguments,
        "send_message",
        {"workflow_id": "waits", "topic": "amount", "message": 10**5000},
        "The message cannot be recorded: Exceeds the limit (4300 digits) for integer string conversion; use sys.set_int_max_str_digits() to increase the limit. Pass long numbers as strings.",
    ),
    Case(
        "an empty workflow_id",
        InvalidArguments,
        "start_workflow",
        {"name": "noisy", "workflow_id": " "},
        'workflow_id must have 1 to 256 characters: not only spaces, and no NUL or lone surrogate. Nothing was started. Pass for example {"workflow_id": "report-2026-11-23"}, or omit workflow_id.',
    ),
    Case(
        "a workflow_id of another workflow",
        WorkflowIdTaken,
        "start_workflow",
        {"name": "retries", "workflow_id": "ended"},
        "'ended' is the id of a run of noisy, not of retries. Choose another workflow_id, or omit it to get a generated one.",
    ),
    Case(
        "a workflow_id of another workflow in a batch",
        WorkflowIdTaken,
        "start_workflow",
        {"batch": [{"name": "noisy"}, {"name": "retries", "workflow_id": "ended"}]},
        "batch[1]: 'ended' is the id of a run of noisy, not of retries. Choose another workflow_id, or omit it to get a generated one. Nothing of the batch was started.",
    ),
    Case(
        "a queue that there is not",
        InvalidArguments,
        "start_workflow",
        {"name": "noisy", "queue": "workflow"},
        "There is no queue 'workflow'. Did you mean 'workflows'? Nothing was started. Use one of workflows, omit `queue` to use 'workflows', or register another one in a workflow.",
    ),
    Case(
        "a delay into the past",
        InvalidArguments,
        "start_workflow",
        {"name": "noisy", "delay_seconds": -1},
        'delay_seconds is -1; it must be greater than 0 and at most 3153600000. Nothing was started. Pass for example {"delay_seconds": 60}, or omit delay_seconds.',
    ),
    Case(
        "a timeout beyond all times",
        InvalidArguments,
        "start_workflow",
        {"name": "noisy", "timeout_seconds": 1e30},
        'timeout_seconds is 1e+30; it must be greater than 0 and at most 3153600000. Nothing was started. Pass for example {"timeout_seconds": 60}, or omit timeout_seconds.',
    ),
    Case(
        "a priority before the first",
        InvalidArguments,
        "start_workflow",
        {"name": "noisy", "priority": 0},
        'priority is 0; it must be from 1 (first) to 2147483647. Nothing was started. Pass for example {"priority": 1}, or omit priority.',
    ),
    # Looking
    Case(
        "a run that there is not, to be inspected",
        UnknownWorkflowId,
        "inspect",
        {"workflow_id": "ended-run"},
        "There is no run 'ended-run'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a run that there is not, to be compared",
        UnknownWorkflowId,
        "compare",
        {"workflow_id": "ended", "other": "endet"},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a run that is like none, to be inspected",
        UnknownWorkflowId,
        "inspect",
        {"workflow_id": "4711"},
        "There is no run '4711'. Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a run that there is not, to be waited for",
        UnknownWorkflowId,
        "wait_for_workflows",
        {"workflow_ids": ["waits", "endet"]},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a workflow_id with what no text can have",
        InvalidArguments,
        "inspect",
        {"workflow_id": "en\0ded"},
        "The database rejected this: PostgreSQL text fields cannot contain NUL (0x00) bytes. Nothing was done. Correct that argument and call again.",
    ),
    Case(
        "a name with what no text can have",
        InvalidArguments,
        "start_workflow",
        {"name": "noi\0sy"},
        "name contains a NUL or a lone surrogate, which cannot be stored. Nothing was done. Give another name.",
    ),
    Case(
        "a step that has not finished",
        UnknownStep,
        "inspect",
        {"workflow_id": "failed", "step": 9},
        "failed has no finished step 9: its last one is 2. Call inspect to see the run's steps and their numbers.",
    ),
    Case(
        "a step that waits",
        UnknownStep,
        "inspect",
        {"workflow_id": "waits", "step": 1},
        "Step 1 of waits has not finished: it waits on 'amount'. Call inspect to see the run's steps and their numbers.",
    ),
    Case(
        "a step of a run without one",
        UnknownStep,
        "inspect",
        {"workflow_id": "ended", "step": 1},
        "ended has no finished step 1: none has finished. Call inspect to see the run's steps and their numbers.",
    ),
    Case(
        "a cursor of one's own for a run",
        InvalidArguments,
        "inspect",
        {"workflow_id": "ended", "cursor": "page 2"},
        "'page 2' is not a cursor of this page. Copy the cursor from the previous page, or omit it for the first page.",
    ),
    Case(
        "a cursor of one's own for the list",
        InvalidArguments,
        "list_workflows",
        {"cursor": "page 2"},
        "'page 2' is not a cursor. Pass the next_cursor of the previous page, or omit it for the first page.",
    ),
    Case(
        "a cursor of a list in the other order",
        InvalidArguments,
        "list_workflows",
        {"cursor": "WzEsICJlbmRlZCIsICJvbGRlc3QgZmlyc3QiXQ=="},
        "This cursor is of a list that begins with the oldest runs. Pass it with oldest_first, as for the previous page, or omit it for the first page.",
    ),
    Case(
        "roots that somebody started",
        InvalidArguments,
        "list_workflows",
        {"roots": True, "parent": "ended"},
        "roots and parent were given: no run started the roots. Pass one of them: roots for runs that no other run started, or parent for those that one run started.",
    ),
    Case(
        "the source of a workflow that its version does not have",
        UsageError,
        "inspect",
        {"workflow_id": "lost", "detail": "source"},
        "Version {version} of the code has no workflow 'removed', or is not stored here. Call inspect without detail to see what the run did, or workflow_catalog for the current workflows.",
    ),
    # Sending, forking, stopping
    Case(
        "a message to a run that there is not",
        UnknownWorkflowId,
        "send_message",
        {"workflow_id": "wait", "topic": "amount", "message": 1},
        "There is no run 'wait'. Did you mean 'waits'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a topic with what no text can have",
        InvalidArguments,
        "send_message",
        {"workflow_id": "waits", "topic": "to\0pic", "message": 1},
        "topic contains a NUL or a lone surrogate, which cannot be stored. Nothing was done. Give another topic.",
    ),
    Case(
        "a message to a run that has ended",
        WorkflowFinished,
        "send_message",
        {"workflow_id": "ended", "topic": "amount", "message": 1},
        'ended has ended with status SUCCESS. inspect(workflow_id="ended", detail="messages") shows which step received a message on which topic; then fork(workflow_id="ended", from_step=N) from that step, and send the message to the fork. If no step received one, start a new run. Nothing was sent.',
    ),
    Case(
        "a message for a person's topic",
        PeopleOnly,
        "send_message",
        {"workflow_id": "asks", "topic": "person:order", "message": {"amount": 1}},
        "The topic 'person:order' accepts answers from people only. Call answer_in_person so that the person at this client can answer, or have them run `durable-workflows approve` in a terminal.",
    ),
    Case(
        "a message that does not fit",
        InvalidArguments,
        "send_message",
        {"workflow_id": "waits", "topic": "amount", "message": {"value": "three"}},
        'The message for \'amount\' does not fit: value: \'three\' is not of type \'integer\'. Nothing was sent; the run keeps waiting. Send a message like this: {"value": 1}, which fits the schema {"properties": {"value": {"title": "Value", "type": "integer"}, "unit": {"default": "kg", "enum": ["kg", "t"], "title": "Unit", "type": "string"}}, "required": ["value"], "title": "Amount", "type": "object"}.',
    ),
    Case(
        "a message that is too large",
        MessageTooLarge,
        "send_message",
        {"workflow_id": "waits", "topic": "amount", "message": "x" * 1_000_000},
        "The message would take 1,000,002 bytes; the limit is 1,000,000. Write the data to a file in the project and pass its path instead.",
    ),
    Case(
        "a message about a step in doubt",
        UsageError,
        "send_message",
        {"workflow_id": "waits", "topic": "doubt:2", "message": {"happened": True}},
        'No message resolves a doubt about step 2. Call resolve_step(workflow_id="waits", step=2, happened=…).',
    ),
    Case(
        "what happened of a step that is not in doubt",
        NotInDoubt,
        "resolve_step",
        {"workflow_id": "paid", "step": 1, "happened": True},
        "Step 1 of paid is not in doubt. Call inspect to see the run's steps, and which of them is in doubt. A step is in doubt once its run has gone on after the end of a process and has come to it again.",
    ),
    Case(
        "the result of a step that has not happened",
        InvalidArguments,
        "resolve_step",
        {"workflow_id": "paid", "step": 1, "happened": False, "result": 1},
        "A step that has not happened has no result. Leave `result` out, or say that it has happened.",
    ),
    Case(
        "a fork that would do again what must not happen twice",
        WouldRepeat,
        "fork",
        {"workflow_id": "paid", "from_step": 1},
        'A fork of paid from step 1 would repeat what must not happen twice: step 1 pay, which has happened. Nothing was done. Fork from a later step; or, if it shall happen again, fork(workflow_id="paid", from_step=1, repeat=[1]).',
    ),
    Case(
        "a fork with the id of another run",
        WorkflowIdTaken,
        "fork",
        {"workflow_id": "failed", "from_step": 1, "new_workflow_id": "ended"},
        "'ended' is the id of another run. Nothing was done. Choose another workflow_id, or omit it to get a generated one.",
    ),
    Case(
        "a fork with an output of a step that it does not take over",
        UnknownStep,
        "fork",
        {"workflow_id": "failed", "from_step": 2, "outputs": {"2": 1}},
        "failed has no finished step 2 before step 2: it has no output that could be replaced. Nothing was done. Give outputs of finished steps before from_step, by their numbers in inspect.",
    ),
    Case(
        "a fork from a step that there is not",
        UnknownStep,
        "fork",
        {"workflow_id": "failed", "from_step": 9},
        "failed has no step 9: give one from 1 to 3. Call inspect to see the run's steps and their numbers.",
    ),
    Case(
        "a fork of a run that there is not",
        UnknownWorkflowId,
        "fork",
        {"workflow_id": "failes", "from_step": 1},
        "There is no run 'failes'. Did you mean 'failed'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a fork of a workflow that is gone",
        UnknownWorkflow,
        "fork",
        {"workflow_id": "lost", "from_step": 1},
        "There is no workflow 'removed'. Call workflow_catalog to see the registered names.",
    ),
    Case(
        "forks of runs of which there is one not",
        UnknownWorkflowId,
        "fork_failed",
        {"workflow_ids": ["failed", "endet"]},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a rewind that would do again what must not happen twice",
        WouldRepeat,
        "rewind",
        {"workflow_id": "paid", "to_step": 1},
        'A rewind of paid to step 1 would repeat what must not happen twice: step 1 pay, which has happened. Nothing was done. Rewind to a later step; or, if it shall happen again, rewind(workflow_id="paid", to_step=1, repeat=[1]).',
    ),
    Case(
        "a rewind to a step that there is not",
        UnknownStep,
        "rewind",
        {"workflow_id": "failed", "to_step": 9},
        "failed has no step 9: give one from 1 to 3. Call inspect to see the run's steps and their numbers.",
    ),
    Case(
        "a move of neither runs nor a filter",
        InvalidArguments,
        "move_to_version",
        {},
        'Give either workflow_ids or filter. Nothing was done. Pass {"workflow_ids": ["…"]} for some runs, {"filter": {"name": "…"}} for those of one workflow, or {"filter": {}} for all unfinished runs.',
    ),
    Case(
        "a move to a version that there is not",
        InvalidArguments,
        "move_to_version",
        {"filter": {}, "version": "nowhere"},
        "There is no version 'nowhere' of the code that a worker has loaded. Nothing was done. Omit version for the newest, or pass one that inspect or server_status shows.",
    ),
    Case(
        "a cancel of a run that there is not",
        UnknownWorkflowId,
        "cancel",
        {"workflow_ids": ["waits", "endet"]},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a resume of a run that there is not",
        UnknownWorkflowId,
        "resume",
        {"workflow_ids": ["endet"]},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a deletion of a run that there is not",
        UnknownWorkflowId,
        "delete_workflows",
        {"workflow_ids": ["endet"]},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    # Schedules
    Case(
        "an action that there is not",
        None,
        "schedule",
        {"action": "stop"},
        "Wrong arguments for schedule: action: Input should be 'create', 'list', 'pause', 'resume', 'run' or 'delete'. Nothing was done. action: What to do. Its arguments are action, name, workflow, cron, args, timezone, missed, queue, priority, replace.",
    ),
    Case(
        "a schedule that there is not",
        UnknownSchedule,
        "schedule",
        {"action": "pause", "name": "nightli"},
        "There is no schedule 'nightli'. Did you mean 'nightly'? Call schedule to see the schedules.",
    ),
    Case(
        "an action on no schedule",
        InvalidArguments,
        "schedule",
        {"action": "delete"},
        "The action delete needs the name of a schedule. Nothing was done. Give `name`. Call schedule to see the schedules.",
    ),
    Case(
        "what is only for a new schedule",
        InvalidArguments,
        "schedule",
        {"action": "run", "name": "nightly", "cron": "* * * * *"},
        "cron: only for the action create. Nothing was done. Omit that, or use the action create.",
    ),
    Case(
        "a schedule of nothing",
        InvalidArguments,
        "schedule",
        {"action": "create", "name": "another"},
        'The action create needs workflow and cron. Nothing was done. Pass the workflow\'s name in `workflow`, and in `cron` when it starts, such as "0 3 * * *".',
    ),
    Case(
        "a schedule without a name",
        InvalidArguments,
        "schedule",
        {"action": "create", "name": " ", "workflow": "noisy", "cron": "0 3 * * *"},
        "The name of a schedule must have 1 to 100 characters, and not only spaces. Nothing was done. Choose a name that tells what it does, such as nightly-report.",
    ),
    Case(
        "a wrong field of a cron expression",
        InvalidArguments,
        "schedule",
        {"action": "create", "name": "another", "workflow": "noisy", "cron": "0 25 * * *"},
        "Field 2 of the cron expression '0 25 * * *', the hour, is wrong: '25'. Nothing was done. Pass a cron expression of five fields, such as \"0 3 * * *\" (each day at 3:00), or of six, the first of which is for seconds.",
    ),
    Case(
        "a cron expression that is none",
        InvalidArguments,
        "schedule",
        {"action": "create", "name": "another", "workflow": "noisy", "cron": "every day"},
        "The cron expression 'every day' has 2 fields. Nothing was done. Pass a cron expression of five fields, such as \"0 3 * * *\" (each day at 3:00), or of six, the first of which is for seconds.",
    ),
    Case(
        "a day that there is not",
        InvalidArguments,
        "schedule",
        {"action": "create", "name": "another", "workflow": "noisy", "cron": "0 0 31 2 *"},
        "No time fits the cron expression '0 0 31 2 *'. Nothing was done. Pass a cron expression of five fields, such as \"0 3 * * *\" (each day at 3:00), or of six, the first of which is for seconds.",
    ),
    Case(
        "a time zone that there is not",
        InvalidArguments,
        "schedule",
        {
            "action": "create",
            "name": "another",
            "workflow": "noisy",
            "cron": "0 3 * * *",
            "timezone": "Europe/Berln",
        },
        "There is no time zone 'Europe/Berln'. Did you mean 'Europe/Berlin' or 'Europe/Belfast' or 'Europe/Helsinki'? Nothing was done. Pass the name of an IANA time zone, such as \"Europe/Berlin\", or \"UTC\".",
    ),
    Case(
        "a schedule of a workflow that there is not",
        UnknownWorkflow,
        "schedule",
        {"action": "create", "name": "another", "workflow": "nosy", "cron": "0 3 * * *"},
        "There is no workflow 'nosy'. Did you mean 'noisy'? Call workflow_catalog to see the registered names.",
    ),
    Case(
        "a schedule with long arguments",
        InvalidArguments,
        "schedule",
        {
            "action": "create",
            "name": "another",
            "workflow": "line_counts",
            "cron": "0 3 * * *",
            "args": {"paths": ["x" * 10_000]},
        },
        "The arguments of a schedule may have 10,000 characters of JSON at most. Nothing was done. Write the data to a file in the project and pass its path instead.",
    ),
    Case(
        "another schedule of a name",
        ScheduleTaken,
        "schedule",
        {"action": "create", "name": "nightly", "workflow": "noisy", "cron": "0 3 * * *"},
        'There is already a schedule \'nightly\': its cron is "0 0 1 1 *", not "0 3 * * *". Nothing was done. Choose another name, or pass `replace` to change that schedule.',
    ),
    # Asking the person
    Case(
        "a client that cannot ask",
        CannotAsk,
        "answer_in_person",
        {"workflow_id": "asks"},
        "This client cannot ask the person: A question from the workflow run asks (topic 'person:order', since {time}):\n\n> What shall be ordered?\nShow this to the person, who can answer in a terminal: durable-workflows approve asks --topic person:order --project {project}\nThe resource durable://workflows/asks/trace shows the run.",
    ),
    Case(
        "a question to a run that waits for something else",
        NotWaiting,
        "answer_in_person",
        {"workflow_id": "asks", "topic": "person:orders"},
        "asks does not wait for 'person:orders'; it waits for 'person:order'. Call inspect to see what the run does now.",
    ),
    Case(
        "a question to a run that has ended",
        NotWaiting,
        "answer_in_person",
        {"workflow_id": "ended"},
        "ended asks nothing now: it is not waiting for a message. Call inspect to see what the run does now.",
    ),
    Case(
        "a question to a run that waits for two things",
        InvalidArguments,
        "answer_in_person",
        {"workflow_id": "both"},
        "both waits for several things: 'left', 'right'. No one was asked. Give one of them as topic.",
    ),
    Case(
        "a question to a run that there is not",
        UnknownWorkflowId,
        "answer_in_person",
        {"workflow_id": "ask"},
        "There is no run 'ask'. Did you mean 'asks'? Call list_workflows to see the runs of this project.",
    ),
    # Writing
    Case(
        "neither source nor template",
        InvalidArguments,
        "write_workflow",
        {"name": "my_flow"},
        'Give either source or template: neither is given. Nothing was written. Give {"name": "my_flow", "source": "…"} or {"name": "my_flow", "template": "basic_workflow"}.',
    ),
    Case(
        "source and template",
        InvalidArguments,
        "write_workflow",
        {"name": "my_flow", "source": FLOW, "template": "basic_workflow"},
        'Give either source or template: both are given. Nothing was written. Give {"name": "my_flow", "source": "…"} or {"name": "my_flow", "template": "basic_workflow"}.',
    ),
    Case(
        "a file that is there",
        UsageError,
        "write_workflow",
        {"name": "odd", "source": FLOW},
        "workflows/odd.py already exists. Nothing was written. Choose another name, or pass overwrite=true to replace the file.",
    ),
    Case(
        "a template that there is not",
        UsageError,
        "write_workflow",
        {"name": "my_flow", "template": "basic_workflo"},
        "There is no template 'basic_workflo'. Did you mean 'basic_workflow' or 'agent_workflow'? Use one of {templates}.",
    ),
    Case(
        "a template under a name that it uses itself",
        UsageError,
        "write_workflow",
        {"name": "Source", "template": "basic_workflow"},
        "The template basic_workflow uses the name 'Source' itself. Choose another name.",
    ),
    Case(
        "a template under the name of a workflow",
        UsageError,
        "write_workflow",
        {"name": "noisy", "template": "basic_workflow"},
        "The name 'noisy' is taken by a workflow in workflows/odd.py. Choose another name. Nothing was written.",
    ),
    Case(
        "a template under the name of a bundled workflow",
        UsageError,
        "write_workflow",
        {"name": "run_commands", "template": "basic_workflow"},
        "The name 'run_commands' is taken by a bundled workflow. Choose another name. Nothing was written.",
    ),
    Case(
        "a name that is a folder",
        UsageError,
        "write_workflow",
        {"name": "library", "source": FLOW},
        "The name 'library' is taken by the folder workflows/library. Choose another name. Nothing was written.",
    ),
    Case(
        "a name outside of the folder",
        UsageError,
        "write_workflow",
        {"name": "../my_flow", "source": FLOW},
        "'../my_flow' cannot be the name of a workflow file. Choose a name like nightly_report: letters, digits and underscores. Nothing was written.",
    ),
    Case(
        "a name that is a word of Python",
        UsageError,
        "write_workflow",
        {"name": "class", "source": FLOW},
        "'class' already has a meaning in Python. Choose a name like nightly_report: letters, digits and underscores. Nothing was written.",
    ),
    Case(
        "a name that is a module",
        UsageError,
        "write_workflow",
        {"name": "json", "source": FLOW},
        "'json' is the name of a Python module; imports would find that module instead. Choose a name like nightly_report: letters, digits and underscores. Nothing was written.",
    ),
    Case(
        "a text that is not Python",
        InvalidArguments,
        "write_workflow",
        {"name": "my_flow", "source": "def my_flow(:\n"},
        "This workflow file cannot be loaded:\nworkflows/my_flow.py:1:13: syntax: this is not valid Python: invalid syntax. Correct it; the rest of the file is checked then.\nCorrect the source and call again. Nothing was written.",
    ),
    Case(
        "a text without a workflow",
        InvalidArguments,
        "write_workflow",
        {"name": "my_flow", "source": "print(1)\n"},
        "This workflow file cannot be loaded:\nworkflows/my_flow.py:1:1: no-workflow: the file defines no workflow: there is nothing to start. To define one, write `from dbos import DBOS`, and `@DBOS.workflow()` above the function to start.\nCorrect the source and call again. Nothing was written.",
    ),
    Case(
        "a workflow of a name that is taken",
        InvalidArguments,
        "write_workflow",
        {"name": "my_flow", "source": FLOW.replace("my_flow", "noisy")},
        "This workflow file cannot be loaded:\nworkflows/my_flow.py:5:1: name-taken: the name 'noisy' is also declared in workflows/odd.py, and only one of the files is loaded. Rename one of them: `@DBOS.workflow(name=\"…\")`.\nCorrect the source and call again. Nothing was written.",
    ),
    Case(
        "a decorator without parentheses",
        InvalidArguments,
        "write_workflow",
        {"name": "my_flow", "source": FLOW.replace("workflow()", "workflow")},
        "This workflow file cannot be loaded:\nworkflows/my_flow.py:4:2: no-parentheses: `@DBOS.workflow` above my_flow has no parentheses, so the file does not load. Write `@DBOS.workflow()`.\nCorrect the source and call again. Nothing was written.",
    ),
    # Resources, prompts
    Case(
        "a trace of a run that there is not",
        UnknownWorkflowId,
        "resources/read",
        {"uri": "durable://workflows/endet/trace"},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
    Case(
        "a page of a cursor of one's own",
        InvalidArguments,
        "resources/read",
        {"uri": "durable://workflows?cursor=2"},
        "'2' is not a cursor. Pass the next_cursor of the previous page, or omit it for the first page.",
    ),
    Case(
        "a template to read that there is not",
        None,
        "resources/read",
        {"uri": "durable://templates/basic"},
        "There is no template 'basic'. Use one of {templates}.",
    ),
    Case(
        "a reference that there is not",
        None,
        "resources/read",
        {"uri": "durable://references/recover"},
        "There is no reference 'recover'. Did you mean 'recovery'? Use one of {references}.",
    ),
    Case(
        "a resource that there is not",
        None,
        "resources/read",
        {"uri": "durable://workflows/ended"},
        "Unknown resource: durable://workflows/ended. Use one of durable://workflows{?cursor}, durable://workflows/{workflow_id}/trace, durable://workflows/{workflow_id}/trace.json, durable://templates/{name}, durable://references/{name}.",
    ),
    Case(
        "a page of the list of one's own",
        InvalidArguments,
        "resources/list",
        {"cursor": "2"},
        "'2' is not a cursor of this list. Pass the nextCursor of the previous page, or omit it for the first page.",
    ),
    Case(
        "a prompt that there is not",
        InvalidArguments,
        "prompts/get",
        {"name": "debug"},
        "There is no prompt 'debug'. Use one of orchestrate, new_workflow, debug_workflow.",
    ),
    Case(
        "a prompt without its argument",
        InvalidArguments,
        "prompts/get",
        {"name": "debug_workflow"},
        "Wrong arguments for debug_workflow: workflow_id is missing. Use its arguments: workflow_id.",
    ),
    Case(
        "a prompt with an argument too many",
        InvalidArguments,
        "prompts/get",
        {"name": "orchestrate", "arguments": {"goal": "x", "budget": "1"}},
        "Wrong arguments for orchestrate: there is no 'budget'. Use its arguments: goal, workflow.",
    ),
    Case(
        "a prompt with an argument that is too long",
        InvalidArguments,
        "prompts/get",
        {"name": "orchestrate", "arguments": {"goal": "x" * 30_000}},
        "Wrong arguments for orchestrate: goal is longer than 20,000 characters. Use its arguments: goal, workflow.",
    ),
    Case(
        "a prompt for a run that there is not",
        UnknownWorkflowId,
        "prompts/get",
        {"name": "debug_workflow", "arguments": {"workflow_id": "endet"}},
        "There is no run 'endet'. Did you mean 'ended'? Call list_workflows to see the runs of this project.",
    ),
]
NOT_CAUSED_BY_AGENTS: dict[type[UsageError], str] = {
    errors.NameTaken: "two files register the same name; told in the catalog: test_names.py",
    errors.StillRunning: "of a run that is under way: test_rewinds.py",
    errors.ExportDamaged: "no tool imports runs: test_carrying.py",
    errors.BackupDamaged: "no tool restores backups: test_backups.py",
    errors.BackupTooNew: "no tool restores backups: test_backups.py",
    errors.InvalidProject: "the project is the one of the server: test_surface.py",
}
ELSEWHERE: dict[str, str] = {
    "cli/": "the command line",
    "processes/moving.py": "the command line",
    "processes/returning.py": "the command line",
    "processes/targets.py": "the command line",
    "processes/backing_up.py": "the command line",
    "processes/restoring.py": "the command line",
    "system/backups.py": "the command line",
    "database/run_files.py": "the command line",
    "engine/carrying.py": "the command line",
    "system/archives.py": "the command line",
    "processes/lifecycle.py": "the command line",
    "mcp/serving_http.py": "the command line",
    "system/state.py": "the project is the one of the server: test_surface.py",
    "authoring/acts.py": "raised in workflow code, whose errors are recorded with its run",
    "authoring/effects.py": "raised in workflow code, whose errors are recorded with its run",
    "authoring/many.py": "raised in workflow code, whose errors are recorded with its run",
    "authoring/naming.py": "raised in workflow code, whose errors are recorded with its run",
    "authoring/options.py": "raised at import, as a part of the error of a file",
    "authoring/timeouts.py": "raised at import, as a part of the error of a file",
    "authoring/polling.py": "raised in workflow code, whose errors are recorded with its run",
    "authoring/retrying.py": "raised in workflow code, whose errors are recorded with its run",
    "authoring/transactions.py": "raised in workflow code, whose errors are recorded with its run",
    "seam/dbos_calls.py": "raised in workflow code, whose errors are recorded with its run",
    "seam/offers.py": "raised in workflow code, whose errors are recorded with its run",
    "seam/datasources.py": "raised in workflow code, whose errors are recorded with its run",
    "seam/patches/transactions.py": "raised in workflow code, whose errors are recorded with its run",
    "authoring/waiting.py": "raised in workflow code, whose errors are recorded with its run",
}
UNCAUSED: dict[str, str] = {
    "A worker has …. Nothing was done.": "of a run that is under way: test_rewinds.py",
    "…, which … has started, has not ended. Nothing was done.": "of a run with children: test_rewinds.py",
    "… of … still runs. Nothing was done.": "of a step that runs: test_rewinds.py",
    "Only a person may say whether step … has happened.": "of a step in doubt: test_effects.py",
    "It was already said whether step … has happened.": "of a step in doubt: test_effects.py",
    "Workflow code made the schedule …. Nothing was done.": "of a schedule of workflow code: test_schedules_without_code.py",
    "… is a callback of another run.": "of a run: test_callbacks.py",
    "The … of a callback is not above 0 seconds.": "of a run: test_callbacks.py",
    "The answer does not fit: …. Nothing was sent; the run keeps waiting.": "to a callback: test_callbacks.py",
    "… was answered before; the first answer counts.": "of a callback: test_callbacks.py",
    "… has ended.": "of a run with a callback: test_callbacks.py",
    "There is no schedule with that name.": "by a deletion at the same moment",
    "A task of no runs is none.": "no server makes such an id: test_tasks.py",
    "There is no task ….": "by the id of a task, which clients send: test_tasks.py",
    "… does not wait at step … any more.": "on the page: tests/web/test_api.py",
    "The page has no call ….": "by the page inside a client: test_apps.py",
    "The workflow folder … cannot be read: ….": "somebody took the rights away",
    "Version … of the code is being prepared: …": "an environment takes longer than a call may",
    "No worker could load version … of the code:\n…": "test_causes.py",
    "… does not change.": "by a subscription of the earlier era: test_subscriptions.py",
    "The argument … of … does not fit: ….": "in a run, for what a start cannot find: test_typed_arguments.py",
    "Workflow code cannot send to the topic …: only people answer there.": "in a run: test_people.py",
    "… was deleted meanwhile.": "by a deletion at the same moment: test_deleting.py",
    "There is no run with that workflow_id.": "by a deletion at the same moment: test_deleting_there.py",
    "The name of the project directory, or a setting, is not UTF-8.": "by autostart, which agents do not switch on",
    "… is not a directory.": "the project is the one of the server: test_surface.py",
    "The name … is already used in ….": "by two files; told in the catalog: test_names.py",
    "… cannot be started. …": "a method without its object: test_names.py",
    "A step of a run started this process: it cannot answer for a person.": "in a step: test_asking.py",
    "Several runs that … started ask something: …. No one was asked.": "by a client that can ask: test_people.py",
}
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UsageError)
]
SOURCE = Path(errors.__file__).parent


@dataclass(frozen=True)
class Place:
    """A place in the code that makes an error of a request; in the message, `…` stands for what differs."""

    module: str
    message: str

    def made(self, text: str) -> bool:
        """Whether a text may come from here."""
        pattern = ".*".join(map(re.escape, self.message.split("…")))
        return re.match(pattern, text, re.DOTALL) is not None


def places() -> list[Place]:
    """All that agents may come to."""
    kinds = {kind.__name__: kind for kind in KINDS}
    found: list[Place] = []
    for module, call in calls():
        kind = kinds.get(ast.unparse(call.func).removeprefix("errors."))
        if kind is not None and not module.startswith(tuple(ELSEWHERE)):
            message = "".join(parts(call.args[0])) if call.args else kind().message
            found.append(Place(module, message))
    return found


def calls() -> Iterator[tuple[str, ast.Call]]:
    # In a wheel the bundled workflows lie in the package; they raise in runs, not at requests.
    for path in sorted(one for one in SOURCE.rglob("*.py") if "_content" not in one.parts):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(SOURCE).as_posix(), node


def parts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            for value in values:
                yield from parts(value)
        case ast.BinOp(left=left, right=right):
            yield from parts(left)
            yield from parts(right)
        case _:
            yield "…"


# The project, in which there is a run for each kind of mistake


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = (tmp_path_factory.mktemp("errors") / "project").resolve()
    folder.mkdir()
    for name in ("asking", "line_counts", "odd", "people"):
        copy_flow(name, folder)
    (folder / "workflows" / "library").mkdir()
    (folder / "workflows" / "broken.py").write_text(BROKEN, encoding="utf-8")
    (folder / "workflows" / "hasty.py").write_text(HASTY, encoding="utf-8")
    (folder / "workflows" / "once.py").write_text(ONCE, encoding="utf-8")
    project = Project(Settings(project=folder))
    engine = await project.engine()
    await start_runs(engine)
    yield engine
    await project.aclose()
    await lifecycle.shut_down(project.settings)
    assert not processes_of(folder)


async def start_runs(engine: Engine) -> None:
    runs: dict[str, tuple[str, Json]] = {
        "ended": ("noisy", {}),
        "paid": ("pays", {}),
        "failed": ("fails", {"message": "no"}),
        "waits": ("wait_for_amount", {}),
        "asks": ("ask_order", {}),
        "both": ("two_waits", {}),
    }
    requests = [
        StartRequest(name=name, args=args, workflow_id=workflow_id)
        for workflow_id, (name, args) in runs.items()
    ]
    await engine.start_all(requests)
    await engine.create_schedule(
        ScheduleRequest(name="nightly", workflow="noisy", cron="0 0 1 1 *")
    )
    await engine.reader.wait(list(runs), timeout_seconds=30)
    await until_found(lambda: waits_for(engine, "both", "right"), "it waits for both")
    await insert_lost_run(engine)


async def waits_for(engine: Engine, workflow_id: str, topic: str) -> bool:
    return topic in [one.topic for one in await engine.reader.waits(workflow_id)]


@pytest.fixture(scope="module", params=["auto", "legacy"])
async def client(engine: Engine, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """One for all cases of an era of the protocol."""
    server = build_server(Settings(project=engine.project))
    async with Client(server, mode=request.param) as client:
        yield client


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[DurableWorkflowsError]:
    """The errors of ours that were made during a test: what an agent reads does not say its class."""
    found: list[DurableWorkflowsError] = []
    make = DurableWorkflowsError.__init__

    def noted(
        self: DurableWorkflowsError, message: str | None = None, *, hint: str | None = None
    ) -> None:
        make(self, message, hint=hint)
        found.append(self)

    monkeypatch.setattr(DurableWorkflowsError, "__init__", noted)
    return found


# What an agent reads


METHODS: dict[str, Callable[..., Awaitable[object]]] = {
    "resources/read": Client.read_resource,
    "resources/list": Client.list_resources,
    "prompts/get": Client.get_prompt,
}


async def refusal(client: Client, method: str, arguments: Json) -> str:
    """The text of the error that a request is answered with."""
    if method in METHODS:
        with pytest.raises(MCPError) as caught:
            await METHODS[method](client, **arguments)
        assert caught.value.error.code == INVALID_PARAMS
        return caught.value.error.message
    result = await client.call_tool(method, arguments)
    assert result.is_error, result.content
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


async def standing(engine: Engine) -> tuple[dict[str, int], list[str]]:
    """The state that no refused request may change."""
    files = sorted(str(path) for path in (engine.project / "workflows").rglob("*.py"))
    return await engine.reader.counts(), files


async def without_chance(engine: Engine, text: str) -> str:
    """A text with names for what differs from one time to another."""
    text = text.replace(str(engine.project), "{project}").replace(_PROGRAM, "durable-workflows")
    for kind, names in _NAMES.items():
        text = text.replace(names, f"{{{kind}}}")
    text = _CODE.sub("code/{version}/", text.replace((await engine.catalog()).version, "{version}"))
    return _TIME.sub("{time}", text)


_NAMES = {
    "templates": ", ".join(one.name for one in documents.templates()),
    "references": ", ".join(one.name for one in documents.references()),
}
_PROGRAM = shutil.which("durable-workflows") or str(
    Path(sys.executable).with_name("durable-workflows")
)
_CODE = re.compile(r"code/\{version\}-\w+/")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?: UTC|\+00:00)")


def kinds_of(text: str, made: list[DurableWorkflowsError]) -> set[type[DurableWorkflowsError]]:
    return {type(one) for one in made if str(one) == text}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_a_wrong_request_is_answered_with_what_was_wrong_and_what_is_right(
    case: Case, client: Client, engine: Engine, made: list[DurableWorkflowsError]
) -> None:
    before = await standing(engine)
    text = await refusal(client, case.method, case.arguments)
    assert await without_chance(engine, text) == case.text
    assert kinds_of(text, made) == ({case.kind} if case.kind else set())
    assert await standing(engine) == before


# What comes of a person's answer


@dataclass(frozen=True)
class Answered:
    """A question to the person at the client, and what is wrong with the answer. In the text, `{run}` stands for its workflow_id."""

    what: str
    kind: type[UsageError]
    workflow: str
    answer: JsonValue
    meanwhile: Callable[[Engine, str], Awaitable[object]]
    text: str


async def nothing(_engine: Engine, _workflow_id: str) -> None:
    """Nothing happens while the person thinks."""


async def it_expires(engine: Engine, workflow_id: str) -> None:
    await until_found(lambda: waits_for(engine, workflow_id, "later"), "the question has expired")


async def the_run_is_cancelled(engine: Engine, workflow_id: str) -> None:
    await engine.cancel([workflow_id])


async def another_answers(engine: Engine, workflow_id: str) -> None:
    [wait] = await engine.reader.waits(workflow_id)
    await engine.answer(wait, True, who="the night shift", how="terminal")


# fmt: off
ANSWERED = [
    Answered("an answer that is no JSON", InvalidArguments, "ask_parts", "nuts, bolts", nothing, "The person's answer is not JSON (Expecting value: line 1 column 1 (char 0)). Call again to ask once more. Nothing was sent."),
    Answered("an answer that does not fit", InvalidArguments, "ask_parts", '["nuts", 1]', nothing, "The message for 'person:1' does not fit: [1]: 1 is not of type 'string'. Nothing was sent; the run keeps waiting. Send a message like this: [\"…\"], which fits the schema {\"items\": {\"type\": \"string\"}, \"type\": \"array\"}."),
    Answered("an answer that comes too late", NotWaiting, "hasty", "yes", it_expires, "{run} no longer waits for 'person:quick'. Call inspect to see what the run does now."),
    Answered("an answer to a run that was cancelled", WorkflowFinished, "ask_anything", "a whale", the_run_is_cancelled, '{run} has ended with status CANCELLED. resume(workflow_ids=["{run}"]) lets it go on; then send again. Nothing was sent.'),
    Answered("a second answer", AlreadyAnswered, "ask_twice", False, another_answers, "the night shift already answered this at {time}. Call inspect to see the answer and who gave it."),
]
# fmt: on


@pytest.mark.parametrize(
    "case",
    [one for one in ANSWERED if one.workflow != "hasty"]
    + long(*(one for one in ANSWERED if one.workflow == "hasty")),
    ids=lambda case: case.what,
)
async def test_an_answer_that_cannot_be_taken_is_explained(
    case: Answered, engine: Engine, made: list[DurableWorkflowsError]
) -> None:
    run = (await engine.start(StartRequest(name=case.workflow))).workflow_id
    await engine.reader.wait([run], timeout_seconds=30)

    async def person(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        await case.meanwhile(engine, run)
        return ElicitResult.model_validate({"action": "accept", "content": {"answer": case.answer}})

    # In this era the call goes on while the person thinks. In the other one the client calls again, and asks for what the run waits for then.
    server = build_server(Settings(project=engine.project))
    async with Client(server, mode="legacy", elicitation_callback=person) as client:
        text = await refusal(client, "answer_in_person", {"workflow_id": run})
    assert (await without_chance(engine, text)).replace(run, "{run}") == case.text
    assert kinds_of(text, made) == {case.kind}
    await engine.cancel([run])


# The table is complete, and its texts are of use


def texts() -> list[str]:
    return [case.text for case in (*CASES, *ANSWERED)]


def test_each_class_of_error_that_a_request_may_have_is_in_the_table() -> None:
    caused = {case.kind for case in (*CASES, *ANSWERED)}
    assert caused.isdisjoint(NOT_CAUSED_BY_AGENTS)
    assert caused | NOT_CAUSED_BY_AGENTS.keys() == {*KINDS, None}


def test_each_tool_with_an_argument_is_in_the_table() -> None:
    assert {spec.function.__name__ for spec in TOOLS} <= {case.method for case in CASES}


PLACES = places()


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.module} {place.message}")
def test_each_place_that_makes_such_an_error_is_in_the_table(place: Place) -> None:
    assert place.message in UNCAUSED or any(place.made(text) for text in texts())


def test_what_is_said_to_be_caused_by_nobody_is_there() -> None:
    assert UNCAUSED.keys() <= {place.message for place in PLACES}


@pytest.mark.parametrize("text", texts(), ids=range(len(texts())))
def test_a_text_is_short_and_names_a_tool_where_it_names_a_command(text: str) -> None:
    tools = [spec.function.__name__ for spec in TOOLS]
    assert len(text) < LONGEST
    assert "`durable-workflows" not in text or any(tool in text for tool in tools)
