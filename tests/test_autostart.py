# pyright: reportPrivateUsage=false
"""Autostart: the service manager of a user starts a project at login or boot, so that its deadlines and schedules are kept over a reboot."""

import json
import os
import plistlib
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.command import Result, run, succeed
from durable_workflows.errors import AutostartFailed, UsageError
from durable_workflows.processes import autostart
from durable_workflows.processes.service_managers import Launchd, Systemd
from durable_workflows.settings import Settings
from helpers import copy_flow, processes_of, until
from requirements import proves
from user_manager import CannotBoot, Machine, machine

pytestmark = pytest.mark.anyio

NASTY = "a b\"c'd\\e%h $HOME ${PATH} é日 ; # =x\n\t%%\x7f\\"
COMMAND = ["/opt/p y/$x/%h/python", "-m", "it", "--project", f"/home/{NASTY}"]
ENVIRONMENT = {"PATH": "/a b:/$c:/%d", "DBOS_DATABASE_URL": f"postgresql://a:{NASTY}@h/d"}
NAP_SECONDS = 8
FLOW = '''
"""Runs that are due at a time, and one whose step takes its time."""

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from dbos import DBOS


@DBOS.step()
def note(file: str, text: str) -> None:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(f"{text}\\n")


@DBOS.workflow()
def naps(file: str) -> None:
    note(file, "begun")
    DBOS.sleep(8)
    note(file, "slept")


@DBOS.workflow()
def notes(file: str, text: str) -> None:
    note(file, text)


@DBOS.workflow()
def every_second(at: datetime, context: Any) -> None:
    note(context["file"], "scheduled")


@DBOS.step()
def run_program(begun: str, done: str) -> None:
    told = f"trap 'kill -0 $PPID && echo asked to end before its worker >> {begun}; exit 1' TERM"
    command = f"{told}; echo begun >> {begun}; test -e {done} || {{ sleep 60 & wait; }}"
    subprocess.run(["sh", "-c", command], check=True)


@DBOS.workflow()
def runs_a_program(begun: str, done: str) -> str:
    run_program(begun, done)
    return "done"


@DBOS.step()
def write_schedule(file: str) -> None:
    DBOS.apply_schedules(
        [
            {
                "schedule_name": "often",
                "workflow_fn": every_second,
                "schedule": "* * * * * *",
                "context": {"file": file},
            }
        ]
    )


@DBOS.workflow()
def schedule(file: str) -> None:
    write_schedule(file)
'''


@pytest.fixture
def pc(folder: Path) -> Iterator[Machine]:
    """A machine that has booted; whatever it runs ends before the project of the test does."""
    with machine() as found:
        try:
            found.boot()
        except CannotBoot as error:
            pytest.skip(f"no systemd of a user can run here: {error}")
        yield found


def write_flow(folder: Path) -> None:
    (folder / "workflows").mkdir()
    (folder / "workflows" / "due.py").write_text(FLOW, encoding="utf-8")


def on(pc: Machine, folder: Path, *options: str, **environment: str) -> str:
    return pc.durable_workflows(
        "autostart", "on", "--project", str(folder), *options, **environment
    )


def status(pc: Machine, folder: Path) -> dict[str, Any]:
    words = ["autostart", "status", "--json", "--project", str(folder)]
    return json.loads(pc.durable_workflows(*words))


def unit(pc: Machine) -> str:
    [found] = pc.units.glob("*.service")
    return found.name


def shown(pc: Machine, name: str) -> str:
    """A property of the unit."""
    words = ["systemctl", "--user", "show", unit(pc), "--property", name, "--value"]
    return pc.call(*words).stdout.strip()


def supervisors(folder: Path) -> list[psutil.Process]:
    return processes_of(folder, "supervisor")


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


# With a real systemd


@proves("autostart:reboot")
@pytest.mark.long
async def test_deadlines_and_schedules_are_kept_over_a_reboot_without_any_client(
    pc: Machine, folder: Path, tmp_path: Path
) -> None:
    write_flow(folder)
    on(pc, folder)
    file, often = tmp_path / "notes", tmp_path / "often"
    for name, args, *options in (
        ("schedule", {"file": str(often)}),
        ("notes", {"file": str(file), "text": "delayed"}, "--delay-seconds", "30"),
        ("naps", {"file": str(file)}),
    ):
        words = ["start", name, "--args", json.dumps(args), *options, "--project", str(folder)]
        pc.durable_workflows(*words)
    await until(lambda: lines(file) == ["begun"], "the run sleeps")
    napping = time.monotonic()
    pc.lose_power()
    assert not processes_of(folder)
    before = len(lines(often))
    await until(lambda: time.monotonic() > napping + NAP_SECONDS, "its sleep is over")
    assert lines(file) == ["begun"]
    pc.boot()
    both = ["begun", "delayed", "slept"]
    await until(lambda: sorted(lines(file)) == both, "both went on", seconds=60)
    await until(lambda: len(lines(often)) > before + 1, "the schedule goes on", seconds=60)


@pytest.mark.long
async def test_the_supervisor_is_the_main_process_of_its_unit_and_switching_on_again_starts_it_unless_it_runs(
    pc: Machine, folder: Path
) -> None:
    assert "Autostart is on" in on(pc, folder)
    found = status(pc, folder)
    assert found["on"] is True
    assert found["enabled"] is True
    assert found["problems"] == []
    file = pc.units / unit(pc)
    assert found["file"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "a URL may hold a password"
    [before] = supervisors(folder)
    main = psutil.Process(before.pid)
    assert shown(pc, "MainPID") == inner_pid(main)
    on(pc, folder, "--old-workers", "7")
    [after] = supervisors(folder)
    assert after == before
    assert '"DURABLE_WORKFLOWS_OLD_WORKERS=7"' in file.read_text(encoding="utf-8")
    pc.durable_workflows("shutdown", "--project", str(folder))
    await until(lambda: shown(pc, "SubState") == "exited", "systemd has seen its end")
    assert not processes_of(folder)
    on(pc, folder)
    assert len(supervisors(folder)) == 1


def inner_pid(process: psutil.Process) -> str:
    """The pid that the process has on its machine."""
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    [found] = [line for line in text.splitlines() if line.startswith("NSpid:")]
    return found.split()[-1]


@pytest.mark.parametrize("project", [NASTY])
@pytest.mark.long
def test_names_and_settings_arrive_as_they_are(pc: Machine, tmp_path: Path, project: str) -> None:
    folder = tmp_path / project
    folder.mkdir()
    path = f"/b$in%h/\"'\\:{os.environ['PATH']}"
    on(pc, folder, "--application", project, PATH=path)
    [supervisor] = supervisors(folder)
    environment = supervisor.environ()
    assert environment["DURABLE_WORKFLOWS_PROJECT"] == str(folder)
    assert environment["DURABLE_WORKFLOWS_APPLICATION"] == project
    assert environment["PATH"] == path
    assert shown(pc, "MainPID") == inner_pid(supervisor)
    assert status(pc, folder)["problems"] == []


@pytest.mark.long
async def test_at_the_end_of_a_session_the_supervisor_ends_and_no_step_fails_of_it(
    pc: Machine, folder: Path, tmp_path: Path
) -> None:
    write_flow(folder)
    on(pc, folder)
    begun, done = tmp_path / "begun", tmp_path / "done"
    args = json.dumps({"begun": str(begun), "done": str(done)})
    project = ["--project", str(folder)]
    pc.durable_workflows("start", "runs_a_program", "--args", args, "--id", "slow", *project)
    await until(lambda: lines(begun) == ["begun"], "the step runs")
    pc.end_session()
    assert not processes_of(folder)
    pc.lose_power()
    done.touch()
    pc.boot()
    await until(
        lambda: lines(begun) == ["begun", "begun"], "it runs again, without a client", seconds=60
    )
    assert pc.durable_workflows("wait", "slow", *project) == 'slow  SUCCESS  "done"\n'


@pytest.mark.long
def test_what_a_client_has_started_outlives_the_service_manager(pc: Machine, folder: Path) -> None:
    pc.durable_workflows("bootstrap", "--project", str(folder))
    [before] = supervisors(folder)
    on(pc, folder)
    assert shown(pc, "ActiveState") == "active"
    assert shown(pc, "MainPID") == "0"
    pc.end_session()
    assert supervisors(folder) == [before]


@pytest.mark.long
async def test_another_project_that_a_step_has_started_outlives_this_one(
    pc: Machine, folder: Path, tmp_path: Path
) -> None:
    other = (tmp_path / "other").resolve()
    other.mkdir()
    on(pc, folder)
    start = [sys.executable, "-P", "-m", "durable_workflows", "bootstrap", "--project", str(other)]
    args = json.dumps({"commands": [{"name": "other", "run": start}]})
    words = ["start", "run_commands", "--args", args, "--wait", "--project", str(folder)]
    assert '"ok": true' in pc.durable_workflows(*words)
    [before] = supervisors(other)
    pc.durable_workflows("shutdown", "--project", str(folder))
    await until(lambda: shown(pc, "SubState") == "exited", "systemd has seen its end")
    assert supervisors(other) == [before]


@pytest.mark.long
def test_switched_off_it_lets_run_what_runs_and_starts_nothing_at_the_next_boot(
    pc: Machine, folder: Path
) -> None:
    on(pc, folder)
    name = unit(pc)
    [before] = supervisors(folder)
    off = ["autostart", "off", "--project", str(folder)]
    assert pc.durable_workflows(*off) == "Autostart is off.\n"
    assert pc.durable_workflows(*off) == "Autostart is off.\n"
    assert [one for one in pc.units.rglob("*") if not one.is_dir()] == []
    assert status(pc, folder)["on"] is False
    assert supervisors(folder) == [before]
    pc.lose_power()
    pc.boot()
    assert pc.call("systemctl", "--user", "is-active", name).stdout == "inactive\n"
    assert not processes_of(folder)


@pytest.mark.long
def test_a_start_that_fails_is_said_and_tried_again_until_it_is_off(
    pc: Machine, folder: Path
) -> None:
    url = "postgresql://a:secret@127.0.0.1:1/b"
    with pytest.raises(AssertionError, match="did not start the project"):
        on(pc, folder, DBOS_DATABASE_URL=url)
    assert shown(pc, "SubState") == "auto-restart"
    name = unit(pc)
    pc.durable_workflows("autostart", "off", "--project", str(folder))
    assert pc.call("systemctl", "--user", "is-active", name).stdout == "inactive\n"


@pytest.mark.long
async def test_a_project_that_is_gone_is_said_and_not_tried_again(
    pc: Machine, tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    on(pc, folder)
    pc.lose_power()
    shutil.rmtree(folder)
    pc.boot()
    await until(lambda: shown(pc, "ActiveState") == "active", "its command has ended")
    [problem] = status(pc, folder)["problems"]
    assert "The project directory is gone" in problem
    assert not folder.exists()
    pc.durable_workflows("autostart", "off", "--project", str(folder))
    assert status(pc, folder)["on"] is False


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_project_at_rest_is_still_the_main_process_and_goes_on_when_a_run_is_due(
    pc: Machine, folder: Path, tmp_path: Path
) -> None:
    copy_flow("parking", folder)
    on(pc, folder, "--idle-exit-seconds", "10")
    file = tmp_path / "notes"
    args = json.dumps({"file": str(file), "seconds": 90})
    project = ["--project", str(folder)]
    pc.durable_workflows("start", "parked_sleeps_for", "--args", args, *project)
    await until(
        lambda: processes_of(folder) == processes_of(folder, "resting.py") != [],
        "the project rests",
        seconds=40,
    )
    [resting] = processes_of(folder)
    assert shown(pc, "MainPID") == inner_pid(resting)
    await until(lambda: "slept" in lines(file), "the run has gone on", seconds=110)
    assert shown(pc, "MainPID") == inner_pid(resting)
    pc.end_session()
    assert not processes_of(folder)


# Without one


def nowhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose service manager does not run."""
    runtime = tmp_path / "run"
    runtime.mkdir(exist_ok=True)
    return {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_RUNTIME_DIR": str(runtime),
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus",
    }


linux = pytest.mark.skipif(sys.platform != "linux", reason="about systemd")


@linux
@pytest.mark.long
def test_without_a_service_manager_it_is_an_error_and_nothing_is_written(
    folder: Path, tmp_path: Path
) -> None:
    where = nowhere(tmp_path)
    for environment in (where, where | {"PATH": str(tmp_path)}):
        failed = run("autostart", "on", folder=folder, **environment)
        assert (failed.status, failed.output) == (1, "")
        assert "does not answer this user" in failed.errors
        assert "`durable-workflows bootstrap --project DIR`" in failed.errors
        assert not (tmp_path / "config").exists()
        assert not (folder / ".dbos").exists()
        assert succeed("autostart", "off", folder=folder, **environment) == "Autostart is off.\n"
        found = run("autostart", "status", folder=folder, **environment)
        assert found == Result(0, "Autostart is off.\n", "")


@linux
@pytest.mark.long
def test_status_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    where = nowhere(tmp_path)
    file = Path(
        json.loads(succeed("autostart", "status", "--json", folder=folder, **where))["file"]
    )
    file.parent.mkdir(parents=True)
    manager = Systemd(Settings(project=folder))
    file.write_text(manager.text(["/gone/python", "-m", "it"], {}), encoding="utf-8")
    found = json.loads(succeed("autostart", "status", "--json", folder=folder, **where))
    assert found["on"] is True
    assert found["enabled"] is None
    gone, unanswered = found["problems"]
    assert "(/gone/python) is gone" in gone
    assert "does not answer this user" in unanswered
    file.write_text("[Service]\n", encoding="utf-8")
    assert "(unknown) is gone" in succeed("autostart", "status", folder=folder, **where)
    assert succeed("autostart", "off", folder=folder, **where) == "Autostart is off.\n"
    assert not file.exists()


@linux
@pytest.mark.parametrize(
    ("lingers", "when", "said"),
    [
        ("no", "start when you log in.", True),
        ("yes", "start at boot.", False),
    ],
)
def test_lingering_is_spoken_of_only_where_it_is_off(
    folder: Path, tmp_path: Path, lingers: str, when: str, *, said: bool
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "loginctl").write_text(f"#!/bin/sh\necho Linger={lingers}\n", encoding="utf-8")
    (programs / "loginctl").chmod(0o755)
    where = nowhere(tmp_path) | {"PATH": str(programs)}
    file = Path(
        json.loads(succeed("autostart", "status", "--json", folder=folder, **where))["file"]
    )
    file.parent.mkdir(parents=True)
    file.touch()
    found = run("autostart", "status", folder=folder, **where)
    assert when in found.output
    assert ("loginctl enable-linger" in found.errors) is said


async def test_on_another_system_it_is_an_error_that_says_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for call in (autostart.switch_off, autostart.look):
        with pytest.raises(AutostartFailed, match="win32 has neither") as failed:
            call(settings)
        assert "`durable-workflows bootstrap --project DIR`" in failed.value.hint
    with pytest.raises(AutostartFailed):
        await autostart.switch_on(settings)


# The files


@linux
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_finds_no_fault_with_a_unit(tmp_path: Path) -> None:
    program = tmp_path / "p y %h $x" / "python"
    program.parent.mkdir()
    program.symlink_to("/bin/true")
    manager = Systemd(Settings(project=tmp_path / NASTY))
    path = tmp_path / manager.file.name
    path.write_text(manager.text([str(program), *COMMAND[1:]], ENVIRONMENT), encoding="utf-8")
    verify = ["systemd-analyze", "verify", "--user", str(path)]
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    ended = subprocess.run(
        verify, env=os.environ | runtime, capture_output=True, encoding="utf-8", check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_unit_tells_its_program(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Systemd(settings)
    monkeypatch.setattr(manager, "file", settings.project / "unit")
    manager.file.write_text(manager.text(COMMAND, ENVIRONMENT), encoding="utf-8")
    assert manager.program() == COMMAND[0]


def test_launchd_gets_what_it_reads(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Launchd(settings)
    monkeypatch.setattr(manager, "file", settings.project / "agent.plist")
    command = [word.replace("\x7f", "") for word in COMMAND]
    manager.file.write_text(manager.text(command, ENVIRONMENT), encoding="utf-8")
    agent = plistlib.loads(manager.file.read_bytes())
    assert agent.pop("ProgramArguments") == command
    assert agent.pop("EnvironmentVariables") == ENVIRONMENT
    assert agent.pop("Label") == Launchd(settings).file.stem
    # launchd.plist(5)
    assert agent == {
        "RunAtLoad": True,
        "AbandonProcessGroup": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 60,
    }
    assert manager.program() == command[0]
    if shutil.which("plutil"):
        subprocess.run(["plutil", "-lint", str(manager.file)], check=True)
    for damaged in ("", "<plist>", plistlib.dumps({"ProgramArguments": []}).decode()):
        manager.file.write_text(damaged, encoding="utf-8")
        assert manager.program() == ""


def test_projects_of_one_name_have_files_of_their_own(tmp_path: Path) -> None:
    names = [
        Systemd(Settings(project=tmp_path / folder)).file.name
        for folder in ("a/Shop & Söhne", "b/Shop & Söhne", "日本", "x" * 200)
    ]
    assert len(set(names)) == len(names)
    slugs = [name.removeprefix("durable-workflows-")[: -len("-12345678.service")] for name in names]
    assert slugs == ["shop-s-hne", "shop-s-hne", "project", "x" * 30]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AutostartFailed, match="unit cannot be changed: File exists"):
        autostart._write(tmp_path / "file" / "unit", "text")
    with pytest.raises(UsageError, match="is not UTF-8"):
        autostart._write(tmp_path / "unit", "caf\udce9")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_out_of_an_environment_of_uvx_it_is_started_by_uvx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [
        sys.executable,
        "-P",
        "-m",
        "durable_workflows.entry",
        "durable_workflows.processes.autostart",
    ]
    assert autostart._command() == ours
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "uv" / "archive-v0" / "x1y2"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AutostartFailed, match="`uvx` is not on the PATH"):
        autostart._command()
    uvx = tmp_path / "uvx"
    uvx.touch(mode=0o755)
    started = [str(uvx), "--from", "durable-workflows", "python"]
    assert autostart._command() == [*started, *ours[1:]]


def test_the_settings_that_are_set_are_written_down_and_no_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS_DATABASE_URL", "postgresql://a:secret@h/d")
    monkeypatch.setenv("DURABLE_WORKFLOWS_EXECUTOR", "none of them")
    assert Settings(project=settings.project, old_workers=5).chosen() == {
        "DBOS_DATABASE_URL": "postgresql://a:secret@h/d",
        "DURABLE_WORKFLOWS_OLD_WORKERS": "5",
    }
