"""Calls that do not belong in the code of a workflow: a replay would repeat them, and may get another result.

The advice is a template: `$run` runs a step there, `$wait` and `$suffix` make a call of DBOS fit into an async function, `$code` is the
call as it stands, and `$argument` its first argument.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Effect:
    """A kind of calls: the rule that they break, their meaning (`scopes`), the harm, and the right way."""

    rule: str
    calls: re.Pattern[str]
    harm: str
    advice: str


def _effect(rule: str, calls: str, harm: str, advice: str) -> Effect:
    return Effect(rule, re.compile(calls, re.VERBOSE), harm, advice)


_UNSEEDED = "unseeded"
_CLOCK = "reads the clock: a replay reads a different time"
# A function of a library, or a method of the result of its classes and of functions like `connect`; not of an answer.
_NETWORK = r"""
    (requests|httpx|urllib3|aiohttp|http\.client|smtplib|imaplib|poplib|ftplib|xmlrpc\.client|websockets?|grpc|paramiko
    |boto3|botocore|openai|anthropic|litellm|ollama|psycopg2?|asyncpg|pymysql|pymongo|redis|sqlite3)
    (\.\w+)*? (\.([A-Z]\w*|connect|client|resource)\(\))? (\.\w+)*
    \.(?!\w*(Error|Exception|Timeout|Limits|URL|Headers|Auth|Retry|Row)\b)\w+
    | urllib\.request\.(urlopen|urlretrieve|build_opener)
    | socket\.(socket|create_connection|create_server|getaddrinfo|gethostby\w+)
    | asyncio\.(open_connection|open_unix_connection|start_server)
"""
_FILES = r"""
    builtins\.open | (io|codecs|gzip|bz2|lzma|aiofiles)\.open | anyio\.(open_file|Path) | (shutil|tempfile|glob)\.\w+
    | zipfile\.ZipFile | tarfile\.open | pandas\.read_\w+ | numpy\.(load|save|loadtxt|savetxt)
    | os\.(open|remove|unlink|listdir|scandir|walk|mkdir|makedirs|rmdir|removedirs|renames?|replace|link|symlink|readlink
      |l?stat|chmod|chown|utime|truncate|access)
    | os\.path\.(l?exists|isfile|isdir|islink|ismount|getsize|getmtime|getatime|getctime|realpath|samefile)
    | pathlib\.(Path|PosixPath)
      (\(\)(\.(parent|(with_\w+|joinpath|resolve|absolute|expanduser|relative_to)\(\)))* | \.(cwd|home)\(\))
      \.(open|read_text|read_bytes|write_text|write_bytes|exists|is_file|is_dir|is_symlink|iterdir|r?glob|walk|l?stat|unlink
      |mkdir|rmdir|rename|replace|touch|chmod|symlink_to|hardlink_to|readlink|owner|group|samefile|copy|move)
"""
OF = r"(\.\w+(\(\))?)*"  # the parts of a library, and their objects
# What plainly changes something outside, whatever its arguments.
SENDS = re.compile(
    rf"""(requests|httpx|aiohttp|urllib3){OF}\.(post|put|patch|delete)
    | (smtplib|aiosmtplib){OF}\.(send|sendmail|send_message)
    | (stripe|braintree|paypalrestsdk|paypalcheckoutsdk|square|Adyen|razorpay|mollie|gocardless_pro){OF}
      \.(create|capture|confirm|refund|charge|pay|sale|transfer)(_payment)?(_async)?
    | (boto3|aioboto3|botocore){OF}\.(send_\w+|publish\w*|put_events|start_execution|run_instances)
    | (kafka|aiokafka|confluent_kafka|pika|aio_pika|nats|google\.cloud\.pubsub\w*|azure\.servicebus|azure\.eventhub|sendgrid|telegram){OF}
      \.(send\w*|basic_publish|publish\w*|produce)
    | slack_sdk{OF}\.(chat_(post|schedule)\w+|send) | twilio{OF}\.create
    | (?!(dbos|durable_workflows|builtins)\.)\w+{OF}\.(send_(mail|email|sms|messages?|notification)|publish)""",
    re.VERBOSE,
)
_SEND = 'Do it in a step that happens at most once: `@step(effect="once")`, from `durable_workflows`, above a separate function that returns plain JSON.'
_EFFECTS = (
    _effect(
        "time",
        r"time\.(time|monotonic|perf_counter|process_time|thread_time)(_ns)?",
        _CLOCK,
        'Read it in a step, which records it: `now = $run({"name": "now"}, time.time)`.',
    ),
    _effect(
        "time",
        r"datetime\.(datetime\.(now|utcnow|today)|date\.today) | (pendulum|arrow)\.(now|utcnow|today)",
        _CLOCK,
        'Read it in a step: `now = datetime.fromtimestamp($run({"name": "now"}, time.time), UTC)`.',
    ),
    _effect(
        "random",
        r"""random\.(?!(Random|seed|shuffle)\b)\w+ | secrets\.\w+ | os\.urandom | builtins\.(hash|id)
        | numpy\.random\.(?!(default_rng|RandomState|Generator|SeedSequence|PCG64|seed|shuffle)\b)\w+""",
        "gives a different value on a replay",
        'Draw it in a step, which records it: `$run({"name": "draw"}, lambda: $code)`.',
    ),
    _effect(
        "random",
        r"(numpy\.)?random\.shuffle",
        "gives a different order on a replay",
        'Draw the order in a step: `$argument = $run({"name": "shuffle"}, lambda: random.sample($argument, len($argument)))`.',
    ),
    _effect(
        "random",
        rf"{_UNSEEDED} | (numpy\.)?random\.seed",
        "gives different numbers on a replay",
        'Draw the seed in a step: `random.Random($run({"name": "draw_seed"}, random.getrandbits, 32))`.',
    ),
    _effect(
        "uuid",
        r"uuid\.(uuid[1467]|getnode) | ulid\.\w+",
        "makes a different id on a replay",
        """Make it in a step, `$run({"name": "new_id"}, lambda: str($code))`, or derive it from the run's id, `f"{DBOS.workflow_id}-1"`.""",
    ),
    _effect(
        "network",
        _NETWORK,
        "talks to something outside the run: a replay asks again and may get a different answer",
        "Do it in a step that returns its result: `@DBOS.step(retries_allowed=True)` above a separate function.",
    ),
    _effect(
        "files",
        _FILES,
        "touches files: a replay does so again, and they may have changed",
        "Do it in a step that returns what the workflow needs: `@DBOS.step()` above a separate function.",
    ),
    _effect(
        "processes",
        r"""subprocess\.(run|call|check_call|check_output|Popen|getoutput|getstatusoutput)
        | asyncio\.create_subprocess_\w+ | anyio\.(run_process|open_process)
        | os\.(system|popen|exec\w+|spawn\w+|posix_spawnp?|fork|forkpty|kill|killpg|startfile)""",
        "starts or signals a program: a replay does so again",
        "Do it in a step that returns its exit status and output: `@DBOS.step()` above a separate function.",
    ),
    _effect(
        "environment",
        r"""os\.(environb?|getenv|getlogin|getpid|getppid|uname|cpu_count) | socket\.(gethostname|getfqdn)
        | platform\.\w+ | getpass\.getuser | dotenv\.\w+""",
        "depends on the machine and its environment: a replay may find different ones",
        'Take it as an argument, or read it in a step: `$run({"name": "read_variable"}, os.environ.get, "NAME")`.',
    ),
    _effect(
        "input",
        r"builtins\.input | getpass\.getpass",
        "reads from a terminal, but a worker has none",
        'Ask a person with `ask_human` from `durable_workflows`: `${wait}ask_human$suffix("…")`.',
    ),
    _effect(
        "sleep",
        r"(time|asyncio|anyio|trio)\.sleep",
        "waits without a record: a replay waits again from the beginning",
        "Use the durable sleep, whose end is recorded: `${wait}DBOS.sleep$suffix($argument)`.",
    ),
    _effect(
        "threads",
        r"""threading\.(Thread|Timer) | _thread\.start_new_thread | concurrent\.futures\.(\w+\.)?\w+PoolExecutor
        | multiprocessing\.(\w+\.)?\w+ | joblib\.\w+ | asyncio\.(to_thread|run_coroutine_threadsafe) | anyio\.to_thread\.\w+
        | (.*\.)?run_in_executor""",
        "runs code alongside the workflow: steps in it are not recorded, or are recorded in an unpredictable order",
        "Start child runs, `${wait}DBOS.start_workflow$suffix(child, item)`, or in an async workflow `await asyncio.gather(*(step(item) for item in items))`.",
    ),
    _effect(
        "timing",
        r"asyncio\.(wait|as_completed|wait_for|timeout|timeout_at) | anyio\.(move_on_after|move_on_at|fail_after|fail_at)",
        "depends on timing: a replay may take a different path",
        "Use the call that records the outcome: `done, pending = await DBOS.asyncio_wait(tasks, timeout=seconds)`; a step takes `timeout_seconds`.",
    ),
    _effect(
        "not-in-workflow",
        r"dbos\.DBOS\.(apply_schedules|backfill_schedule|trigger_schedule)(_async)?",
        "is refused by DBOS inside a workflow",
        "Call it in a step: `@DBOS.step()` above a separate function.",
    ),
)
# With no more arguments than these they read the clock, or draw a seed, as another call does.
_IMPLICIT: Mapping[str, tuple[int, str]] = {
    "time.strftime": (1, "time.time"),
    "time.localtime": (0, "time.time"),
    "time.gmtime": (0, "time.time"),
    "time.ctime": (0, "time.time"),
    "time.asctime": (0, "time.time"),
    "random.Random": (0, _UNSEEDED),
    "numpy.random.default_rng": (0, _UNSEEDED),
}


def effects(meaning: str, arguments: int | None = None) -> Iterator[Effect]:
    """The effect of a call of that meaning, with that many arguments; or, without a number, of an access to it."""
    most, same = _IMPLICIT.get(meaning, (-1, ""))
    meant = same if arguments is not None and arguments <= most else meaning
    for effect in _EFFECTS:
        if effect.calls.fullmatch(meant):
            sends = effect.rule == "network" and SENDS.fullmatch(meant)
            yield replace(effect, advice=_SEND) if sends else effect
