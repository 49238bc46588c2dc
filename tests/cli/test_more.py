"""`check`, `worker`, `move` and `serve --http`, as far as nothing has to run for them."""

import json
from pathlib import Path

import pytest

from .command import run, succeed

GOOD = "from dbos import DBOS\n\n\n@DBOS.workflow()\ndef flow() -> None: ...\n"
LOOSE = GOOD.replace("def flow() -> None: ...", "def flow() -> float:\n    return time.time()")


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "good.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / "workflows" / "loose.py").write_text(f"import time\n\n{LOOSE}", encoding="utf-8")
    return tmp_path


def test_a_file_without_findings_passes_the_check(flows: Path) -> None:
    (flows / "workflows" / "loose.py").unlink()
    assert succeed("check", "workflows/good.py", folder=flows) == ""


def test_findings_have_a_line_each_and_fail_the_check(flows: Path) -> None:
    result = run("check", "workflows/loose.py", folder=flows)
    assert result.status == 1
    lines = result.output.splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        "workflows/loose.py:7:1:",
        "workflows/loose.py:8:12:",
    ]
    assert "name-taken" in lines[0]
    assert "time.time()" in lines[1]
    found = json.loads(run("check", "workflows/loose.py", "--json", folder=flows).output)
    assert [one["rule"] for one in found] == ["name-taken", "time"]


@pytest.mark.long
def test_a_check_without_files_checks_the_workflow_folder_and_says_what_it_found(
    flows: Path,
) -> None:
    (flows / "workflows" / "part").mkdir()
    (flows / "workflows" / "part" / "helper.py").write_text("x = 1\n", encoding="utf-8")
    (flows / "workflows" / ".hidden.py").write_text("not python", encoding="utf-8")
    for given in ([], ["workflows"], [str(flows / "workflows")]):
        result = run("check", *given, folder=flows)
        assert result.status == 1
        files = [line.split(":")[0] for line in result.output.splitlines()]
        assert set(files) == {"workflows/good.py", "workflows/loose.py", "workflows/part/helper.py"}
        assert result.errors == "Checked 3 files: 2 errors, 1 warning, 1 note.\n"
    (flows / "workflows" / "loose.py").unlink()
    good = run("check", "workflows/good.py", folder=flows)
    assert (good.status, good.errors) == (0, "Checked 1 file: nothing is wrong.\n")


def test_a_project_without_a_workflow_folder_has_nothing_to_check(tmp_path: Path) -> None:
    result = run("check", folder=tmp_path)
    assert result.status == 1
    assert f"There is no workflow folder {tmp_path / 'workflows'}." in result.errors
    assert "durable-workflows new" in result.errors


def test_a_file_that_is_not_there_cannot_be_checked(flows: Path) -> None:
    result = run("check", "workflows/none.py", folder=flows)
    assert (result.status, result.output) == (1, "")
    assert "There is no file workflows/none.py" in result.errors


def test_a_worker_needs_an_external_postgres(tmp_path: Path) -> None:
    result = run("worker", folder=tmp_path)
    assert result.status == 1
    assert "needs an external Postgres" in result.errors
    assert "DBOS_DATABASE_URL" in result.errors
    assert not (tmp_path / ".dbos").exists()


def test_a_project_without_a_database_has_nothing_to_move(tmp_path: Path) -> None:
    result = run("move", "--to", "postgresql://a:secret@127.0.0.1:1/b", folder=tmp_path)
    assert result.status == 1
    assert "there is nothing to move" in result.errors
    assert "secret" not in result.errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["serve", "127.0.0.1:1"], "only with --http"),
        (["serve", "--allow-remote"], "only with --http"),
        (["move"], "Missing option '--to'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    result = run(*arguments, folder=tmp_path)
    assert result.status == 2
    assert complaint in result.errors


@pytest.mark.parametrize("address", ["here:there", "http://127.0.0.1", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    result = run("serve", "--http", address, folder=tmp_path)
    assert result.status == 1
    assert "is not an address" in result.errors


def test_a_remote_address_needs_the_flag(tmp_path: Path) -> None:
    result = run("serve", "--http", "0.0.0.0:0", folder=tmp_path)
    assert result.status == 1
    assert "--allow-remote" in result.errors
