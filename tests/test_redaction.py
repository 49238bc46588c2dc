"""Which values are secrets, and that outputs of commands and logs are without them."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue

from durable_workflows.authoring import redaction
from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.processes import lifecycle
from durable_workflows.settings import DOTENV, Settings
from helpers import log_of, until_found
from requirements import proves

pytestmark = pytest.mark.anyio

FLOW = '''
import logging
import os
import sys

from dbos import DBOS

print("at import:", os.environ["SIGNED"])
logging.getLogger("flow").warning("at import: %s", os.environ["API_TOKEN"])


@DBOS.step()
def step(password: str) -> None:
    print("printed", os.environ["SIGNED"], password)
    sys.stdout.buffer.write(f"as bytes {os.environ['API_TOKEN']}\\n".encode())
    logging.getLogger("flow").warning("logged %s", os.environ["API_TOKEN"])
    print("x" * 1990, end="")
    print(os.environ["SIGNED"])
    print("plain", os.environ["STAGE"], os.environ["SERVER_PORT"])


@DBOS.workflow()
def tells(password: str) -> None:
    """Print what should not be seen."""
    step(password)
'''
DOTENV_FILE = """SIGNED=f3a9-signed-77
API_TOKEN=tok-123
STAGE=production
SERVER_PORT=20808080
SERVICE=https://me:pass-word@example.com/
"""


@pytest.fixture(scope="module")
async def telling(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """A project whose `.env` has secrets, and whose workflow tells them."""
    folder = (tmp_path_factory.mktemp("telling") / "project").resolve()
    (folder / "workflows").mkdir(parents=True)
    (folder / "workflows" / "tells.py").write_text(FLOW, encoding="utf-8")
    (folder / ".env").write_text(DOTENV_FILE, encoding="utf-8")
    project = Project(Settings(project=folder))
    yield await project.engine()
    await project.aclose()
    await lifecycle.shut_down(project.settings)


def password(engine: Engine) -> str:
    found = redaction.password_of(engine.connection.url)
    assert found is not None
    return found


@proves("secrets:taken-out")
async def test_the_log_of_a_run_has_names_in_the_place_of_secrets(telling: Engine) -> None:
    args = {"password": password(telling)}
    run = await telling.start(StartRequest(name="tells", args=args))
    await telling.reader.wait([run.workflow_id], timeout_seconds=60)
    lines = [line.text for line in await log_of(telling, run.workflow_id, count=5)]
    assert lines[:3] == [
        "printed [SIGNED] [database password]",
        "as bytes [API_TOKEN]",
        "logged [API_TOKEN]",
    ]
    assert lines[3] == "x" * 1990 + "[SIGNED]"
    assert lines[4] == "plain production 20808080"


@proves("secrets:taken-out")
async def test_the_log_of_a_worker_has_names_in_the_place_of_secrets(telling: Engine) -> None:
    await telling.catalog()
    logs = Path(Settings(project=telling.project).state) / "logs"

    async def written() -> str | None:
        text = "".join(path.read_text(encoding="utf-8") for path in logs.glob("worker-*.log"))
        return text if "at import: [API_TOKEN]" in text else None

    text = await until_found(written, "the worker has logged")
    assert "at import: [SIGNED]" in text
    for secret in ("f3a9-signed-77", "tok-123", password(telling)):
        assert not [path for path in logs.iterdir() if secret in path.read_text(encoding="utf-8")]


@proves("secrets:taken-out")
async def test_outputs_of_commands_have_names_in_the_place_of_secrets(telling: Engine) -> None:
    run = "echo $SIGNED $API_TOKEN $SERVICE $STAGE $SERVER_PORT $DEPLOY_KEY; cat .dbos/password"
    command = {"name": "tell", "run": run, "env": {"DEPLOY_KEY": "key-of-the-command"}}
    args: dict[str, JsonValue] = {"commands": [cast(JsonValue, command)]}
    started = await telling.start(StartRequest(name="run_commands", args=args))
    await telling.reader.wait([started.workflow_id], timeout_seconds=60)
    step = await telling.reader.step(started.workflow_id, 1, offset=0, length=10_000)
    assert step.output is not None
    output = json.loads(step.output.text)["output"]
    assert output.splitlines() == [
        "[SIGNED] [API_TOKEN] [SERVICE] production 20808080 [DEPLOY_KEY]",
        "[database password]",
    ]


@pytest.mark.parametrize(
    ("variables", "text", "expected"),
    [
        ({"API_KEY": "abcdef"}, "key abcdef.", "key [API_KEY]."),
        ({"API_KEY": "abcde"}, "key abcde.", "key abcde."),
        ({"MONGO_PASS": "hunter"}, "hunter", "[MONGO_PASS]"),
        ({"COLOUR": "abc-def-123"}, "abc-def-123", "abc-def-123"),
        ({"COLOUR": "abc-def-123", DOTENV: "COLOUR"}, "abc-def-123", "[COLOUR]"),
        ({"DEBUG": "true", "PORT": "80808080", DOTENV: "DEBUG PORT"}, "true 80808080", None),
        ({"STAGE": "production", "ROOT": "/usr/lib", DOTENV: "STAGE ROOT"}, "production", None),
        ({"WHERE": "/usr/lib", DOTENV: "WHERE"}, "in /usr/lib", None),
        ({"PROXY": "http://me:p%40ssword@proxy:1"}, "p@ssword p%40ssword", "[PROXY] [PROXY]"),
        ({"A_TOKEN": "abcdef", "B_TOKEN": "abcdefgh"}, "abcdefgh abcdef", "[B_TOKEN] [A_TOKEN]"),
        ({"PEM": "-----A-----\nfirst/line", DOTENV: "PEM"}, "got first/line", "got [PEM]"),
        ({"ODD": "http://[::1", DOTENV: "ODD"}, "http://[::1", "[ODD]"),
    ],
)
def test_a_secret_is_told_from_a_common_value(
    variables: Mapping[str, str], text: str, expected: str | None
) -> None:
    assert redaction.of_process(None, variables)(text) == (expected or text)


def test_the_database_s_password_is_a_secret_and_nothing_is_one_where_there_is_none() -> None:
    assert redaction.of_process("pg-password")("as pg-password") == "as [database password]"
    assert redaction.Redactor({})("as it is") == "as it is"
    assert redaction.password_of("postgresql://app:p%2Fw@host/db") == "p/w"
    assert redaction.password_of("postgresql://host/db") is None
