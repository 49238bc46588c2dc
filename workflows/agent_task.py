"""A task for an agent, as a durable step: for a command line such as `claude -p`, or for a model endpoint."""

import asyncio
import json
import os
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import httpx2
from dbos import DBOS, StepOptions, pydantic_args_validator
from pydantic import BaseModel, ConfigDict, Field, JsonValue

# Below Python 3.12 pydantic, which reads these hints, refuses the TypedDict of `typing`.
# DBOS itself needs typing_extensions, so it is there wherever a workflow runs.
from typing_extensions import TypedDict

from durable_workflows import authoring

_TIMEOUT_SECONDS = 1800.0
_ANSWER_CHARACTERS = 100_000
_LOG_CHARACTERS = 4000
_ERROR_CHARACTERS = 1000
# One character takes at most four bytes of UTF-8; one more, as the first may be cut in two.
_ANSWER_BYTES = 4 * (_ANSWER_CHARACTERS + 1)
_LOG_BYTES = 4 * (_LOG_CHARACTERS + 1)
_LINE_BYTES = 4_000_000  # of one event; a longer line is passed over
_NOT_STARTED = 127  # what a shell answers for a command that it does not find
_ATTEMPTS = 5  # of a request: with pauses of 1, 2, 4, 8 seconds between
_LONGEST_PAUSE_SECONDS = 60.0  # that a server may ask for
_RESPONSE_BYTES = 10_000_000
_ANTHROPIC_VERSION = "2023-06-01"
_ANTHROPIC_TOKENS = 4096  # that API wants a limit
# From these Claude Code concludes that it was started inside one of its own sessions, and refuses. A worker
# inherits them from the session that started it, but is not a session.
_SESSION_VARIABLES = ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT")
_NO_TURNS = ("agent_message", "reasoning", "todo_list", "error")

Form = Literal["claude", "codex", "text"]
Event = dict[str, Any]


class AgentFailed(Exception):
    """The agent did not do its task. Its output is in the recorded step."""


class _Passing(AgentFailed):
    """A failure that may pass: the server is busy, or away. `pause` is the pause that it asks for, in seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class Endpoint(BaseModel):
    """A model behind HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(
        # No user or password in it: arguments are recorded.
        pattern=r"^https?://[^/@?#]+(/[^@?#]*)?$",
        description='For example "https://api.openai.com/v1", "https://api.anthropic.com", "http://127.0.0.1:11434/v1".',
    )
    model: str = Field(min_length=1)
    api: Literal["openai", "anthropic"] = Field(
        default="openai",
        description="`/chat/completions`, as most servers have it, or `/v1/messages`.",
    )
    key_variable: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description='The name of the environment variable that holds the key, for example "OPENAI_API_KEY"; never the key itself.',
    )
    system: str | None = Field(default=None, description="The system prompt.")
    options: dict[str, JsonValue] = Field(
        default={}, description='More fields of the request, for example {"temperature": 0}.'
    )


class Tokens(TypedDict):
    """The tokens that the model read (`cached`: those from a cache) and wrote."""

    input: int
    cached: int
    output: int


class Record(TypedDict):
    """The record of the step."""

    answer: str
    truncated: bool
    failure: str | None
    turns: int | None
    tokens: Tokens | None
    cost_usd: float | None
    session: str | None
    exit_status: int | None
    seconds: float
    log: str


class Done(TypedDict):
    """The result of the workflow."""

    answer: str
    truncated: bool
    over_budget: bool
    turns: int | None
    tokens: Tokens | None
    cost_usd: float | None
    session: str | None
    seconds: float


# --- The arguments


Task = Annotated[str, Field(min_length=1, description="What to do: the prompt.")]
Command = Annotated[
    str | list[str] | None,
    Field(
        description='An agent\'s command line: "claude", "codex", "claude --model opus --allowedTools Read,Edit", or a list of texts.'
        " No shell runs it. What `claude` and `codex` need to work without a terminal is added."
    ),
]
Model = Annotated[Endpoint | None, Field(description="A model to ask, in place of a command.")]
Timeout = Annotated[
    float,
    Field(gt=0, description="The most that the task, or one request to an endpoint, may take."),
]
Turns = Annotated[int | None, Field(ge=1, description="The turn budget. Default: no limit.")]
Budget = Annotated[int | None, Field(ge=1, description="The token budget. Default: no limit.")]
Directory = Annotated[
    str, Field(min_length=1, description="Where the command runs: a directory in the project.")
]
Way = Annotated[
    Literal["stdin", "argument"],
    Field(description="How the command gets the task: on its standard input, or as last argument."),
]
Output = Annotated[
    Literal["auto", "claude", "codex", "text"],
    Field(
        description='What the command writes: events as claude or codex do, or the answer as text. "auto": by the name of the program.'
    ),
]


@DBOS.workflow(name="agent_task", validate_args=pydantic_args_validator)
async def agent_task(
    task: Task,
    command: Command = None,
    endpoint: Model = None,
    timeout_seconds: Timeout = _TIMEOUT_SECONDS,
    max_turns: Turns = None,
    max_tokens: Budget = None,
    cwd: Directory = ".",
    prompt: Way = "stdin",
    output: Output = "auto",
) -> Done:
    """Give an agent (`claude -p`, `codex exec`, any command) or a model endpoint a task, and return its answer: for work that needs judgement.

    Give either `command` or `endpoint`.

    Returns:
        `{answer, truncated, over_budget, turns, tokens, cost_usd, session, seconds}`; null for values that the
        agent does not report. `answer` has at most 100,000 characters; `truncated` is true if there was more,
        or if the token budget cut the answer. `tokens` is `{input, cached, output}`. `session` is the agent's
        own id, to inspect or resume it by hand.

    Budgets. A token counts if it was read anew (not from a cache) or written.
        - claude: it gets `max_turns` as `--max-turns`. Tokens are counted as it reports them, and it is
          ended when they are used up.
        - codex: each action (command, file change, tool call, search) counts as a turn, and it is ended when
          it begins one too many. It reports tokens only at its end: `over_budget` then says so.
        - other commands report neither: a budget for them is refused.
        - an endpoint does a task in one turn. `max_tokens` limits what it writes.

    Raises:
        AgentFailed: it ended with an error, at its timeout or over its budget. The recorded step has its
            output: `answer` so far, and `log`, the end of its other output.
        InvalidArguments: before anything has started.

    On a crash: the task is one step. If it was running, the agent gets it again: at least once. The
    command finds DURABLE_WORKFLOWS_WORKFLOW_ID and DURABLE_WORKFLOWS_STEP in its environment, the same each
    time, so it can notice a repetition. It runs in a process group of its own, which is ended at a timeout
    and when this run is cancelled. A request is retried four times after 429, 5xx and lost connections.

    Secrets (values of `.env` and of variables named …KEY, …TOKEN, …PASSWORD; the database's password) are
    removed from the records.
    """
    numbers = {"timeout_seconds": timeout_seconds, "max_turns": max_turns, "max_tokens": max_tokens}
    _check({"task": task, "command": cast(JsonValue, command), "cwd": cwd, **numbers}, endpoint)
    limits = _Limits(timeout_seconds, max_turns, max_tokens)
    if command is None:
        assert endpoint is not None
        return _done(await _ask_with_retries(endpoint, task, limits), limits)
    argv, form = _command_line(command, output, limits)
    argv, text = _with_task(argv, form, task, prompt)
    # Preemptible: a cancelled workflow cancels the coroutine, and that ends the processes.
    options: StepOptions = {"name": "run_agent", "preemptible": True}
    return _done(await DBOS.run_step_async(options, _run, argv, text, form, limits, cwd), limits)


@dataclass(frozen=True)
class _Limits:
    """The limits of the task."""

    seconds: float
    turns: int | None
    tokens: int | None

    def exceeded(self, turns: int | None, tokens: Tokens | None) -> str | None:
        """The budget that is used up, in words."""
        if self.turns is not None and (turns or 0) > self.turns:
            return f"it began a turn more than the {self.turns} that it may take"
        if self.tokens is not None and tokens is not None and _spent(tokens) > self.tokens:
            return f"it has used {_spent(tokens):,} tokens of the {self.tokens:,} that it may"
        return None


def _spent(tokens: Tokens) -> int:
    return tokens["input"] - tokens["cached"] + tokens["output"]


def _done(record: Record, limits: _Limits) -> Done:
    if record["failure"] is not None:
        raise AgentFailed(record["failure"])
    return {
        "answer": record["answer"],
        "truncated": record["truncated"],
        "over_budget": limits.exceeded(None, record["tokens"]) is not None,
        "turns": record["turns"],
        "tokens": record["tokens"],
        "cost_usd": record["cost_usd"],
        "session": record["session"],
        "seconds": record["seconds"],
    }


def _check(given: dict[str, JsonValue], endpoint: Endpoint | None) -> None:
    """Raise InvalidArguments. It checks only the arguments, which are recorded, so a replay gets the same result."""
    about = None if endpoint is None else endpoint.model_dump()
    authoring.argument_check("agent_task", agent_task)({**given, "endpoint": about})
    if (given["command"] is None) == (endpoint is None):
        raise authoring.InvalidArguments("Give either `command` or `endpoint`.")


# --- Command lines


def _command_line(
    command: str | list[str], output: Output, limits: _Limits
) -> tuple[list[str], Form]:
    """The program with its arguments, and the form of its output."""
    try:
        argv = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as problem:  # a quote that does not end
        raise authoring.InvalidArguments(f"command: {problem}.") from None
    if not argv:
        raise authoring.InvalidArguments("command: it names no program.")
    name = Path(argv[0]).name
    known: dict[str, Form] = {"claude": "claude", "codex": "codex"}
    form = known.get(name, "text") if output == "auto" else output
    if form == "text" and (limits.turns is not None or limits.tokens is not None):
        raise authoring.InvalidArguments(
            f"{name} tells neither turns nor tokens, so max_turns and max_tokens cannot be kept.",
            hint="Leave them out, or say with `output` that it writes events as claude or codex do.",
        )
    return _with_flags(argv, form, limits.turns), form


def _with_flags(argv: list[str], form: Form, max_turns: int | None) -> list[str]:
    """The command line with the flags that make the agent work without a terminal and report what it does."""
    if form == "claude":
        turns = [] if max_turns is None else ["--max-turns", str(max_turns)]
        # "--verbose" is not last: a task that follows as an argument must not be taken for the value of an option.
        return [*argv, "-p", "--output-format", "stream-json", *turns, "--verbose"]
    if form == "codex":
        program, *rest = argv
        return [program, *([] if {"exec", "e"} & set(rest) else ["exec"]), *rest, "--json"]
    return argv


def _with_task(argv: list[str], form: Form, task: str, prompt: Way) -> tuple[list[str], str]:
    """The command line, and the text for its standard input."""
    if prompt == "stdin":
        return ([*argv, "-"] if form == "codex" else argv), task
    # Known agents are told that the task is not one of their options.
    return [*argv, *([] if form == "text" else ["--"]), task], ""


# --- What agents write


class _Reader:
    """Takes in the output of a command, in bounded memory: an answer as text."""

    def __init__(self) -> None:
        self.answer = ""
        self.truncated = False
        self.complete = True
        self.failure: str | None = None
        self.turns: int | None = None
        self.tokens: Tokens | None = None
        self.cost_usd: float | None = None
        self.session: str | None = None
        self._kept: bytearray = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in some bytes."""
        self._kept += data
        if len(self._kept) > _ANSWER_BYTES:
            self.truncated = True
            del self._kept[:-_ANSWER_BYTES]

    def end(self) -> None:
        """There is no more."""
        self.put(self._kept.decode("utf-8", errors="replace"))

    def put(self, answer: str) -> None:
        """Set the answer. Only a limited number of its last characters is kept."""
        answer = _clean(answer)
        self.truncated = self.truncated or len(answer) > _ANSWER_CHARACTERS
        self.answer = answer[-_ANSWER_CHARACTERS:]


class _EventReader(_Reader):
    """Takes in events, one JSON object a line. Other lines are skipped: programs print greetings and warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.complete = False  # until there is a result

    def feed(self, data: bytes) -> None:
        head, newline, rest = data.rpartition(b"\n")
        if newline:
            for line in (self._kept + head).split(b"\n"):
                self._take(line)
            self._kept.clear()
        self._kept += rest
        del self._kept[:-_LINE_BYTES]

    def end(self) -> None:
        self._take(self._kept)

    def _take(self, line: bytes | bytearray) -> None:
        try:
            event: object = json.loads(line)
        except ValueError:
            return
        if isinstance(event, dict):
            self.note(cast(Event, event))

    def note(self, event: Event) -> None:
        """Take in an event."""
        raise NotImplementedError


class _Claude(_EventReader):
    """`claude -p --output-format stream-json --verbose`, and `--output-format json`, whose only line is the last of these events."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[
            str, Tokens
        ] = {}  # one message comes as several events; the last event counts

    def note(self, event: Event) -> None:
        self.session = _text(event, "session_id") or self.session
        if event.get("type") == "assistant":
            message = _object(event, "message")
            self._usage[str(message.get("id"))] = _claude_tokens(_object(message, "usage"))
            self.tokens = _sum(self._usage.values())
            self.put(_texts(message) or self.answer)
        elif event.get("type") == "result":
            self._end(event)

    def _end(self, event: Event) -> None:
        self.complete = True
        result = _text(event, "result")
        self.put(self.answer if result is None else result)
        self.turns = _number(event, "num_turns")
        self.tokens = _claude_tokens(_object(event, "usage"))
        cost = event.get("total_cost_usd")
        self.cost_usd = float(cost) if isinstance(cost, int | float) else None
        # Either may be set without the other.
        if event.get("is_error") or event.get("subtype") != "success":
            said = result or "; ".join(map(str, event.get("errors") or []))
            self.failure = _clean(f"{event.get('subtype')}: {said}")[:_ERROR_CHARACTERS]


def _texts(message: Event) -> str:
    """The text of a message of Anthropic's API."""
    return "".join(_text(part, "text") or "" for part in _objects(message, "content"))


def _claude_tokens(usage: Event) -> Tokens:
    cached = _number(usage, "cache_read_input_tokens")
    new = _number(usage, "input_tokens") + _number(usage, "cache_creation_input_tokens")
    return {"input": new + cached, "cached": cached, "output": _number(usage, "output_tokens")}


class _Codex(_EventReader):
    """`codex exec --json`."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self._actions: set[str] = set()
        self._usage: list[Tokens] = []

    def note(self, event: Event) -> None:
        item = _object(event, "item")
        match event.get("type"):
            case "thread.started":
                self.session = _text(event, "thread_id")
            case "item.started" | "item.completed" if item.get("type") not in _NO_TURNS:
                self._actions.add(str(item.get("id")))
                self.turns = len(self._actions)
            case "item.completed" if item.get("type") == "agent_message":
                self.put(_text(item, "text") or self.answer)
            case "turn.completed":
                self.complete = True
                self.failure = None
                self._usage.append(_codex_tokens(_object(event, "usage")))
                self.tokens = _sum(self._usage)
            case "turn.failed":
                self.complete = True
                self.failure = _text(_object(event, "error"), "message") or "the turn failed"
            case "error":  # it may continue after that, with another connection
                self.failure = _text(event, "message")
            case _:
                pass


def _codex_tokens(usage: Event) -> Tokens:
    return {
        "input": _number(usage, "input_tokens"),
        "cached": _number(usage, "cached_input_tokens"),
        "output": _number(usage, "output_tokens"),
    }


def _sum(usage: Iterable[Tokens]) -> Tokens:
    total: Tokens = {"input": 0, "cached": 0, "output": 0}
    for one in usage:
        total = {
            "input": total["input"] + one["input"],
            "cached": total["cached"] + one["cached"],
            "output": total["output"] + one["output"],
        }
    return total


def _object(event: Event, field: str) -> Event:
    value = event.get(field)
    return cast(Event, value) if isinstance(value, dict) else {}


def _objects(event: Event, field: str) -> list[Event]:
    value = event.get(field)
    items = cast(list[object], value) if isinstance(value, list) else []
    return [cast(Event, item) for item in items if isinstance(item, dict)]


def _text(event: Event, field: str) -> str | None:
    value = event.get(field)
    return value if isinstance(value, str) else None


def _number(event: Event, field: str) -> int:
    value = event.get(field)
    return value if isinstance(value, int) else 0


# --- A command


async def _run(argv: list[str], text: str, form: Form, limits: _Limits, cwd: str) -> Record:
    """The body of a step. It raises nothing for an agent that fails, so the agent's output is recorded."""
    began = time.monotonic()
    reader = {"claude": _Claude, "codex": _Codex, "text": _Reader}[form]()
    process = _Process(reader, limits)
    try:
        status, in_time = await authoring.run_command(
            argv,
            process,
            folder=authoring.inside_project(cwd),
            environment=_environment(form),
            seconds=limits.seconds,
            text=text.encode(),
        )
        reader.end()
        complaint = _complaint(process, status, in_time, limits)
    except (OSError, ValueError) as problem:  # ValueError: a NUL character in an argument, say
        status, complaint = _NOT_STARTED, f"it could not be started: {problem}"
    failure = None if complaint is None else f"{Path(argv[0]).name}: {complaint}"
    return {
        "answer": reader.answer,
        "truncated": reader.truncated,
        "failure": None if failure is None else _clean(failure),
        "turns": reader.turns,
        "tokens": reader.tokens,
        "cost_usd": reader.cost_usd,
        "session": reader.session,
        "exit_status": status,
        "seconds": round(time.monotonic() - began, 3),
        "log": process.log(),
    }


def _complaint(process: "_Process", status: int, in_time: bool, limits: _Limits) -> str | None:
    """Why the agent failed; None if it did not fail."""
    reader = process.reader
    if process.exceeded is not None:
        return f"{process.exceeded}; it was ended"
    if not in_time:
        return f"it did not end within {limits.seconds:g} seconds; it was ended"
    if status != 0:
        said = reader.failure or process.log()[-_ERROR_CHARACTERS:].strip()
        return f"exit status {status}" + (f": {said}" if said else "")
    if not reader.complete:
        return "it ended without a result" + (f": {reader.failure}" if reader.failure else "")
    return reader.failure


class _Process(authoring.CommandListener):
    """The output of a command, in bounded memory, checked against its budget."""

    def __init__(self, reader: _Reader, limits: _Limits) -> None:
        super().__init__(separate_errors=True)
        self.reader = reader
        self.exceeded: str | None = None
        self._limits = limits
        self._other = bytearray()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._other += data
            del self._other[:-_LOG_BYTES]
        elif self.exceeded is None:
            self.reader.feed(data)
            self._judge()

    def _judge(self) -> None:
        """End the command if it has used up its budget before it was done."""
        reader = self.reader
        if not reader.complete:
            self.exceeded = self._limits.exceeded(reader.turns, reader.tokens)
        if self.exceeded is not None:
            self.settled.set()

    def log(self) -> str:
        """The end of the standard error output."""
        return _clean(self._other.decode("utf-8", errors="replace"))[-_LOG_CHARACTERS:]


def _environment(form: Form) -> dict[str, str]:
    own = {
        "DURABLE_WORKFLOWS_WORKFLOW_ID": str(DBOS.workflow_id),
        "DURABLE_WORKFLOWS_STEP": str(DBOS.step_id),
    }
    left_out = _SESSION_VARIABLES if form == "claude" else ()
    return {name: value for name, value in os.environ.items() if name not in left_out} | own


# --- A model endpoint


async def _ask_with_retries(endpoint: Endpoint, task: str, limits: _Limits) -> Record:
    options: StepOptions = {
        "name": "ask_model",
        "preemptible": True,
        "retries_allowed": True,
        "max_attempts": _ATTEMPTS,
        "should_retry": lambda error: isinstance(error, _Passing),
    }
    return await DBOS.run_step_async(options, _ask, endpoint, task, limits)


async def _ask(endpoint: Endpoint, task: str, limits: _Limits) -> Record:
    """One attempt. On the last attempt a failure that may pass counts as a failure."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(limits.seconds):
            reply = await _post(endpoint, task, limits.tokens)
    except TimeoutError:
        raise AgentFailed(
            f"{endpoint.model} did not answer within {limits.seconds:g} seconds"
        ) from None
    except _Passing as problem:
        status = DBOS.step_status
        if status is None or status.current_attempt == _ATTEMPTS - 1:
            raise AgentFailed(f"{problem} (tried {_ATTEMPTS} times)") from None
        await asyncio.sleep(problem.pause)
        raise
    read = _read_openai if endpoint.api == "openai" else _read_anthropic
    answer, cut, tokens = read(reply)
    answer = _clean(answer, endpoint.key_variable)
    return {
        "answer": answer[:_ANSWER_CHARACTERS],
        "truncated": cut or len(answer) > _ANSWER_CHARACTERS,
        "failure": None,
        "turns": 1,
        "tokens": tokens,
        "cost_usd": None,
        "session": _text(reply, "id"),
        "exit_status": None,
        "seconds": round(time.monotonic() - began, 3),
        "log": "",
    }


async def _post(endpoint: Endpoint, task: str, max_tokens: int | None) -> Event:
    """Send the request, and return the JSON object of the response."""
    url, headers = _address(endpoint)
    body = _body(endpoint, task, max_tokens)

    def said(what: object) -> str:
        return _clean(f"{url}: {what}", endpoint.key_variable)[:_ERROR_CHARACTERS].strip()

    try:
        async with (
            httpx2.AsyncClient(timeout=None) as client,
            client.stream("POST", url, headers=headers, json=body) as response,
        ):
            text = await _read(response)
    except (httpx2.NetworkError, httpx2.RemoteProtocolError) as problem:
        raise _Passing(said(str(problem) or type(problem).__name__)) from None
    except (httpx2.HTTPError, OverflowError) as problem:
        raise AgentFailed(said(problem)) from None
    if response.status_code in (408, 429) or response.status_code >= 500:
        raise _Passing(said(f"status {response.status_code}: {text}"), _pause(response))
    reply = _object_of(text)
    if response.status_code != 200 or reply is None or not _has_answer(reply):
        raise AgentFailed(said(f"status {response.status_code}: {text}"))
    return reply


async def _read(response: httpx2.Response) -> str:
    found = bytearray()
    async for part in response.aiter_bytes():
        found += part
        if len(found) > _RESPONSE_BYTES:
            raise OverflowError(f"the response has more than {_RESPONSE_BYTES:,} bytes")
    return found.decode("utf-8", errors="replace")


def _object_of(text: str) -> Event | None:
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return cast(Event, found) if isinstance(found, dict) else None


def _pause(response: httpx2.Response) -> float:
    """How many seconds the server asks to wait; DBOS's growing pauses come on top."""
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_PAUSE_SECONDS) if asked.isdecimal() else 0.0


def _address(endpoint: Endpoint) -> tuple[str, dict[str, str]]:
    base = endpoint.base_url.rstrip("/")
    key = _key(endpoint.key_variable)
    if endpoint.api == "openai":
        return f"{base}/chat/completions", {"authorization": f"Bearer {key}"} if key else {}
    headers = {"anthropic-version": _ANTHROPIC_VERSION}
    return f"{base.removesuffix('/v1')}/v1/messages", headers | ({"x-api-key": key} if key else {})


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise AgentFailed(
            f"The worker's environment has no {variable}. Put it into the project's .env, or set it before the supervisor is started."
        )
    if not (key.isascii() and key.isprintable()):  # an error about the header would show it
        raise AgentFailed(f"{variable} has characters that no key has.")
    return key


def _body(endpoint: Endpoint, task: str, max_tokens: int | None) -> dict[str, JsonValue]:
    messages: list[JsonValue] = [{"role": "user", "content": task}]
    body: dict[str, JsonValue] = {"model": endpoint.model, "messages": messages}
    if endpoint.api == "anthropic":
        body["max_tokens"] = max_tokens or _ANTHROPIC_TOKENS
        if endpoint.system is not None:
            body["system"] = endpoint.system
    else:
        if endpoint.system is not None:
            messages.insert(0, {"role": "system", "content": endpoint.system})
        if max_tokens is not None:
            # OpenAI's newer models refuse the old name; other servers may not know the new name.
            new = urlsplit(endpoint.base_url).hostname == "api.openai.com"
            body["max_completion_tokens" if new else "max_tokens"] = max_tokens
    return {**body, **endpoint.options, "stream": False}


def _has_answer(reply: Event) -> bool:
    return bool(_texts(reply)) or _text(_message(reply), "content") is not None


def _message(reply: Event) -> Event:
    return _object(_choice(reply), "message")


def _choice(reply: Event) -> Event:
    choices = _objects(reply, "choices")
    return choices[0] if choices else {}


def _read_openai(reply: Event) -> tuple[str, bool, Tokens]:
    """The answer, whether the budget cut it, and the tokens."""
    usage = _object(reply, "usage")
    tokens: Tokens = {
        "input": _number(usage, "prompt_tokens"),
        "cached": _number(_object(usage, "prompt_tokens_details"), "cached_tokens"),
        "output": _number(usage, "completion_tokens"),
    }
    answer = _text(_message(reply), "content") or ""
    return answer, _choice(reply).get("finish_reason") == "length", tokens


def _read_anthropic(reply: Event) -> tuple[str, bool, Tokens]:
    """The answer, whether the budget cut it, and the tokens."""
    tokens = _claude_tokens(_object(reply, "usage"))
    return _texts(reply), reply.get("stop_reason") == "max_tokens", tokens


# --- Secrets


def _clean(text: str, variable: str | None = None) -> str:
    """The text without secrets, without the value of that variable, and without NUL, which Postgres cannot store."""
    return authoring.redacted(text, variable=variable).replace("\0", "\ufffd")
