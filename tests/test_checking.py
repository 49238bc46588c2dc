"""The findings of `checking` in workflow files, and the code that it accepts."""

import ast
import asyncio
import inspect
import re
import sys
import time
from pathlib import Path
from typing import get_args

import dbos
import pytest
from dbos import DBOS
from markdown_it import MarkdownIt

from durable_workflows import content
from durable_workflows.cli import demo_workflow
from durable_workflows.code.checks import checking, misuse
from durable_workflows.code.checks.checking import Finding, check, render
from durable_workflows.engine.engine import Engine
from durable_workflows.models import StartRequest
from durable_workflows.seam import dbos_names
from helpers import FLOWS
from requirements import proves

HEAD = "from dbos import DBOS\n"
FLOW = "@DBOS.workflow()\ndef f():\n"
# Each is a file. A comment at the end of a line names the rules that the line breaks; all others break none.
CASES = {
    "time": """
        import datetime as dt
        import time
        from time import time as clock
        from dbos import DBOS

        @DBOS.workflow()
        def report(started: float) -> str:
            began = time.time()  #! time
            clock()  #! time
            time.monotonic_ns()  #! time
            dt.datetime.now(dt.UTC)  #! time
            dt.date.today()  #! time
            time.strftime("%Y")  #! time
            time.strftime("%Y", time.gmtime(started))
            time.gmtime()  #! time
            return dt.datetime.fromtimestamp(started, dt.UTC).isoformat()

        @DBOS.step()
        def now() -> float:
            return time.time()
        """,
    "random": """
        import os
        import random
        import secrets
        from random import choice
        from dbos import DBOS

        @DBOS.workflow()
        def draw(seed: int) -> list[int]:
            random.random()  #! random
            choice([1, 2])  #! random
            secrets.token_hex()  #! random
            os.urandom(4)  #! random
            hash("a")  #! random
            rows = [1, 2]
            random.shuffle(rows)  #! random
            random.Random()  #! random
            own = random.Random(seed)
            return [own.randint(1, 6), *sorted(rows, key=lambda _: random.random())]  #! random
        """,
    "uuid": """
        import uuid
        from uuid import uuid4
        from dbos import DBOS

        @DBOS.workflow()
        def order(text: str) -> list[str]:
            ids = [str(uuid4()) for _ in text]  #! uuid
            ids.append(str(uuid.uuid1()))  #! uuid
            return [*ids, str(uuid.uuid5(uuid.NAMESPACE_URL, text))]
        """,
    "network": """
        import socket
        from urllib.request import Request, urlopen
        import httpx
        import requests
        from dbos import DBOS

        session = requests.Session()

        @DBOS.workflow()
        async def ask(url: str) -> str:
            answer = requests.get(url, timeout=3)  #! network
            answer.raise_for_status()
            answer.json()
            session.post(url)  #! network
            urlopen(Request(url)).read()  #! network
            async with httpx.AsyncClient(timeout=httpx.Timeout(3)) as client:  #! network
                await client.get(url)  #! network
            socket.create_connection(("localhost", 80))  #! network
            raise httpx.HTTPError(url)
        """,
    "files": """
        import os
        import shutil
        from pathlib import Path
        from dbos import DBOS

        ROOT = Path("data")

        @DBOS.workflow()
        def copy(source: Path, name: str) -> str:
            with open(name) as file:  #! files
                file.read()
            source.read_text()  #! files
            target = source.parent / name
            (ROOT / name).unlink()  #! files
            ROOT.joinpath(name).with_suffix(".md").exists()  #! files
            os.path.exists(name)  #! files
            os.path.join(name, "a")
            shutil.copy(name, "b")  #! files
            source.name.replace("a", "b")
            name.replace("a", "b")
            return str(Path(name).with_suffix(".txt"))
        """,
    "processes": """
        import os
        import subprocess
        from dbos import DBOS

        @DBOS.workflow()
        def build() -> None:
            subprocess.run(["make"])  #! processes
            os.system("make")  #! processes
            raise subprocess.CalledProcessError(1, "make")
        """,
    "environment": """
        import os
        from os import environ
        import platform
        from dbos import DBOS

        @DBOS.workflow()
        def deploy() -> str | None:
            if os.environ["STAGE"] == "live":  #! environment
                os.environ["STAGE"] = "test"  #! environment
            environ.get("A")  #! environment
            platform.node()  #! environment
            DBOS.run_step({"name": "stage"}, os.environ.get, "STAGE")
            return os.getenv("STAGE")  #! environment
        """,
    "input": """
        from dbos import DBOS

        @DBOS.workflow()
        def ask() -> str:
            print("hello")
            return input("Name: ")  #! input
        """,
    "sleep": """
        import asyncio
        import time
        from dbos import DBOS

        @DBOS.workflow()
        def wait(seconds: float) -> None:
            time.sleep(seconds)  #! sleep
            DBOS.sleep(seconds)

        @DBOS.workflow()
        async def wait_async(seconds: float) -> None:
            await asyncio.sleep(seconds)  #! sleep
            await asyncio.sleep(0)
            await DBOS.sleep_async(seconds)
        """,
    "threads": """
        import asyncio
        import threading
        from concurrent.futures import ThreadPoolExecutor
        from dbos import DBOS

        @DBOS.step()
        def step(number: int) -> int:
            with ThreadPoolExecutor() as pool:
                return sum(pool.map(abs, [number]))

        @DBOS.workflow()
        def spread() -> None:
            with ThreadPoolExecutor() as pool:  #! threads
                pool.map(step, [1, 2])
            threading.Thread(target=step).start()  #! threads

        @DBOS.workflow()
        async def spread_async() -> None:
            await asyncio.to_thread(step, 1)  #! threads
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, step, 1)  #! threads
        """,
    "timing": """
        import asyncio
        from dbos import DBOS

        @DBOS.step()
        async def step(number: int) -> int:
            async with asyncio.timeout(3):
                return number

        @DBOS.workflow()
        async def first() -> None:
            tasks = [asyncio.create_task(step(number)) for number in range(3)]
            await asyncio.wait(tasks)  #! timing
            await asyncio.wait_for(step(1), 3)  #! timing
            for done in asyncio.as_completed(tasks):  #! timing
                await done
            await DBOS.asyncio_wait(tasks)
            await asyncio.gather(*tasks, step(4), return_exceptions=True)
        """,
    "order": """
        import asyncio
        from dbos import DBOS

        @DBOS.step()
        async def load(number: int) -> int:
            return number

        async def once(number: int) -> int:
            if number < 0:
                return await load(0)
            return await load(number)

        async def twice(number: int) -> int:
            return await load(await load(number))

        async def again(number: int) -> int:
            for _ in range(number):
                await DBOS.run_step_async({"name": "load"}, load, number)
            return number

        async def listed(number: int) -> list[int]:
            return [await load(one) for one in range(number)]

        async def reserves(number: int) -> list[int]:
            first, second = DBOS.reserve_step(), DBOS.reserve_step()
            await second.run_async({"name": "load"}, load, number)
            return [await first.run_async({"name": "load"}, load, number)]

        async def reserved(step: object, number: int) -> int:
            return await step.run_async({"name": "load"}, load, number)

        @DBOS.workflow()
        async def race(numbers: list[int]) -> None:
            await asyncio.gather(*(once(number) for number in numbers))
            await asyncio.gather(load(1), load(2))
            await asyncio.gather(*(twice(number) for number in numbers))  #! order
            task = asyncio.create_task(again(3))  #! order
            await asyncio.gather(listed(3), task)  #! order
            await asyncio.gather(reserves(1), reserves(2))
            await twice(await again(1))
            steps = [DBOS.reserve_step() for number in numbers]
            await asyncio.gather(*(reserved(step, 1) for step in steps), task)
        """,
    "set-order": """
        from dbos import DBOS

        @DBOS.step()
        def check(name: str) -> str:
            return name

        def both(name: str) -> str:
            return check(name) + name

        @DBOS.workflow()
        def check_all(names: set[str], more: list[str]) -> list[str]:
            for name in names | {"x"}:  #! set-order
                check(name)
            for name in sorted(names):
                check(name)
            unique = set(more)
            found = {both(name): 1 for name in list(unique)}  #! set-order
            [DBOS.start_workflow(check_all, name) for name in unique.union("a")]  #! set-order
            for name in dict.fromkeys(more):
                check(name)
            return [name.upper() for name in unique if name in found]
        """,
    "globals": """
        from collections import defaultdict
        from itertools import count
        from dbos import DBOS

        RUNS = 0
        SEEN = {}
        LATEST = {}
        BY_NAME: dict[str, list[str]] = defaultdict(list)
        NUMBERS = count()

        @DBOS.workflow()
        def note(name: str) -> int:
            global RUNS, LATEST  #! globals
            RUNS += 1
            LATEST = {}
            LATEST["x"] = 1  #! globals
            SEEN[name] = 1  #! globals
            BY_NAME[name].append("x")  #! globals
            next(NUMBERS)  #! globals
            seen = dict(SEEN)
            seen[name] = 2

            def inner() -> None:
                nonlocal name
                name = "other"
                seen.clear()

            inner()
            return RUNS

        @DBOS.workflow()
        def shadow(SEEN: dict[str, int]) -> None:
            SEEN["x"] = 1
        """,
    "async-call": """
        from dbos import DBOS
        from durable_workflows import authoring, receive, receive_async

        @DBOS.step()
        def step() -> None: ...

        @DBOS.workflow()
        async def wait() -> None:
            DBOS.recv("topic")  #! async-call
            DBOS.run_step({"name": "x"}, step)  #! async-call
            receive("topic")  #! async-call
            authoring.receive("topic")  #! async-call
            await receive_async("topic")
            await DBOS.recv_async("topic")
            DBOS.start_workflow(sync_wait)
            step()

        @DBOS.workflow()
        def sync_wait() -> None:
            DBOS.recv("topic")
        """,
    "not-in-workflow": """
        from dbos import DBOS

        @DBOS.step()
        def write() -> None:
            DBOS.apply_schedules([])

        @DBOS.workflow()
        def schedule() -> None:
            write()
            DBOS.apply_schedules([])  #! not-in-workflow
            DBOS.delete_schedule("nightly")
        """,
    "step-in-step": """
        from dbos import DBOS

        @DBOS.step()
        def load() -> None: ...

        def through() -> None:
            load()  #! step-in-step

        @DBOS.step()
        def both() -> None:
            load()  #! step-in-step
            DBOS.run_step(None, load)  #! step-in-step
            through()

        def body() -> None:
            load()  #! step-in-step

        @DBOS.workflow()
        def flow() -> None:
            both()
            load()
            DBOS.run_step({"name": "body"}, body)
        """,
    "not-in-step": """
        from dbos import DBOS
        from durable_workflows import ask_human, authoring

        @DBOS.workflow()
        def child() -> None: ...

        @DBOS.step()
        def step() -> None:
            DBOS.recv("topic")  #! not-in-step
            DBOS.sleep(3)  #! not-in-step
            DBOS.start_workflow(child)  #! not-in-step
            child()  #! not-in-step
            ask_human("Now?")  #! not-in-step
            authoring.ask_human("Now?")  #! not-in-step
            authoring.start_child("child", child, "id", {})  #! not-in-step
            DBOS.set_event("progress", 1)
            DBOS.send("other", 1)
            DBOS.get_event("other", "progress")

        @DBOS.workflow()
        def flow() -> None:
            step()
        """,
    "values": """
        import io
        from collections.abc import Callable, Iterator
        from datetime import datetime
        from pathlib import Path
        from dbos import DBOS

        @DBOS.step()
        def names() -> Iterator[str]: ...  #! values

        @DBOS.step()
        def checks() -> dict[str, list[Callable[[], None]]]: ...  #! values

        @DBOS.step()
        def fine() -> dict[int, list[tuple[datetime, Path]] | set[bytes]]: ...

        def path() -> io.StringIO: ...  #! values

        @DBOS.workflow()
        def flow() -> set[str]:
            return {str(DBOS.run_step({"name": "path"}, path)), *names()}
        """,
    "child": """
        from dbos import DBOS

        def plain() -> None: ...

        @DBOS.workflow()
        def child() -> None: ...

        def made(name: str) -> object:
            @DBOS.workflow(name=name)
            def function() -> None: ...

            return function

        other = made("other")

        @DBOS.workflow()
        def parent() -> None:
            @DBOS.workflow()
            def nested() -> None: ...  #! child

            DBOS.start_workflow(nested)
            DBOS.start_workflow(child)
            DBOS.start_workflow(plain)  #! child
            DBOS.enqueue_workflow("queue", plain)  #! child
            DBOS.enqueue_workflow("queue", child)
        """,
    "held": """
    import threading
    from contextlib import suppress
    from dbos import DBOS, SetWorkflowID
    from durable_workflows import ask_human, receive, receive_async
    LOCK = threading.Lock()

    @DBOS.workflow()
    def one() -> None:
        with session() as out:  #! held
            receive("go")
        with LOCK:  #! held
            DBOS.sleep(5)
        with SetWorkflowID("two"), suppress(ValueError):
            ask_human("Go?")
        with LOCK:
            pass
        try:
            receive("go")
        except BaseException:  #! held
            pass
        try:
            receive("go")
        except:  #! held
            pass
        try:
            receive("go")
        except BaseException:
            raise
        try:
            receive("go")
        except Exception:
            pass

    @DBOS.workflow()
    async def two() -> None:
        async with session():  #! held
            await receive_async("go")
""",
    "chdir": """
        import contextlib
        import os
        from dbos import DBOS

        os.chdir("data")  #! chdir

        @DBOS.step()
        def step() -> None:
            with contextlib.chdir("data"):  #! chdir
                pass

        @DBOS.workflow()
        def flow() -> None:
            step()
            os.chdir("data")  #! chdir
        """,
    "beside-file": """
        import os
        import shutil
        from pathlib import Path
        from dbos import DBOS

        HERE = Path(__file__).resolve().parent
        TEXT = (HERE / "prompts" / "system.txt").read_text()
        ROOT = HERE.parent  #! beside-file
        ALSO = Path(__file__).parents[1]  #! beside-file
        FOLDER = os.path.dirname(os.path.abspath(__file__))
        UP = os.path.dirname(FOLDER)  #! beside-file

        @DBOS.step()
        def save(text: str) -> None:
            target = HERE / "out"
            target.mkdir(exist_ok=True)  #! beside-file
            (target / "report.json").write_text(text)  #! beside-file
            open(os.path.join(FOLDER, "log"), "a").close()  #! beside-file
            (HERE / "log").open(mode="w").close()  #! beside-file
            shutil.copy("a", HERE / "a")  #! beside-file
            (HERE / "a").open().read()
            open(HERE / "prompts").read()
            shutil.copy(HERE / "a", "a")
            Path("out").mkdir()
            Path("out").write_text(TEXT.replace("a", "b"))

        @DBOS.workflow()
        def flow() -> None:
            save("x")
        """,
    "other ways to write it": """
        import time
        import dbos
        from dbos import DBOS as D, SetWorkflowID

        app = D(config={"name": "app"})

        @app.workflow(name="one")
        def first() -> None:
            time.time()  #! time

        @dbos.DBOS.workflow()
        def second() -> None:
            import time as clock
            clock.time()  #! time
            read = clock.time
            read()  #! time
            while (now := clock.time()) < 3:  #! time
                pass
            with SetWorkflowID(f"{time.time()}"):  #! time
                app.run_step({"name": f"at {time.time()}"}, time.time)  #! time

        @app.workflow()
        async def waiting() -> None:
            app.recv("topic")  #! async-call

        @D.dbos_class()
        class Shop:
            def __init__(self) -> None:
                self.opened = time.time()

            @staticmethod
            @D.workflow()
            def third() -> None:
                Shop.price()

            @D.workflow()
            def fourth(self) -> float:
                return self.total()

            def total(self) -> float:
                return self.price() + time.monotonic()  #! time

            @classmethod
            def price(cls) -> float:
                return time.time()  #! time
        """,
    "helpers": """
        import time
        from dbos import DBOS

        class Job:
            def __init__(self) -> None:
                self.began = time.time()  #! time

            def age(self) -> float:
                return time.time() - self.began  #! time

            def unused(self) -> float:
                return time.time()

        def unused() -> float:
            return time.time()

        def deep() -> float:
            return time.time()  #! time

        def helper(count: int = 3) -> float:
            return helper(count - 1) if count else deep()

        def size(row: str) -> float:
            return len(row) + time.time()  #! time

        def durable(name: str, function: object) -> object:
            return DBOS.run_step({"name": name}, function)

        @DBOS.workflow()
        def flow(rows: list[str]) -> None:
            job = Job()
            job.age()
            helper()
            sorted(rows, key=size)
            durable("unused", unused)
            durable("now", lambda: time.time())
            DBOS.run_step({"name": "now"}, lambda: time.time())

            def nested() -> float:
                return time.time()  #! time

            def handed() -> float:
                return time.time()

            nested()
            DBOS.run_step({"name": "handed"}, handed)
        """,
    "effect": """
        import asyncio
        import smtplib
        import urllib.request as web
        import boto3
        import httpx
        import requests
        import stripe
        from shop import mailer
        from dbos import DBOS
        from durable_workflows import step
        from durable_workflows.authoring import step as our_step

        @DBOS.step()  #! effect
        def store(url: str, text: str) -> int:
            requests.get(url)
            return requests.put(url, data=text).status_code

        @step()  #! effect
        async def store_async(url: str) -> None:
            async with httpx.AsyncClient() as client:
                await client.get(url)
                await client.request("PATCH", url)

        @DBOS.step(name="to_queue")  #! effect
        def queue(text: str) -> None:
            boto3.client("sqs").send_message(QueueUrl="q", MessageBody=text)

        @our_step(name="money")  #! effect
        def money(amount: int) -> str:
            return stripe.PaymentIntent.create(amount=amount).id

        @DBOS.step()  #! effect
        def words(to: str) -> None:
            mailer.send_mail(to)

        @DBOS.step()  #! effect
        def form(url: str) -> None:
            web.urlopen(web.Request(url, data=b"a"))

        @DBOS.step(retries_allowed=False)  #! effect
        def through_a_helper(text: str) -> None:
            hand_over(text)

        @DBOS.step()  #! effect
        async def in_a_thread(url: str) -> None:
            await asyncio.to_thread(requests.delete, url)

        def hand_over(text: str) -> None:
            with smtplib.SMTP("localhost") as mail:
                mail.sendmail("a", "b", text)

        @DBOS.step()  #! effect
        def send_report(text: str) -> None:
            print(text)

        @DBOS.step()  #! effect
        def deploy() -> None:
            print("live")

        class Shop:
            @DBOS.step()  #! effect
            def order_parts(self) -> None:
                print("ordered")

        @step(effect="once")
        def pay(amount: int) -> str:
            return stripe.Charge.create(amount=amount).id

        @step(effect="repeatable")
        def notify(url: str) -> None:
            requests.post(url)

        @DBOS.step(retries_allowed=True)
        def publish(url: str) -> None:
            requests.post(url)

        @DBOS.step(**OPTIONS)
        def refund(url: str) -> None:
            requests.post(url)

        @DBOS.step()
        def read(url: str) -> list[object]:
            with httpx.Client() as client:
                client.request("GET", url)
            web.urlopen(web.Request(url), None)
            boto3.client("sqs").receive_message(QueueUrl="q")
            return [requests.get(url).text, stripe.Charge.list(), stripe.Charge.retrieve("a")]

        @DBOS.step()
        def order_total(rows: list[int]) -> int:
            return sum(rows)

        @DBOS.step()
        def email_address(user: str, requests: object) -> str:
            requests.post(user)
            return user

        @DBOS.step()
        def sender(text: str) -> str:
            return text

        @DBOS.workflow()
        def flow(url: str) -> None:
            DBOS.run_step({"name": "a"}, hand_over, "text")  #! effect
            DBOS.run_step({"name": "b"}, lambda: requests.post(url))  #! effect
            DBOS.run_step({"name": "c"}, requests.post, url)  #! effect
            DBOS.run_step({"name": "d"}, requests.get, url)
            DBOS.run_step({"name": "e", "retries_allowed": True}, requests.post, url)
            DBOS.run_step(OPTIONS, requests.post, url)
            DBOS.run_step({"name": "f"}, send_report, url)
            DBOS.run_step({"name": "g"}, pay, 3)
            sent = requests.post(url)  #! network
        """,
    "names that only look like it": """
        import time as clock
        from pathlib import Path
        from dbos import DBOS

        class requests:
            @staticmethod
            def get(url: str) -> str:
                return url

        def open(name: str) -> str:
            return name

        @DBOS.step()
        def fetch() -> str: ...

        @DBOS.workflow()
        def flow(time: object, random: object, datetime: object) -> None:
            time.time()
            random.random()
            datetime.now()
            requests.get("x")
            open("x")
            for os in range(3):
                os.getenv()
            uuid = random
            uuid.uuid4()
            path = Path("x")
            path = fetch()
            path.read_text()
        """,
}
_MARK = re.compile(r"  #! (?P<rules>[\w -]+)$")
OWN_FILES = [
    *sorted(content.folder("templates").glob("*.py")),
    *sorted(content.folder("workflows").glob("*.py")),
    *sorted(FLOWS.glob("*.py")),
    Path(demo_workflow.__file__),
]
# What goes wrong there is not in the syntax.
UNSEEN = {"long_wrong", "book_wrong"}


def marked(case: str) -> tuple[str, set[tuple[int, str]]]:
    """The text of a case, and the lines that break rules."""
    lines = inspect.cleandoc(CASES[case]).splitlines()
    marks = [(number, _MARK.search(line)) for number, line in enumerate(lines, 1)]
    expected = {
        (number, rule) for number, found in marks if found for rule in found["rules"].split()
    }
    return "\n".join(_MARK.sub("", line) for line in lines) + "\n", expected


def found_in(source: str) -> set[tuple[int, str]]:
    return {(one.line, one.rule) for one in check("workflows/case.py", source)}


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def in_workflow(line: str, head: str = "import time") -> str:
    return f"{head}\nfrom dbos import DBOS\n\n\n@DBOS.workflow()\ndef flow():\n    {line}\n"


@pytest.mark.parametrize("case", CASES)
def test_exactly_the_lines_that_break_a_rule_are_found(case: str) -> None:
    source, expected = marked(case)
    assert found_in(source) == expected


def test_every_rule_for_replays_has_a_case() -> None:
    broken = {rule for case in CASES for _, rule in marked(case)[1]}
    about_files = {"syntax", "no-workflow", "no-parentheses", "name-taken", "overrides"}
    assert broken | about_files | set(misuse.ERRORS) == set(checking.RULES)


@pytest.mark.parametrize("path", OWN_FILES, ids=lambda path: path.name)
def test_our_own_workflows_have_no_findings(path: Path) -> None:
    assert render(path.name, check(path.name, path.read_text(encoding="utf-8"))) == ""


def examples() -> list[tuple[str, str]]:
    """The blocks of Python in the references: what stands beside the language, and the code."""
    texts = [path.read_text(encoding="utf-8") for path in content.folder("references").glob("*.md")]
    tokens = [token for text in texts for token in MarkdownIt().parse(text)]
    return [(one.info, one.content) for one in tokens if one.info.startswith("python ")]


@pytest.mark.parametrize(("info", "code"), examples(), ids=lambda text: text.split("\n")[0][:40])
def test_the_wrong_examples_of_the_references_are_found_and_the_right_ones_are_not(
    info: str, code: str
) -> None:
    is_wrong = " wrong" in info and not any(f"wrong={name} " in info for name in UNSEEN)
    findings = check("example.py", code)
    assert bool(findings) == is_wrong, render(info, findings)


def test_a_finding_says_where_what_and_the_right_way() -> None:
    assert only(check("workflows/late.py", in_workflow("return f(time.time())"))) == Finding(
        line=7,
        column=14,
        rule="time",
        severity="warning",
        message="`time.time()` in workflow flow reads the clock: a replay reads a different time",
        advice='Read it in a step, which records it: `now = DBOS.run_step({"name": "now"}, time.time)`.',
    )


def test_a_finding_in_a_helper_names_the_workflow() -> None:
    source = in_workflow("helper()") + "\n\ndef helper():\n    time.time()\n"
    assert "in `helper`, called from workflow flow," in only(check("a.py", source)).message


def test_code_that_workflows_share_is_reported_once() -> None:
    others = "\n\n@DBOS.workflow()\n{}def other{}():\n    helper()\n"
    source = in_workflow("helper()") + others.format("", 1) + others.format("async ", 2)
    source += "\n\ndef helper():\n    time.time()\n"
    assert "called from workflow flow," in only(check("a.py", source)).message


@pytest.mark.parametrize("workflows", [1, 300])
def test_a_large_file_is_checked_in_linear_time(workflows: int) -> None:
    count = 900 // workflows
    flow = "@DBOS.workflow()\ndef flow{0}():\n" + "    time.time(); helper{0}()\n" * count
    chain = "\n\ndef helper{0}():\n    helper{1}(); open('x')\n"
    parts = [flow.format(number) for number in range(workflows)]
    parts += [chain.format(number, number + 1) for number in range(300)]
    began = time.process_time()
    findings = check("a.py", "import time\nfrom dbos import DBOS\n" + "\n".join(parts))
    assert len(findings) == 900 + 300
    assert time.process_time() - began < 4


def test_the_advice_for_an_async_workflow_awaits() -> None:
    source = in_workflow("time.sleep(2 * 60)").replace("def flow", "async def flow")
    assert "`await DBOS.sleep_async(2 * 60)`" in only(check("a.py", source)).advice


def test_the_code_in_the_advice_is_python() -> None:
    findings = [one for case in CASES for one in check("a.py", marked(case)[0])]
    assert {one.severity for one in findings} == {"warning"}
    for code in {code for one in findings for code in re.findall("`([^`]+)`", one.advice)}:
        after = "\n    def f(): ..." if code.startswith("@") else ""
        ast.parse(f"async def g():\n    {code.replace('…', 'x')}{after}\n")


def test_columns_count_characters() -> None:
    assert only(check("a.py", in_workflow('x = "äöü"; time.time()'))).column == 16


def test_long_code_is_cut_in_one_line() -> None:
    rows = ",\n        ".join(f'"row number {number}"' for number in range(20))
    finding = only(check("a.py", in_workflow(f"random.choice([{rows}])", "import random")))
    assert len(finding.message) < 150
    assert "\n" not in finding.message
    assert "lambda: random.choice(…)" in finding.advice


def test_a_reason_on_the_line_accepts_a_warning() -> None:
    assert check("a.py", in_workflow("time.time()  # deterministic: only printed")) == []
    several = "time.strftime(\n        '%Y'\n    )  # deterministic: only printed"
    assert check("a.py", in_workflow(several)) == []


@pytest.mark.parametrize(
    "comment", ["# deterministic:", "# deterministic", "# noqa", '"# deterministic: no comment"']
)
def test_without_a_reason_a_warning_stays(comment: str) -> None:
    assert only(check("a.py", in_workflow(f"time.time(); {comment}"))).rule == "time"


def test_a_reason_accepts_no_error() -> None:
    source = "from dbos import DBOS\n@DBOS.workflow  # deterministic: yes\ndef f(): ...\n"
    assert only(check("a.py", source)).rule == "no-parentheses"


# What is registered


def test_nothing_is_imported_or_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    check("a.py", f"import no_such_module\nopen({str(trace)!r}, 'w')\n{in_workflow('pass')}")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("x = 1\ndef f(:\n", 2, 7),
        ("x = 1\nreturn x\n", 2, 1),
        ("x = '\0'\n", 1, 1),
        ("x = " + "+".join(["1"] * 50_000), 1, 1),
        ("if x:\npass\n", 2, 1),
    ],
)
def test_what_is_not_python_is_an_error_at_its_place(source: str, line: int, column: int) -> None:
    finding = only(check("a.py", source))
    assert (finding.rule, finding.severity) == ("syntax", "error")
    assert (finding.line, finding.column) == (line, column)
    assert finding.message.startswith("this is not valid Python: ")


def test_what_is_too_deep_for_the_check_is_no_error() -> None:
    text = " + ".join(["'a'"] * 900)
    finding = only(check("a.py", in_workflow(f"for _ in range(3):\n        print({text})")))
    assert (finding.rule, finding.severity) == ("syntax", "warning")


def test_a_byte_order_mark_and_odd_escapes_do_no_harm() -> None:
    assert check("a.py", "\ufeff" + in_workflow(r"return '\d'")) == []


@pytest.mark.parametrize(
    "source",
    ["", "x = 1\n", "import dbos\n@dbos.DBOS.step()\ndef f(): ...\n"],
)
def test_a_file_without_a_workflow_may_be_a_module_for_others(source: str) -> None:
    finding = only(check("a.py", source))
    assert (finding.line, finding.rule, finding.severity) == (1, "no-workflow", "note")


def test_a_decorator_without_parentheses_is_an_error() -> None:
    source = "from dbos import DBOS\n@DBOS.workflow\ndef f(): ...\n@DBOS.step\ndef g(): ...\n"
    source += "from durable_workflows import step\n@step\ndef h(): ...\n"
    found = [(one.line, one.severity, one.advice) for one in check("a.py", source)]
    assert found == [
        (2, "error", "Write `@DBOS.workflow()`."),
        (4, "error", "Write `@DBOS.step()`."),
        (7, "error", "Write `@step()`."),
    ]


ONE = "from dbos import DBOS\n@DBOS.workflow(name='report')\ndef one(): ...\n"
OTHER = "from dbos import DBOS\n\n\n@DBOS.workflow()\ndef report(): ...\n"


def test_a_name_declared_twice_in_a_file_is_an_error_at_the_second_place() -> None:
    source = ONE + "@DBOS.workflow()\ndef report(): ...\n"
    finding = only(check("a.py", source))
    assert (finding.line, finding.rule, finding.severity) == (5, "name-taken", "error")
    assert "'report' is also declared in line 3" in finding.message


def test_methods_of_two_classes_may_have_the_same_name() -> None:
    source = HEAD + "".join(
        f"class {name}:\n    @DBOS.workflow()\n    def run(self): ...\n" for name in "AB"
    )
    assert check("a.py", source) == []


def test_a_name_of_another_file_is_an_error() -> None:
    finding = only(check("workflows/a.py", OTHER, {"workflows/b.py": ONE}))
    assert (finding.line, finding.rule, finding.severity) == (5, "name-taken", "error")
    assert "'report' is also declared in workflows/b.py" in finding.message


def test_text_that_is_no_code_declares_no_names() -> None:
    assert check("workflows/a.py", OTHER, {"workflows/notes.md": ONE}) == []


def test_the_file_itself_among_the_others_does_not_clash() -> None:
    assert check("workflows/a.py", OTHER, {"workflows/a.py": ONE}) == []


def test_taking_the_place_of_a_bundled_workflow_is_only_noted() -> None:
    others = {"_bundled/report.py": ONE}
    finding = only(check("workflows/a.py", OTHER, others))
    assert (finding.rule, finding.severity) == ("overrides", "note")
    both = check("workflows/a.py", OTHER, {**others, "workflows/b.py": ONE})
    assert only(both).severity == "error"
    assert check("_bundled/report.py", ONE, {"workflows/a.py": OTHER}) == []


# What always raises


def test_what_dbos_has_is_read_from_its_text() -> None:
    public = {name for name in dir(DBOS) if not name.startswith("_")}
    assert public <= dbos_names.of_class()
    assert set(dbos.__all__) <= dbos_names.of_package()
    assert {"scheduled", "transaction", "sql_session"}.isdisjoint(dbos_names.of_class())


@pytest.mark.parametrize(
    ("code", "line", "advice"),
    [
        ("@DBOS.scheduled('* * * * *')\n@DBOS.workflow()\ndef f(a, b): ...", 2, "apply_schedules"),
        ("@DBOS.transaction()\ndef f(): ...\n@DBOS.workflow()\ndef g(): ...", 2, "DBOS.step"),
        (f"{FLOW}    DBOS.start_workflows(f)", 4, "start_workflow"),
        (f"from dbos import DBOSClients\n{FLOW}    ...", 2, "DBOSClient"),
        (f"from dbos import Queue\nqueue = Queue('q')\n{FLOW}    ...", 3, "register_queue"),
        (f"import dbos\nqueue = dbos.Queue('q')\n{FLOW}    ...", 3, "register_queue"),
    ],
)
def test_what_the_installed_dbos_does_not_have_is_an_error(
    code: str, line: int, advice: str
) -> None:
    finding = only(check("workflows/a.py", f"{HEAD}{code}\n"))
    assert (finding.rule, finding.severity, finding.line) == ("not-in-dbos", "error", line)
    assert advice in finding.advice


def test_a_time_out_of_a_sync_step_is_an_error() -> None:
    steps = "@DBOS.step(timeout_seconds=3)\n{}def f(): ...\n@DBOS.step(preemptible=False)\ndef g(): ...\n"
    run = f"{FLOW}    DBOS.run_step({{'name': 'f', 'timeout_seconds': 3}}, print)\n"
    found = check("workflows/a.py", HEAD + steps.format("") + run)
    assert [(one.rule, one.severity, one.line) for one in found] == [
        ("sync-timeout", "error", 2),
        ("sync-timeout", "error", 8),
    ]
    fine = HEAD + steps.format("async ") + f"{FLOW}    ...\n"
    assert check("workflows/a.py", fine) == []


@proves("step:timeout-refused")
@pytest.mark.parametrize("home", ["durable_workflows", "durable_workflows.authoring"])
def test_our_time_out_of_a_sync_step_is_an_error(home: str) -> None:
    code = f"{HEAD}from {home} import step\n@step(timeout=3)\n{{}}def f(): ...\n{FLOW}    ...\n"
    finding = only(check("workflows/a.py", code.format("")))
    assert (finding.rule, finding.severity, finding.line) == ("sync-timeout", "error", 3)
    assert "run_command" in finding.advice
    assert check("workflows/a.py", code.format("async ")) == []


def test_a_scope_around_a_wait_holds_nothing() -> None:
    code = f"{HEAD}from durable_workflows import receive, scope\n{FLOW}    with scope('a'):\n        receive('b')\n"
    assert check("workflows/a.py", code) == []


def test_our_sleep_is_a_wait() -> None:
    code = (
        f"{HEAD}from durable_workflows import sleep\n{FLOW}    with open('a'):\n        sleep(3)\n"
    )
    assert "held" in [one.rule for one in check("workflows/a.py", code)]
    code = f"{HEAD}from durable_workflows import sleep\n@DBOS.step()\ndef f():\n    sleep(3)\n{FLOW}    f()\n"
    assert [one.severity for one in check("workflows/a.py", code)] == ["warning"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes them")
def test_a_typed_dict_of_typing_is_refused_as_a_schema() -> None:
    source = (
        "from {0} import TypedDict\nfrom dbos import DBOS\nfrom durable_workflows import receive\n"
        "class A(TypedDict):\n    x: int\n"
        "class Unused(TypedDict):\n    x: int\n"
        "@DBOS.workflow()\ndef f(a: list[A]) -> None:\n    receive('t', schema=A)\n"
    )
    found = check("workflows/a.py", source.format("typing"))
    assert [(one.rule, one.severity, one.line) for one in found] == [
        ("typed-dict", "error", 9),
        ("typed-dict", "error", 10),
    ]
    assert check("workflows/a.py", source.format("typing_extensions")) == []


# Effects


@pytest.mark.parametrize(
    "command",
    [
        '["kubectl", "-n", "live", "apply", "-f", file]',
        '["git", "-C", folder, "push"]',
        '["docker", "image", "push", f"shop:{tag}"]',
        '[sys.executable, "-m", "twine", "upload", file]',
        '["/usr/bin/terraform", "apply"]',
        '["sh", "-c", "cd shop && npm publish"]',
        'f"cd {folder}; git push origin {tag}", shell=True',
        '"npm publish --dry-run && git push", shell=True',
    ],
)
def test_a_step_that_starts_a_deployment_is_found(command: str) -> None:
    assert only(check("a.py", running(command))).rule == "effect"


@pytest.mark.parametrize(
    "command",
    [
        '["kubectl", "get", "pods"]',
        '["kubectl", "apply", "--dry-run=client", "-f", file]',
        '["git", "stash", "push"]',
        '["git", "commit", "-m", "so that git push works"]',
        '["terraform", "plan"]',
        '["npm", "run", "publish"]',
        '"git pull; ls push", shell=True',
        "command",
    ],
)
def test_a_step_that_starts_a_harmless_program_is_not_found(command: str) -> None:
    assert check("a.py", running(command)) == []


def test_a_deployment_by_a_command_of_ours_is_found() -> None:
    source = running('["git", "push"], listener').replace("subprocess.run", "run_command")
    assert check("a.py", source) == []
    head = "from durable_workflows.authoring import run_command\n"
    assert only(check("a.py", head + source)).rule == "effect"


def running(command: str) -> str:
    step = f"@DBOS.step()\ndef step(file, folder, tag, command):\n    subprocess.run({command})\n"
    return f"import subprocess\nimport sys\n{HEAD}{step}{FLOW}    ...\n"


def test_the_finding_of_a_send_names_the_step_the_call_and_what_to_write() -> None:
    source = "import requests\n@DBOS.step()\ndef tell(url):\n    requests.post(url)\n"
    finding = only(check("a.py", f"{HEAD}{source}{FLOW}    ...\n"))
    assert (finding.line, finding.severity) == (3, "warning")
    assert finding.message == (
        "step tell calls `requests.post` in line 5, and runs again if its process dies before its result is recorded"
    )
    assert '`@step(effect="once")`' in finding.advice
    assert '`@step(effect="repeatable")`' in finding.advice


def test_the_advice_for_a_send_in_a_workflow_is_a_step_that_happens_at_most_once() -> None:
    (sent,) = check("a.py", in_workflow("requests.post('x')", "import requests"))
    (read,) = check("a.py", in_workflow("requests.get('x')", "import requests"))
    assert (sent.rule, read.rule) == ("network", "network")
    assert '`@step(effect="once")`' in sent.advice
    assert "`@DBOS.step(retries_allowed=True)`" in read.advice


# For people and for hooks


def test_findings_are_rendered_like_a_compiler_s() -> None:
    source = "from dbos import DBOS\n@DBOS.workflow\ndef f():\n    input()\n"
    lines = render("workflows/a.py", check("workflows/a.py", source)).splitlines()
    assert lines[0] == (
        "workflows/a.py:2:2: no-parentheses: `@DBOS.workflow` above f has no parentheses, so the file does not load."
        " Write `@DBOS.workflow()`."
    )
    assert lines[1].startswith("workflows/a.py:4:5: input: `input()` in workflow f ")
    assert len(lines) == 2
    assert render("a.py", []) == ""


def test_rules_are_described_by_their_severity() -> None:
    assert set(get_args(checking.Severity)) == {"error", "warning", "note"}
    for rule, description in checking.RULES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule)
        assert description.endswith(".")


# What DBOS does


def test_the_sync_calls_that_are_found_in_async_workflows_are_those_that_raise() -> None:
    twins = [name for name in dir(DBOS) if hasattr(DBOS, f"{name}_async")]
    assert len(twins) > 30
    found = {name for name in twins if async_call(name)}
    assert found == {name for name in twins if asyncio.run(raises_in_a_loop(name))}


def async_call(name: str) -> bool:
    source = f"{HEAD}@DBOS.workflow()\nasync def flow():\n    DBOS.{name}()\n"
    return "async-call" in {one.rule for one in check("a.py", source)}


async def raises_in_a_loop(name: str) -> bool:
    method = getattr(DBOS, name)
    parameters = inspect.signature(method).parameters.values()
    needed = [one for one in parameters if one.default is one.empty]
    given = {
        one.name: "x" for one in needed if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }
    try:
        result = method(**given)
        if inspect.isgenerator(result):
            next(result)
    except Exception as error:  # noqa: BLE001 - no DBOS runs here: most complain of that
        return "event loop is running" in str(error)
    return False


REFUSED = """
import inspect
from dbos import DBOS
from durable_workflows import receive


@DBOS.workflow()
def child(): ...


CALLS = {
    "recv": lambda: DBOS.recv("topic", 0.1),
    "sleep": lambda: DBOS.sleep(0.1),
    "start_workflow": lambda: DBOS.start_workflow(child),
    "enqueue_workflow": lambda: DBOS.enqueue_workflow("queue", child),
    "reserve_step": lambda: DBOS.reserve_step(),
    "patch": lambda: DBOS.patch("name"),
    "child": lambda: child(),
    "receive": lambda: receive("topic", timeout=0.1),
    "set_event": lambda: DBOS.set_event("key", 1),
    "get_event": lambda: DBOS.get_event(DBOS.workflow_id, "key", 0.1),
    "send": lambda: DBOS.send(DBOS.workflow_id, 1, "topic"),
    "list_workflows": lambda: DBOS.list_workflows(limit=1),
    "apply_schedules": lambda: DBOS.apply_schedules([]),
}


def refused() -> list[str]:
    found = []
    for name, call in CALLS.items():
        try:
            call()
        except Exception:
            found.append(name)
    return found


@DBOS.workflow()
def refusals() -> dict[str, object]:
    def schedules() -> str:
        try:
            DBOS.apply_schedules([])
        except Exception as error:
            return type(error).__name__

    return {"step": DBOS.run_step({"name": "refused"}, refused), "workflow": schedules()}
"""


@pytest.mark.long
@pytest.mark.anyio
async def test_dbos_refuses_in_steps_and_workflows_what_the_rules_say(
    engine: Engine, folder: Path
) -> None:
    (folder / "workflows").mkdir()
    (folder / "workflows" / "refusals.py").write_text(REFUSED, encoding="utf-8")
    started = await engine.start(StartRequest(name="refusals", args={}))
    (ended,) = (await engine.reader.wait([started.workflow_id], timeout_seconds=60)).done
    assert ended.output == {"step": not_in_step(), "workflow": "DBOSException"}


def not_in_step() -> list[str]:
    """The calls of REFUSED that the rule finds."""
    calls = dict(re.findall(r'"(\w+)": lambda: (.+),', REFUSED))
    head = REFUSED.partition("CALLS")[0]
    step = "@DBOS.step()\ndef step():\n    "
    return [
        name
        for name, call in calls.items()
        if "not-in-step" in {one.rule for one in check("a.py", f"{head}{step}{call}\n")}
    ]
