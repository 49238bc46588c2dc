"""Findings of `doctor`: what a check has seen, and the command that mends it."""

import logging
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from durable_workflows.cli import command_words
from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.settings import Settings
from durable_workflows.system import backups, files

Level = Literal["ok", "note", "wrong"]
Fix = Callable[[], str]
_COMMAND = re.compile(r"`((?:durable-workflows|\S*python\S*) [^`]+)`")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """What a check has seen. `mend` is a command for a shell; `fix`, which `--fix` calls, does it and returns what was done."""

    level: Level
    said: str
    mend: str | None = None
    fix: Fix | None = field(default=None, repr=False, compare=False)
    check: str = ""  # its name

    def as_json(self) -> dict[str, object]:
        """The finding for programs."""
        return {
            "check": self.check,
            "level": self.level,
            "said": self.said,
            "mend": self.mend,
            "fixable": self.fix is not None,
        }


Check = Callable[[Settings], Iterable[Finding]]


def ok(said: str) -> Finding:
    """All is well."""
    return Finding("ok", said)


def note(said: str, mend: str | None = None) -> Finding:
    """Nothing is wrong, but a person may want to know."""
    return Finding("note", said, mend)


def wrong(said: str, mend: str | None = None, fix: Fix | None = None) -> Finding:
    """Something is wrong."""
    return Finding("wrong", said, mend, fix)


def of_text(said: str) -> Finding:
    """What another part of the project calls a problem. The command is the first one in its text."""
    text = command_words.in_terminal(said)
    found = _COMMAND.search(text)
    return wrong(text, found[1] if found else None)


def of_error(error: DurableWorkflowsError) -> Finding:
    """The problem that an error tells, with its hint."""
    return of_text(str(error))


def carried_out(name: str, check: Check, settings: Settings) -> list[Finding]:
    """The findings of a check. A check that fails is a finding too, and the others are carried out all the same."""
    try:
        found = list(check(settings))
    except DurableWorkflowsError as error:
        found = [of_error(error)]
    except OSError as error:
        found = [of_error(files.translate(error, settings.state))]
    except Exception as error:  # whatever is broken, the reader wants the other findings
        logger.exception("This check failed: %s", name)
        found = [wrong(f"This could not be looked at ({type(error).__name__}; see the log above).")]
    return [replace(one, check=name, mend=_for_project(one.mend, settings)) for one in found]


def _for_project(mend: str | None, settings: Settings) -> str | None:
    """The command, so that it works from this directory."""
    if mend is None or not mend.startswith("durable-workflows ") or "--project" in mend:
        return mend
    here = settings.project == Path.cwd()
    return mend if here else f"{mend} --project {quoted(settings.project)}"


def quoted(*words: str | Path) -> str:
    """Words of a command, quoted for a shell."""
    return shlex.join(str(word) for word in words)


def restoring(settings: Settings) -> str | None:
    """The command that mends a damaged database; None: there is no backup in the project's folder."""
    is_there = settings.embedded and any(backups.kept(settings))
    return "durable-workflows restore --newest" if is_there else None
