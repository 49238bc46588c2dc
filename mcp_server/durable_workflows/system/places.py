"""The paths in the state directory, `<project>/.dbos/`."""

from pathlib import Path

from durable_workflows.errors import DurableWorkflowsError
from durable_workflows.settings import Engine, Settings
from durable_workflows.system import locks

# What holds the lock of each engine's data directory, by its name on command lines.
HOLDERS: dict[Engine, str] = {"pglite": "pglite.mjs", "postgres": "keeper.py"}


def ignored(settings: Settings) -> Path:
    """Makes git ignore everything here."""
    return settings.state / ".gitignore"


def identity(settings: Settings) -> Path:
    """The identity of the directory, and its inode."""
    return settings.state / "id"


def connection(settings: Settings) -> Path:
    """How to reach the running database."""
    return settings.state / "connection.json"


def report(settings: Settings) -> Path:
    """What the supervisor reports of its processes."""
    return settings.state / "supervisor.json"


def password(settings: Settings) -> Path:
    """The password of the embedded database."""
    return settings.state / "password"


def port(settings: Settings) -> Path:
    """The port of the embedded database when it was last reachable."""
    return settings.state / "port"


def token(settings: Settings) -> Path:
    """The token of the HTTP server. A user who can read it can do everything that the tools can do."""
    return settings.state / "token"


def moved(settings: Settings) -> Path:
    """The new place of the embedded database's runs, if they were moved."""
    return settings.state / ("moved" if settings.engine == "pglite" else "postgres.moved")


def news(settings: Settings) -> Path:
    """The news for clients, in words, while nothing runs: a file for each."""
    return settings.state / "news"


def data(settings: Settings) -> Path:
    """The data directory of the embedded database; each engine has its own."""
    return settings.state / ("pgdata" if settings.engine == "pglite" else "postgres")


def hint(kind: type[DurableWorkflowsError], data: Path) -> str:
    """What to do about an error of that class on a data directory: the class speaks of PGlite's."""
    return kind.hint.replace("pgdata", data.name)


def made(settings: Settings) -> Path:
    """Notes that the project has an embedded database."""
    return data(settings).with_suffix(".made")


def backups(settings: Settings) -> Path:
    """Backups of the embedded database; each engine has its own."""
    return settings.state / ("backups" if settings.engine == "pglite" else "postgres.backups")


def staged(settings: Settings) -> Path:
    """A copy of the data directory that is about to become a backup."""
    return backups(settings) / "staged"


def backup_lock(settings: Settings) -> Path:
    """Held while a backup is made or restored."""
    return lock_files(settings) / "backup"


def opened(settings: Settings) -> Path:
    """The software that has opened the embedded database last."""
    return data(settings).with_suffix(".opened")


def restored(settings: Settings, stamp: str) -> Path:
    """A restored data directory that is about to get into its place."""
    return data(settings).with_suffix(f".restored-{stamp}")


def set_aside(settings: Settings, stamp: str) -> Path:
    """The data directory that a restored one has replaced."""
    return data(settings).with_suffix(f".before-{stamp}")


def code(settings: Settings) -> Path:
    """Copies of the versions of the code, which workers run."""
    return settings.state / "code"


def kept(settings: Settings) -> Path:
    """Files that runs wrote beside their code."""
    return settings.state / "kept"


def logs(settings: Settings) -> Path:
    """The logs of the processes."""
    return settings.state / "logs"


def lock_files(settings: Settings) -> Path:
    """The locks other than the two of the supervisor and the database."""
    return settings.state / "locks"


def supervisor_lock(settings: Settings) -> locks.Guard:
    """Held by the supervisor for its life."""
    return locks.Guard(settings.state / "lock", settings.state)


def database_lock(settings: Settings) -> locks.Guard:
    """Held by Node, or by Postgres, for as long as it has the data directory open."""
    return locks.Guard(data(settings).with_suffix(".lock"), data(settings))


def clients_lock(settings: Settings) -> Path:
    """Shared by the connected MCP servers and commands. Earlier releases used it for servers only."""
    return lock_files(settings) / "servers"


def log_file(settings: Settings, name: str) -> Path:
    """The log of a process."""
    return logs(settings) / f"{name}.log"
