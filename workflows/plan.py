"""A small graph of registered workflows, given as data, as one durable workflow."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, NotRequired, cast

from dbos import (
    DBOS,
    StepOptions,
    WorkflowHandleAsync,
    WorkflowStatus,
    pydantic_args_validator,
)
from pydantic import BaseModel, ConfigDict, Field, JsonValue

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
# DBOS itself needs typing_extensions, so it is there wherever a workflow runs.
from typing_extensions import TypedDict

from durable_workflows import authoring

_APPROVAL = "plan_approval"
_MOST_NODES = 500
_LOOK_SECONDS = 0.2
_LOOK_FOR_PEOPLE_SECONDS = 1.0  # they take days
_LONGEST_BACKOFF_SECONDS = 60.0
_SHOWN_PROBLEMS = 5
# The outputs in the result share this, so the result stays below 1 MB.
_RESULT_CHARACTERS = 400_000
_MOST_CHARACTERS = 100_000
_ERROR_CHARACTERS = 1000
_OPERATORS = ("equals", "not_equals", "in", "greater", "less", "exists")

# With retries, since DBOS gives up on queries that take long on a busy database.
_COLLECT: StepOptions = {"name": "collect", "retries_allowed": True}

Arguments = authoring.Arguments
Path = list[str | int]
Status = Literal[
    "SUCCESS",
    "NOT_OK",
    "ERROR",
    "CANCELLED",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
    "REJECTED",
    "TIMED_OUT",
    "SKIPPED",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Part):
    """A comparison of an earlier result: `$from`, `path`, and one of the others. Without a value there, only `exists: false` holds."""

    node: str = Field(alias="$from", description="The id of the node.")
    path: Path = Field(
        default=[], description='Where in its output, as ["a", 0]. Default: all of it.'
    )
    equals: JsonValue = None
    not_equals: JsonValue = None
    one_of: list[JsonValue] | None = Field(default=None, alias="in")
    greater: float | str | None = None
    less: float | str | None = None
    exists: bool | None = None

    @property
    def given(self) -> Arguments:
        """The operators that were given, with what they compare with."""
        return {
            name: value
            for name, value in self.model_dump(by_alias=True, exclude_unset=True).items()
            if name in _OPERATORS
        }


class Approval(_Part):
    """A question whether to go on. The answer is a message `{"approved": true, "comment": "…"}` to the run of this node."""

    prompt: str = Field(
        min_length=1, description="What is to be approved, for the one who decides."
    )
    show: JsonValue = Field(
        default=None, description="Shown below the prompt; may hold references to earlier results."
    )
    by: Literal["person", "anyone"] = Field(
        default="person",
        description='"person": a person has to answer. "anyone": send_message can too.',
    )
    topic: str = Field(default="approval", min_length=1)
    timeout_seconds: float | None = Field(default=None, gt=0, description="Default: no limit.")


class Node(_Part):
    """One piece of work: a run of a workflow, or an approval."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["workflow"]}, {"required": ["approval"]}]}
    )

    id: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=60)
    workflow: str | None = Field(default=None, description="The name of the workflow to run.")
    args: Arguments = Field(
        default={},
        description='Its arguments. Anywhere inside, {"$from": "id", "path": ["a", 0]} stands for (a part of) the output of that node,'
        ' with "default" for when there is none. {"$literal": …} is … as it is.',
    )
    approval: Approval | None = Field(
        default=None, description="In place of `workflow` and `args`."
    )
    needs: list[str] = Field(
        default=[],
        description="Ids of nodes that must have succeeded before. A reference in `args` without a default implies it.",
    )
    after: list[str] = Field(
        default=[], description="Ids of nodes that must have ended before, whatever came of them."
    )
    when: Condition | list[Condition] = Field(
        default=[], description="Conditions that must hold, else the node is skipped."
    )
    on_failure: Literal["continue", "stop"] = Field(
        default="continue",
        description='"continue": only what needs this node is skipped. "stop": nothing more is started.',
    )
    attempts: int = Field(
        default=1,
        ge=1,
        le=20,
        description="How often to run it at most, if it fails; with growing pauses.",
    )
    timeout_seconds: float | None = Field(
        default=None, gt=0, description="A run that takes longer is cancelled. Default: no limit."
    )

    @property
    def target(self) -> str:
        """The workflow that is run."""
        return _APPROVAL if self.approval else self.workflow or ""

    @property
    def given(self) -> Arguments:
        """The arguments of the run, with references."""
        return self.approval.model_dump() if self.approval else self.args

    @property
    def conditions(self) -> list[Condition]:
        return self.when if isinstance(self.when, list) else [self.when]

    @property
    def required(self) -> list[str]:
        """Ids of nodes that must have succeeded."""
        found = [one["$from"] for one in _references(self.given) if "default" not in one]
        return list(dict.fromkeys([*self.needs, *found]))

    @property
    def awaited(self) -> list[str]:
        """Ids of all nodes that must have ended."""
        references = [one["$from"] for one in _references(self.given)]
        conditions = [condition.node for condition in self.conditions]
        return list(dict.fromkeys([*self.needs, *self.after, *references, *conditions]))


class Result(authoring.Returned):
    """The outcome of a node. A long `output` is replaced by its beginning and its length."""

    id: str
    status: Status
    workflow_id: NotRequired[str]
    attempts: NotRequired[int]
    because: NotRequired[str]
    error: NotRequired[authoring.Problem]


class Report(TypedDict):
    """The result of the workflow."""

    ok: bool
    failed: list[str]
    skipped: list[str]
    nodes: list[Result]


class Prepared(TypedDict):
    """The next action of a node that depends on results: run with these arguments, or not run, with a reason."""

    args: NotRequired[Arguments]
    because: NotRequired[str]
    error: NotRequired[authoring.Problem]


class Decision(TypedDict):
    """The outcome of an approval."""

    approved: bool
    timed_out: bool
    comment: str | None


class Answer(TypedDict):
    """The message that an approval waits for."""

    approved: bool
    comment: NotRequired[str]


# --- The arguments


_EXAMPLE: list[JsonValue] = [
    {"id": "a", "workflow": "build", "args": {}},
    {"id": "ask", "approval": {"prompt": "Deploy?"}, "needs": ["a"]},
    {
        "id": "b",
        "workflow": "deploy",
        "args": {"file": {"$from": "a", "path": ["file"]}},
        "needs": ["ask"],
    },
]
Nodes = Annotated[
    list[Node],
    Field(
        min_length=1,
        max_length=_MOST_NODES,
        description="In any order; each runs as soon as it can.",
        examples=[_EXAMPLE],
    ),
]
Concurrency = Annotated[
    int,
    Field(
        ge=1, le=100, description="How many runs may be under way at once, approvals not counted."
    ),
]
Prompt = Annotated[str, Field(min_length=1, description="What is to be approved.")]
Show = Annotated[JsonValue, Field(description="Shown below the prompt, as JSON.")]
By = Annotated[
    Literal["person", "anyone"],
    Field(description='"person": a person has to answer. "anyone": send_message can too.'),
]
Topic = Annotated[str, Field(min_length=1, description="The topic of the answer.")]
Timeout = Annotated[float | None, Field(gt=0, description="Default: no limit.")]


@DBOS.workflow(name="plan", validate_args=pydantic_args_validator)
async def plan(nodes: Nodes, concurrency: Concurrency = 10) -> Report:
    """Run workflows that build on each other's results, with conditions and approvals: for work in several steps, without writing code.

    Returns:
        `{ok, failed, skipped, nodes}`. A failed node is a result, not an error of this workflow, which ends
        as SUCCESS with `ok` false.
        - `nodes`: for each node, in the order given, `id` and `status`; if it was started `workflow_id`,
          and `attempts` if there were several; `output`; `error` with `name` and `message`; for a skipped
          node `because`. Outputs share 400,000 characters: `output_start` and `output_characters` replace a
          longer output, which is complete in its own run (`inspect`).
        - `status` is the status of the run, or "NOT_OK" (the run returned an object with `ok` false, as
          run_commands does when a command failed), "REJECTED" or "TIMED_OUT" (an approval), "SKIPPED".
        - `failed`: the ids whose status is neither SUCCESS nor SKIPPED.

    Raises:
        InvalidArguments, UnknownWorkflow: before anything has started; the message names each wrong node,
            references to things that do not exist, and circles.

    Each node is a run of its own with the workflow_id `<this run's>-<id>` (with `.2` appended for the second
    attempt), on the same version of the code. To cancel all runs, cancel this one with `children=true`;
    to continue, resume it with `children=true`. The event `progress` says which nodes are done, run or ask.
    Running nodes take no place in the queue "workflows", so plans inside plans cannot block each other.

    On a crash: started runs continue by themselves and are not started again. A fork repeats everything after
    the step, and keeps the earlier results.
    """
    known = authoring.registered_workflows()
    await DBOS.run_step_async({"name": "check_plan"}, _check, nodes, concurrency, known)
    # The same version of the code has the same names, so a replay finds them too.
    functions = {node.target: known[node.target] for node in nodes}
    work = _Work(nodes, concurrency, functions)
    while await work.advance():
        await DBOS.set_event_async("progress", work.progress())
        await work.collect()
    await DBOS.set_event_async("progress", work.progress())
    return work.report()


@DBOS.workflow(name=_APPROVAL)
async def plan_approval(
    prompt: Prompt,
    show: Show = None,
    by: By = "person",
    topic: Topic = "approval",
    timeout_seconds: Timeout = None,
) -> Decision:
    """Ask for an approval, and wait for it: what an approval in a plan is.

    The answer is a message `{"approved": true, "comment": "…"}` on `topic`, where the comment may be left out;
    by a person: `durable-workflows approve`, or through a client that can ask.

    Returns:
        `{approved, timed_out, comment}`.
    """
    if show is not None:
        prompt = f"{prompt}\n{json.dumps(show, ensure_ascii=False, indent=2)}"
    answer = (
        await authoring.ask_human_async(prompt, schema=Answer, topic=topic, timeout=timeout_seconds)
        if by == "person"
        else await authoring.receive_async(
            topic, schema=Answer, prompt=prompt, timeout=timeout_seconds
        )
    )
    if answer is None:
        return {"approved": False, "timed_out": True, "comment": None}
    return {
        "approved": answer["approved"],
        "timed_out": False,
        "comment": answer.get("comment"),
    }


@dataclass
class _Running:
    """A current run, of the attempt of that number."""

    node: Node
    handle: WorkflowHandleAsync[Any]
    attempt: int


@dataclass
class _Work:
    """The state of the plan. It follows only from the arguments and recorded steps, also after a crash."""

    nodes: list[Node]
    concurrency: int
    functions: Mapping[str, Callable[..., Any]]
    results: dict[str, Result] = field(default_factory=dict[str, Result])
    running: dict[str, _Running] = field(default_factory=dict[str, _Running])  # by workflow_id
    args: dict[str, Arguments] = field(default_factory=dict[str, Arguments])  # of the started nodes
    stopped_by: str | None = None

    def __post_init__(self) -> None:
        self._required = {node.id: node.required for node in self.nodes}
        self._awaited = {node.id: node.awaited for node in self.nodes}

    async def advance(self) -> bool:
        """Start or skip every node that can be started or skipped. True if anything runs afterwards."""
        while self.stopped_by is None and (node := self._next()) is not None:
            await self._decide(node)
        if self.stopped_by is not None:
            await self._give_up(f"{self.stopped_by} failed, and the plan stops then")
        return bool(self.running)

    def _next(self) -> Node | None:
        """The first node, in the order given, whose inputs are all available."""
        for node in self._open():
            ready = all(one in self.results for one in self._awaited[node.id])
            if ready and (node.approval or self._has_room() or self._lacking(node)):
                return node
        return None

    def _open(self) -> list[Node]:
        begun = self.results.keys() | self.args.keys()
        return [node for node in self.nodes if node.id not in begun]

    def _has_room(self) -> bool:
        return sum(not one.node.approval for one in self.running.values()) < self.concurrency

    def _lacking(self, node: Node) -> list[str]:
        needs = {need: self.results[need]["status"] for need in self._required[node.id]}
        return [f"{need} ({status})" for need, status in needs.items() if status != "SUCCESS"]

    async def _decide(self, node: Node) -> None:
        lacking = self._lacking(node)
        if lacking:
            self._skip(node, f"it needs {', '.join(lacking)}")
            return
        prepared: Prepared = {"args": node.given}
        if node.conditions or any(_marked(node.given)):
            prepared = await DBOS.run_step_async(
                {"name": f"prepare {node.id}"}, _prepare, node, self._outputs(node), self.functions
            )
        if "because" in prepared:
            self._skip(node, prepared["because"])
        elif "error" in prepared:
            self._end(node, {"id": node.id, "status": "ERROR", "error": prepared["error"]})
        elif "args" in prepared:
            await self._start(node, prepared["args"])

    def _outputs(self, node: Node) -> dict[str, str]:
        """The runs whose outputs the node may refer to, by the ids of their nodes."""
        ended = [self.results[one] for one in self._awaited[node.id]]
        return {
            one["id"]: one["workflow_id"]
            for one in ended
            if "workflow_id" in one and ("output" in one or "output_start" in one)
        }

    async def _start(self, node: Node, args: Arguments, attempt: int = 1) -> None:
        self.args[node.id] = args
        again = f".{attempt}" if attempt > 1 else ""
        workflow_id = f"{DBOS.workflow_id}-{node.id}{again}"
        handle = await authoring.start_child(
            node.target,
            self.functions[node.target],
            workflow_id,
            args,
            timeout_seconds=node.timeout_seconds,
            delay_seconds=_backoff(attempt),
        )
        self.running[handle.workflow_id] = _Running(node, handle, attempt)

    def _skip(self, node: Node, because: str) -> None:
        self.results[node.id] = {"id": node.id, "status": "SKIPPED", "because": because}

    def _end(self, node: Node, result: Result) -> None:
        self.results[node.id] = result
        if result["status"] != "SUCCESS" and node.on_failure == "stop":
            self.stopped_by = self.stopped_by or node.id

    async def _give_up(self, because: str) -> None:
        """Skip the nodes that were not started, and cancel open questions. Current runs continue to their ends."""
        for node in self._open():
            self._skip(node, because)
        asking = [one for one in self.running if self.running[one].node.approval]
        if asking:
            await DBOS.cancel_workflows_async(asking)
        for workflow_id in asking:
            self._skip(self.running.pop(workflow_id).node, because)

    async def collect(self) -> None:
        """Wait until at least one run has ended, and note all ended runs."""
        handles = [one.handle for one in self.running.values()]
        for_people = all(one.node.approval for one in self.running.values())
        seconds = _LOOK_FOR_PEOPLE_SECONDS if for_people else _LOOK_SECONDS
        await DBOS.wait_first_async(handles, polling_interval_sec=seconds)
        share = min(_RESULT_CHARACTERS // len(self.nodes), _MOST_CHARACTERS)
        runs = {workflow_id: one.node.id for workflow_id, one in self.running.items()}
        results = await DBOS.run_step_async(_COLLECT, _ended, runs, share)
        for workflow_id, result in results.items():
            await self._note(self.running.pop(workflow_id), result)

    async def _note(self, run: _Running, result: Result) -> None:
        retried = result["status"] in ("ERROR", "NOT_OK") and run.attempt < run.node.attempts
        if retried and self.stopped_by is None:
            await self._start(run.node, self.args[run.node.id], run.attempt + 1)
            return
        if run.attempt > 1:
            result["attempts"] = run.attempt
        self._end(run.node, result)

    def progress(self) -> dict[str, JsonValue]:
        """For the event of that name."""
        report = self.report()
        asking = [one for one, run in self.running.items() if run.node.approval]
        return {
            "total": len(self.nodes),
            "done": len(self.results),
            "failed": list[JsonValue](report["failed"]),
            "skipped": list[JsonValue](report["skipped"]),
            "running": [run.node.id for run in self.running.values() if not run.node.approval],
            "asking": list[JsonValue](asking),
        }

    def report(self) -> Report:
        """The outcomes of the nodes, in the order given."""
        results = [self.results[node.id] for node in self.nodes if node.id in self.results]
        failed = [one["id"] for one in results if one["status"] not in ("SUCCESS", "SKIPPED")]
        skipped = [one["id"] for one in results if one["status"] == "SKIPPED"]
        return {"ok": not failed, "failed": failed, "skipped": skipped, "nodes": results}


# --- References and conditions


class _NoValue(ValueError):
    """The target of a reference does not exist."""


class _Outputs:
    """The outputs of earlier runs, read when they are needed. Use it in a step."""

    def __init__(self, workflow_ids: Mapping[str, str]) -> None:
        self._workflow_ids = workflow_ids
        self._read: dict[str, Any] = {}

    def value(self, node: str, path: Iterable[str | int]) -> JsonValue:
        """The value at that path in a node's output. Raises `_NoValue` if there is none."""
        if node not in self._workflow_ids:
            raise _NoValue(f"{node} has no output")
        if node not in self._read:
            (run,) = DBOS.list_workflows(workflow_ids=[self._workflow_ids[node]], load_input=False)
            self._read[node] = run.output
        value = self._read[node]
        for part in path:
            try:
                value = value[part]
            except (LookupError, TypeError):
                raise _NoValue(f"the output of {node} has nothing at {list(path)}") from None
        return value


def _marked(value: JsonValue) -> Iterator[Arguments]:
    """The references and literals inside a value."""
    if isinstance(value, dict):
        if "$from" in value or "$literal" in value:
            yield value
        else:
            for item in value.values():
                yield from _marked(item)
    elif isinstance(value, list):
        for item in value:
            yield from _marked(item)


def _references(value: JsonValue) -> list[dict[str, Any]]:
    return [one for one in _marked(value) if "$from" in one]


def _filled(value: JsonValue, outputs: _Outputs) -> JsonValue:
    """The value with its references replaced by what they stand for."""
    if isinstance(value, list):
        return [_filled(item, outputs) for item in value]
    if not isinstance(value, dict):
        return value
    if "$literal" in value:
        return value["$literal"]
    if "$from" not in value:
        return {key: _filled(item, outputs) for key, item in value.items()}
    try:
        return outputs.value(str(value["$from"]), cast(Path, value.get("path", [])))
    except _NoValue:
        if "default" in value:
            return value["default"]
        raise


def _prepare(
    node: Node, workflow_ids: dict[str, str], functions: Mapping[str, Callable[..., Any]]
) -> Prepared:
    """Whether the conditions hold, and the arguments with the results filled in. It is a step because it reads."""
    outputs = _Outputs(workflow_ids)
    try:
        for condition in node.conditions:
            if not _holds(condition, outputs):
                return {"because": f"a condition does not hold: {_text(condition)}"}
        args = cast(Arguments, _filled(node.given, outputs))
        authoring.argument_check(node.target, functions[node.target])(args)
        _check_size(args)
    except (_NoValue, TypeError) as problem:
        return {"error": {"name": "BadReference", "message": str(problem)[:_ERROR_CHARACTERS]}}
    except authoring.UsageError as problem:
        name = type(problem).__name__
        return {"error": {"name": name, "message": problem.message[:_ERROR_CHARACTERS]}}
    return {"args": args}


def _check_size(args: Arguments) -> None:
    size = len(json.dumps(args, ensure_ascii=False).encode())
    if size > authoring.MAX_PAYLOAD_BYTES:
        raise authoring.MessageTooLarge(
            f"The arguments have {size:,} bytes with the results in them; the limit is {authoring.MAX_PAYLOAD_BYTES:,}."
        )


def _holds(condition: Condition, outputs: _Outputs) -> bool:
    ((operator, wanted),) = condition.given.items()
    try:
        value = outputs.value(condition.node, condition.path)
    except _NoValue:
        return operator == "exists" and wanted is False
    match operator:
        case "equals":
            return _same(value, wanted)
        case "not_equals":
            return not _same(value, wanted)
        case "in":
            return any(_same(value, one) for one in cast(list[JsonValue], wanted))
        case "greater":
            return _is_less(wanted, value)
        case "less":
            return _is_less(value, wanted)
        case _:
            return wanted is True


def _same(one: JsonValue, other: JsonValue) -> bool:
    """Python takes true for 1; JSON does not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _is_less(one: JsonValue, other: JsonValue) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one < other
    if _is_number(one) and _is_number(other):
        return cast(float, one) < cast(float, other)
    raise TypeError(f"{_short(one)} and {_short(other)} cannot be compared")


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:100] + "…"


def _text(condition: Condition) -> str:
    ((operator, wanted),) = condition.given.items()
    where = "".join(f"[{json.dumps(part)}]" for part in condition.path)
    return f"{condition.node}{where} {operator} {_short(wanted)}"


# --- Is the plan right?


def _check(nodes: list[Node], concurrency: int, known: Mapping[str, Callable[..., Any]]) -> None:
    """Raise InvalidArguments or UnknownWorkflow that names all mistakes; without mistakes, set up the queue."""
    given: list[JsonValue] = [node.model_dump(by_alias=True, exclude_unset=True) for node in nodes]
    authoring.argument_check("plan", plan)({"nodes": given, "concurrency": concurrency})
    _raise_for(_shapes(nodes))  # each check relies on the checks before it
    ids = list(_unknown_ids(nodes))
    unknown = list(_unknown_workflows(nodes, known))
    if unknown and not ids:
        raise authoring.UnknownWorkflow(_listed(unknown))
    _raise_for([*unknown, *ids])
    _raise_for(_circles(nodes))
    _raise_for(_misfits(nodes, known))
    authoring.register_child_queue()


def _unknown_workflows(nodes: list[Node], known: Iterable[str]) -> Iterator[str]:
    names = list(known)
    for node in nodes:
        if node.target not in names:
            guess = authoring.did_you_mean(node.target, names)
            yield f"{node.id}: there is no workflow {node.target!r}.{guess}"


def _raise_for(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise authoring.InvalidArguments(_listed(found), hint="Nothing was started.")


def _listed(problems: list[str]) -> str:
    more = len(problems) - _SHOWN_PROBLEMS
    rest = f" (and {more} more)" if more > 0 else ""
    return " ".join(problems[:_SHOWN_PROBLEMS]) + rest


def _shapes(nodes: list[Node]) -> Iterator[str]:
    """Mistakes in the form of nodes, conditions and references."""
    seen: set[str] = set()
    for node in nodes:
        if node.id in seen:
            yield f"{node.id}: two nodes have this id."
        seen.add(node.id)
        if (node.workflow is None) == (node.approval is None):
            yield f"{node.id}: give either `workflow` or `approval`."
        if node.approval and {"args", "attempts", "timeout_seconds"} & node.model_fields_set:
            yield f"{node.id}: an approval has no `args`, `attempts` or `timeout_seconds` beside it."
        for condition in node.conditions:
            if len(condition.given) != 1:
                yield f"{node.id}: a condition has exactly one of {', '.join(_OPERATORS)}."
        for marked in _marked(node.given):
            if not _is_well_made(marked):
                yield f'{node.id}: {_short(marked)} must be {{"$from": id, "path": […], "default": …}} or {{"$literal": …}}.'


def _is_well_made(marked: Arguments) -> bool:
    if "$literal" in marked:
        return len(marked) == 1
    path = marked.get("path", [])
    return (
        marked.keys() <= {"$from", "path", "default"}
        and isinstance(marked["$from"], str)
        and isinstance(path, list)
        and all(isinstance(part, str) or type(part) is int for part in path)
    )


def _unknown_ids(nodes: list[Node]) -> Iterator[str]:
    known = [node.id for node in nodes]
    for node in nodes:
        for other in node.awaited:
            if other not in known:
                yield f"{node.id}: there is no node {other!r}.{authoring.did_you_mean(other, known)}"


def _circles(nodes: list[Node]) -> Iterator[str]:
    try:
        TopologicalSorter({node.id: node.awaited for node in nodes}).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        yield f"Nodes wait for each other in a circle: {circle} (each for the next)."


def _misfits(nodes: list[Node], functions: Mapping[str, Callable[..., Any]]) -> Iterator[str]:
    """Arguments that do not fit, if that can be known without the results that they refer to."""
    for node in nodes:
        unknown = [name for name, value in node.given.items() if _references(value)]
        check = authoring.argument_check(node.target, functions[node.target], unknown)
        try:
            check(cast(Arguments, _unwrapped(node.given)))
        except authoring.InvalidArguments as problem:
            yield f"{node.id}: {problem.message}"


def _unwrapped(value: JsonValue) -> JsonValue:
    """The value with its literals unwrapped and its references unchanged."""
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    if not isinstance(value, dict) or "$from" in value:
        return value
    if "$literal" in value:
        return value["$literal"]
    return {key: _unwrapped(item) for key, item in value.items()}


# --- Runs


def _backoff(attempt: int) -> float | None:
    """Seconds before an attempt, counted from 1; None: at once."""
    return min(2.0 ** (attempt - 2), _LONGEST_BACKOFF_SECONDS) if attempt > 1 else None


def _ended(runs: dict[str, str], share: int) -> dict[str, Result]:
    """The outcomes of the runs that have ended; `runs` has the id of the node of each run."""
    return {
        run.workflow_id: _outcome(run, runs[run.workflow_id], share)
        for run in authoring.ended_children(runs)
    }


def _outcome(run: WorkflowStatus, node: str, share: int) -> Result:
    status, problem = _judged(run)
    result: Result = {
        "id": node,
        "status": status,
        "workflow_id": run.workflow_id,
        **authoring.returned(run, share),
    }
    if problem is not None:
        result["error"] = problem
    return result


def _judged(run: WorkflowStatus) -> tuple[Status, authoring.Problem | None]:
    """The status of a node, from the end of its run and the returned value."""
    if run.status != "SUCCESS":
        return cast(Status, run.status), authoring.problem_of(run, _ERROR_CHARACTERS)
    whole: object = run.output
    output = cast(dict[str, Any], whole) if isinstance(whole, dict) else {}
    if run.name == _APPROVAL and not output["approved"]:
        if output["timed_out"]:
            return "TIMED_OUT", {"name": "TimedOut", "message": "nobody answered in time"}
        message = output["comment"] or "it was not approved"
        return "REJECTED", {"name": "Rejected", "message": message[:_ERROR_CHARACTERS]}
    not_ok = authoring.not_ok(run, _ERROR_CHARACTERS)
    return ("NOT_OK" if not_ok else "SUCCESS"), not_ok
