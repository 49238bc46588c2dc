"""Workflow files made of templates: what may be written, and what never is."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from durable_workflows import content
from durable_workflows.code import catalog, writing
from durable_workflows.errors import InvalidProject, SetupError, UsageError
from durable_workflows.settings import Settings
from helpers import copy_flow
from requirements import proves

from .command import run, succeed

TEMPLATES = sorted(path.stem for path in content.folder("templates").glob("*.py"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project that never runs."""
    return Settings(project=tmp_path)


def folder_of(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.workflow_folder.glob("*"))


def test_new_writes_the_file_and_says_how_to_run_it(tmp_path: Path) -> None:
    result = run("new", "basic_workflow", "nightly_sums", folder=tmp_path)
    assert result.status == 0
    assert result.output == "workflows/nightly_sums.py\n"
    assert "durable-workflows run workflows/nightly_sums.py --args '{}'" in result.errors
    source = (tmp_path / "workflows" / "nightly_sums.py").read_text(encoding="utf-8")
    assert "basic_workflow" not in source
    assert catalog.declared_names(source) == ["nightly_sums"]
    assert not (tmp_path / ".dbos").exists(), "nothing was started"


def test_new_lists_the_templates_with_their_use(tmp_path: Path) -> None:
    assert TEMPLATES
    output = succeed("new", folder=tmp_path)
    assert [line.split()[0] for line in output.splitlines()[1:]] == TEMPLATES
    listed = json.loads(succeed("new", "--list", "--json", folder=tmp_path))
    assert [one["name"] for one in listed] == TEMPLATES
    assert all(one["use_when"] for one in listed)
    assert f"Templates: {', '.join(TEMPLATES)}." in " ".join(
        succeed("new", "--help", folder=tmp_path).split()
    )
    assert list(tmp_path.iterdir()) == []


@proves("request:refused")
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["basic_workflo", "mine"], 1, "There is no template 'basic_workflo'. Did you mean"),
        (["basic_workflow"], 2, "Missing argument 'NAME'"),
        (["basic_workflow", "../outside"], 1, "'../outside' cannot be the name"),
        (["basic_workflow", "approval"], 1, "taken by a bundled workflow"),
        (["basic_workflow", "mine", "--project", "missing"], 1, "missing is not a directory"),
    ],
)
def test_what_cannot_be_made_is_said_with_a_hint_and_nothing_is_written(
    arguments: list[str], status: int, said: str, tmp_path: Path
) -> None:
    result = run("new", *arguments, folder=tmp_path)
    assert result.status == status
    assert said in result.errors
    assert result.output == ""
    assert list(tmp_path.iterdir()) == []
    if "no template" in said:
        assert f"Use one of {', '.join(TEMPLATES)}." in result.errors


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a-b",
        "1st",
        "a.b",
        "../x",
        "a/b",
        "naïve",
        "x" * 101,
        "class",
        "None",
        "list",
        "__init__",
        "json",
        "dbos",
        "durable_workflows",
    ],
)
def test_a_name_that_cannot_be_imported_as_a_file_of_its_own_is_refused(
    name: str, settings: Settings
) -> None:
    for write in (
        lambda: writing.from_template(settings, "basic_workflow", name),
        lambda: writing.write_workflow(settings, name, "x = 1\n"),
        lambda: writing.write_workflow(settings, name, "x = 1\n", overwrite=True),
    ):
        with pytest.raises(UsageError) as caught:
            write()
        assert caught.value.hint
    assert folder_of(settings) == []


def test_a_name_that_the_template_uses_itself_is_refused(settings: Settings) -> None:
    for name in ("fetch", "Path", "column"):
        with pytest.raises(UsageError, match="uses the name"):
            writing.from_template(settings, "basic_workflow", name)
    assert "def basic_workflow(" in writing.from_template(
        settings, "basic_workflow", "basic_workflow"
    )


def test_a_name_that_another_file_declares_is_taken(settings: Settings) -> None:
    copy_flow("messages", settings.project)
    with pytest.raises(UsageError, match=r"taken by a workflow in workflows/messages\.py"):
        writing.from_template(settings, "basic_workflow", "wait_for")
    source = writing.from_template(settings, "basic_workflow", "messages", overwrite=True)
    writing.write_workflow(settings, "messages", source, overwrite=True)
    writing.from_template(settings, "queue_parallel", "messages", overwrite=True)
    with pytest.raises(UsageError, match="taken by a workflow in"):
        writing.from_template(settings, "queue_parallel", "messages")


def test_a_file_that_is_there_is_never_overwritten_unasked(settings: Settings) -> None:
    path = writing.write_workflow(settings, "mine", "first = 1\n")
    with pytest.raises(UsageError, match=r"taken by the file workflows/mine\.py"):
        writing.write_workflow(settings, "mine", "second = 2\n")
    assert path.read_text(encoding="utf-8") == "first = 1\n"
    assert writing.write_workflow(settings, "mine", "third = 3\n", overwrite=True) == path
    assert path.read_text(encoding="utf-8") == "third = 3\n"
    (settings.workflow_folder / "package").mkdir()
    with pytest.raises(UsageError, match="taken by the folder workflows/package"):
        writing.write_workflow(settings, "package", "x = 1\n", overwrite=True)
    assert folder_of(settings) == ["mine.py", "package"]


def test_of_many_who_write_the_same_name_at_once_one_does(settings: Settings) -> None:
    settings.workflow_folder.mkdir()
    written: list[str] = []
    start = threading.Barrier(8)

    def write(text: str) -> None:
        start.wait()
        try:
            writing.write_workflow(settings, "mine", text)
        except UsageError:
            return
        written.append(text)

    threads = [threading.Thread(target=write, args=(f"who = {n}\n",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(settings.workflow_folder / "mine.py").read_text(encoding="utf-8")] == written
    assert folder_of(settings) == ["mine.py"]


def test_a_link_never_leads_out_of_the_folder(settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("precious = 1\n", encoding="utf-8")
    settings.workflow_folder.mkdir()
    link = settings.workflow_folder / "mine.py"
    dangling = settings.workflow_folder / "other.py"
    link.symlink_to(outside)
    dangling.symlink_to(tmp_path / "nowhere.py")
    for name in ("mine", "other"):
        with pytest.raises(UsageError, match="taken by the file"):
            writing.write_workflow(settings, name, "x = 1\n")
        writing.write_workflow(settings, name, "x = 1\n", overwrite=True)
    assert outside.read_text(encoding="utf-8") == "precious = 1\n"
    assert not (tmp_path / "nowhere.py").exists()
    assert not link.is_symlink()
    assert not dangling.is_symlink()


def test_a_written_file_can_be_read_as_any_other(settings: Settings) -> None:
    before = os.umask(0o022)
    try:
        path = writing.write_workflow(settings, "mine", 'text = "käse"\n')
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.read_bytes() == 'text = "käse"\n'.encode()


def test_a_folder_that_cannot_be_written_is_said(settings: Settings) -> None:
    settings.workflow_folder.write_text("a file in its place", encoding="utf-8")
    with pytest.raises(SetupError, match="workflows cannot be used"):
        writing.write_workflow(settings, "mine", "x = 1\n")
    missing = settings.model_copy(update={"project": settings.project / "missing"})
    with pytest.raises(InvalidProject):
        writing.write_workflow(missing, "mine", "x = 1\n")
    assert not missing.project.exists()
