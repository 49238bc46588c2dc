"""The project's `.env` is in the environment of workflow code, and nowhere else."""

from pathlib import Path

import pytest

from durable_workflows.engine.engine import Engine
from durable_workflows.engine.project import Project
from durable_workflows.models import StartRequest
from durable_workflows.processes import problems
from durable_workflows.settings import Settings

pytestmark = pytest.mark.anyio

FLOW = '''
import os

from dbos import DBOS


@DBOS.step()
def read(name: str) -> str | None:
    return os.environ.get(name)


@DBOS.workflow()
def variable(name: str) -> str | None:
    """Return a variable of the environment."""
    return read(name)
'''


async def variable(engine: Engine, name: str) -> object:
    run = await engine.start(StartRequest(name="variable", args={"name": name}))
    return (await engine.reader.wait([run.workflow_id], timeout_seconds=60)).done[0].output


@pytest.mark.long
async def test_workflow_code_has_the_variables_of_dotenv_but_not_our_settings_from_it(
    folder: Path, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET_BEFORE", "outside")
    (folder / "workflows").mkdir()
    (folder / "workflows" / "variable.py").write_text(FLOW, encoding="utf-8")
    (folder / ".env").write_text(
        "TOKEN_OF_DOTENV='a secret value'\nSET_BEFORE=inside\nDBOS_DATABASE_URL=postgresql://nowhere\nPGSERVICE=shop\nPGCLIENTENCODING=LATIN1\n",
        encoding="utf-8",
    )
    engine = await project.engine()
    assert engine.connection.mode == "embedded"
    assert await variable(engine, "TOKEN_OF_DOTENV") == "a secret value"
    assert await variable(engine, "SET_BEFORE") == "outside"
    assert await variable(engine, "DBOS_DATABASE_URL") is None
    assert (
        await variable(engine, "PGSERVICE") == "shop"
    )  # and the worker's own connections do not need one
    status = await engine.reader.status(problems.of_processes(settings, running=True))
    assert status.dotenv == ["PGCLIENTENCODING", "PGSERVICE", "TOKEN_OF_DOTENV"]
    assert "a secret value" not in status.model_dump_json()
    assert [one for one in status.problems if one.startswith("DBOS_DATABASE_URL in .env:")]
