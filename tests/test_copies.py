"""The files in the copy of a version from which a worker imports, the files left out, and the fate of files that runs write there."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from durable_workflows.code import catalog, copies
from durable_workflows.host import loading
from durable_workflows.processes import problems
from durable_workflows.settings import Settings
from durable_workflows.system import state
from requirements import proves

FLOW = b"from dbos import DBOS\n\n\n@DBOS.workflow()\ndef flow() -> None: ...\n"
FILES = {"workflows/flow.py": FLOW, "workflows/prompts/system.txt": b"You help."}


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    settings = Settings(project=tmp_path)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "flow.py").write_bytes(FLOW)
    state.prepare(settings)
    return settings


def put(settings: Settings, name: str, size: int) -> None:
    path = settings.workflow_folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


@proves("code:written-files")
def test_what_runs_wrote_beside_their_code_outlives_the_copy(home: Settings) -> None:
    first = copies.make(home, "v1", FILES)
    (first / "workflows" / "out").mkdir()
    (first / "workflows" / "out" / "report.json").write_text("1", encoding="utf-8")
    (first / "workflows" / "__pycache__").mkdir()
    (first / "workflows" / "__pycache__" / "flow.pyc").write_bytes(b"")
    second = copies.make(home, "v1", FILES)
    other = copies.make(home, "v2", FILES)
    assert not first.exists()
    kept = home.state / "kept"
    assert [path for path in kept.rglob("*") if path.is_file()] == [
        kept / "v1" / "workflows" / "out" / "report.json"
    ]
    (other / "late.txt").write_text("2", encoding="utf-8")
    copies.remove_all(home)
    assert not second.exists()
    assert (kept / "v2" / "late.txt").read_text(encoding="utf-8") == "2"
    (said,) = problems.of_processes(home, running=True)
    assert "v1/workflows/out/report.json, v2/late.txt" in said
    assert "Change the code to write into the project" in said


def test_a_worker_for_suspects_leaves_the_copy_of_the_others_alone(home: Settings) -> None:
    common = copies.make(home, "v1", FILES)
    apart = copies.make(home, "v1", FILES, "a1b2c3")
    assert copies.make(home, "v1", FILES).exists()
    assert (common.exists(), apart.exists()) == (False, True)
    (apart / "written.txt").write_text("1", encoding="utf-8")
    assert copies.make(home, "v1", FILES, "a1b2c3").exists()
    assert not apart.exists()
    assert (home.state / "kept" / "v1" / "written.txt").exists()


def test_nothing_is_said_where_runs_wrote_nothing(home: Settings) -> None:
    copies.make(home, "v1", FILES)
    copies.remove_all(home)
    assert problems.of_processes(home, running=True) == []


def test_a_copy_that_was_never_complete_goes(home: Settings) -> None:
    (home.state / "code" / "v1-half").mkdir()
    (home.state / "code" / "v1-half" / "a.py").write_text("", encoding="utf-8")
    copies.make(home, "v1", FILES)
    assert not (home.state / "code" / "v1-half").exists()
    assert not (home.state / "kept").exists()


@proves("code:written-files")
def test_large_data_are_left_out_of_a_version_and_said(home: Settings) -> None:
    put(home, "huge.bin", catalog.MAX_FILE_BYTES + 1)
    put(home, "prompts/system.txt", 1000)
    put(home, "generated.py", 3_000_000)
    for number in range(6):
        put(home, f"data/rows{number}.bin", 3_900_000 + number)
    found = catalog.snapshot(home)
    assert {name for name in found.files if name.startswith("workflows/")} == {
        "workflows/flow.py",
        "workflows/generated.py",
        "workflows/prompts/system.txt",
        *(f"workflows/data/rows{number}.bin" for number in range(5)),
    }
    assert found.left_out.keys() == {"workflows/huge.bin", "workflows/data/rows5.bin"}
    assert all("keep data in the project" in why for why in found.left_out.values())
    assert "more than 4 MB" in found.left_out["workflows/huge.bin"]
    assert "only 20 MB" in found.left_out["workflows/data/rows5.bin"]


def test_a_great_number_of_data_files_is_left_out_too(home: Settings) -> None:
    for number in range(catalog.MAX_DATA_FILES + 2):
        put(home, f"data/{number:05}", 0)
    assert len(catalog.snapshot(home).left_out) == 2


def test_data_that_shrink_are_noticed(home: Settings) -> None:
    folder = catalog.Folder(home)
    put(home, "data.bin", catalog.MAX_FILE_BYTES + 1)
    assert "workflows/data.bin" in folder.snapshot().left_out
    put(home, "data.bin", 10)
    assert "workflows/data.bin" in folder.snapshot().files


@pytest.mark.parametrize("helper", ["shop_helpers.py", "shop_helpers/__init__.py"])
def test_an_import_from_the_project_s_root_says_where_helpers_belong(
    helper: str, home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (home.project / helper).parent.mkdir(exist_ok=True)
    (home.project / helper).write_text("", encoding="utf-8")
    folder = copies.make(home, "v1", {"workflows/flow.py": b"import shop_helpers.prices\n" + FLOW})
    names = loading.Names(folder, lambda lost: None)
    files = {"workflows/flow.py": b"import shop_helpers.prices\n" + FLOW}
    (loaded,) = loading.load(files, folder, {}, names, nullcontext, home.project)
    assert loaded.names == ("flow",)
    last = (loaded.error or "").splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: No module named 'shop_helpers'. shop_helpers")
    assert last.endswith("workflow code sees only workflows/: move it there")


def test_the_list_of_a_copy_holds_its_files(home: Settings) -> None:
    folder = copies.make(home, "v1", FILES)
    assert json.loads((folder / ".files").read_text(encoding="utf-8")) == list(FILES)
    assert (folder / "workflows" / "prompts" / "system.txt").read_bytes() == b"You help."
