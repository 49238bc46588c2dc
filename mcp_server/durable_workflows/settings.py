"""The settings of one process, and the names that server, supervisor and worker share.

The only reader of `os.environ`. A process reads its settings once, passes them down, and hands them to the
processes that it starts with `as_environment`.
"""

import os
import re
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import dotenv
import platformdirs
from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

APPLICATION = (
    "durable-workflows"  # DBOS's application name: a constant, the project may be moved or renamed
)
QUEUE = "workflows"  # the queue of starts whose caller names none
MAX_PAYLOAD_BYTES = 1_000_000  # arguments and messages, as JSON
MAX_PAYLOAD_LEVELS = 200  # of them: dbos cannot record much deeper ones
FOREVER_SECONDS = 100 * 365 * 86_400.0  # a wait without a limit: DBOS requires a number
LATEST = "latest"  # in place of a version: that of the code as it is now
PARKED = "parked"  # the executor of runs that wait outside of any process
NEVER_PARKS = "__does_not_park__"  # an attribute of a workflow's function: its runs are not parked
ENDS_CHILDREN = "__ends_children__"  # as well: what its runs have started ends with them
PERSON = "person:"  # a topic with this prefix takes messages from people only
CALLBACK = "callback:"  # the topic of a callback, with the number of its step and its name
DOUBT = "doubt:"  # the topic of a wait in which a step is in doubt, with its number; for people only, `PERSON` stands before it
Engine = Literal["pglite", "postgres"]
ENGINES: tuple[Engine, ...] = ("pglite", "postgres")
_OWN = "DURABLE_WORKFLOWS_"
DOTENV = f"{_OWN}DOTENV"  # for workers: the names of the variables that the project's .env has
_URL = "DBOS_DATABASE_URL"
_LONGEST_SLUG = 30  # of the name in schemas and channels: Postgres cuts their names at 63
# More gain nothing, neither on the one session of PGlite nor on two processors.
_CONNECTIONS = 8
_SHARED_CONNECTIONS = 3  # so that eight workers fit into a Postgres as it comes


@dataclass(frozen=True)
class Database:
    """The place of a project's rows: a database, and the two schemas in it that belong to the project.

    Names that are unique per schema in DBOS (of versions, queues, schedules) are so unique per project.
    """

    url: str = field(repr=False)
    schema: str = "durable_workflows"  # our own tables
    dbos_schema: str = "dbos"  # the tables of DBOS

    @property
    def is_embedded(self) -> bool:
        """Whether it is the project's embedded database. Schemas in other databases have the project's name in theirs."""
        return self.dbos_schema == Database.dbos_schema

    @property
    def runs_channel(self) -> str:
        """NOTIFY: status, queue and workflow_id at each change of a run's status, separated by tabs."""
        return f"{self.schema}_runs"

    @property
    def wanted_channel(self) -> str:
        """NOTIFY: a version that has a run to execute and no worker."""
        return f"{self.schema}_wanted"

    @property
    def activity_channel(self) -> str:
        """NOTIFY: a workflow_id whose waits, running steps or log changed."""
        return f"{self.schema}_activity"


class Settings(BaseSettings):
    """The settings, from `DURABLE_WORKFLOWS_<NAME>` or the CLI flag of the same name."""

    model_config = SettingsConfigDict(
        env_prefix=_OWN, env_ignore_empty=True, frozen=True, populate_by_name=True, extra="ignore"
    )

    project: Path = Field(
        default_factory=Path.cwd,
        validation_alias=AliasChoices("DURABLE_WORKFLOWS_PROJECT", "CLAUDE_PROJECT_DIR"),
        description="The project directory; its state is in .dbos/ there. Default: CLAUDE_PROJECT_DIR, else the working directory.",
    )
    database_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices(_URL),
        repr=False,
        description="An external Postgres (14 or newer): postgresql://user:password@host:5432/database. Default: the embedded database.",
    )
    engine: Engine = Field(
        default="pglite",
        description="What serves the embedded database: pglite, or postgres, a real PostgreSQL in the project's folder (from durable-workflows[postgres]).",
    )
    application: str = Field(
        default="",
        description="The project's name in an external Postgres, where each project has schemas of its own; the same on all its machines. Default: the project directory's name.",
    )
    python: Path | None = Field(
        default=None,
        description="The interpreter that runs workflow code; durable-workflows must be installed there. Default: the interpreter of this command, with the libraries that workflow files declare (PEP 723).",
    )
    workflows: Path = Field(
        default=Path("workflows"),
        description="The folder of workflow files, in the project directory.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="The embedded database's port on the loopback interface; 0 means the last one used, else any free one.",
    )
    cache: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("durable-workflows"),
        description="Where PGlite, a pristine data directory and environments of workflow code are kept, once per user. Default: the user's cache directory.",
    )
    idle_exit_seconds: float = Field(
        default=900.0,
        gt=0,
        description="How many seconds the processes stay when no run is unfinished and no client is connected.",
    )
    old_workers: int = Field(
        default=3,
        ge=1,
        description="How many workers may serve older versions at once; other versions wait their turn.",
    )
    concurrency: int = Field(
        default=500,
        ge=1,
        description="How many runs of the default queue one worker may have in memory at once.",
    )
    connections: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="How many connections to the database a worker has for the steps of all its runs; some more are for other purposes. Default: 3 for an external Postgres, else 8.",
    )
    park_after_seconds: float = Field(
        default=5.0,
        ge=0,
        description="How many seconds a run waits in memory before it is parked. 0: no run is parked.",
    )
    keep_days: float | None = Field(
        default=None,
        gt=0,
        description="How many days ended runs are kept. Default: forever.",
    )
    keep_answers_days: float | None = Field(
        default=None,
        gt=0,
        description="How many days answers of people are kept. Default: forever.",
    )
    backups: int = Field(
        default=3,
        ge=0,
        description="How many automatic backups of the embedded database are kept in .dbos/backups. 0: none is made.",
    )
    backup_hours: float = Field(
        default=24.0,
        gt=0,
        description="How many hours pass between two automatic backups. One more is made before each upgrade.",
    )
    backup_megabytes: float = Field(
        default=500.0,
        gt=0,
        description="How much space the automatic backups may take.",
    )
    notify: str = Field(
        default="",
        description="A shell command to run when a run ends or asks a person. Default: none.",
    )
    idle_transaction_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How many seconds a client of the embedded database may leave a transaction idle.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="What the processes write to .dbos/logs/: DEBUG, INFO, WARNING or ERROR.",
    )

    @field_validator("project")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.project / ".dbos"

    @property
    def workflow_folder(self) -> Path:
        """The folder of the project's own workflow files (it need not exist)."""
        return self.project / self.workflows

    @property
    def embedded(self) -> bool:
        """Whether the database is in the project's folder, and the project's alone."""
        return self.database_url is None

    @property
    def one_session(self) -> bool:
        """Whether all clients of the database share one session, as PGlite's do: a transaction makes all others wait."""
        return self.embedded and self.engine == "pglite"

    @property
    def run_connections(self) -> int:
        """How many connections a worker has for the steps of its runs. Those of an external Postgres are shared by many workers."""
        return self.connections or (_CONNECTIONS if self.embedded else _SHARED_CONNECTIONS)

    def database(self, url: str) -> Database:
        """The project's place in the database at `url`. The embedded database is the project's alone; others may be shared."""
        if self.embedded:
            return Database(url)
        name = re.sub(r"[^a-z0-9]+", "_", (self.application or self.project.name).lower())
        slug = name.strip("_")[:_LONGEST_SLUG] or "project"
        return Database(url, f"durable_workflows_{slug}", f"dbos_{slug}")

    def as_environment(self) -> dict[str, str]:
        """The environment for a process that must have the same settings."""
        given = {name: value for name, value in os.environ.items() if name != _URL}
        return {**given, **self._as_variables()}

    def chosen(self) -> dict[str, str]:
        """The settings that were set explicitly, as variables, without the project.

        The others have the defaults of the release that reads them.
        """
        names = {_variable(name) for name in self.model_fields_set - {"project"}}
        return {name: value for name, value in self._as_variables().items() if name in names}

    def _as_variables(self) -> dict[str, str]:
        return {_variable(name): str(value) for name, value in self if value is not None}

    def dotenv(self) -> Mapping[str, str]:
        """The variables that the project's `.env` adds to the environment of workflow code.

        It adds no variable that is already set, and none of our settings.
        """
        found = dotenv.dotenv_values(self.project / ".env")
        return {
            name: value
            for name, value in found.items()
            if value is not None and name not in os.environ and not _is_setting(name)
        }

    def dotenv_names(self) -> list[str]:
        """The variables of the project's `.env`, including those that are already set, without our settings."""
        return [
            name for name in dotenv.dotenv_values(self.project / ".env") if not _is_setting(name)
        ]

    def misplaced(self) -> list[str]:
        """Our settings in the project's `.env`: they are not read from there."""
        return [name for name in dotenv.dotenv_values(self.project / ".env") if _is_setting(name)]


_hiding = threading.Lock()


@contextmanager
def without_variable(name: str) -> Generator[None]:
    """Hide a variable from C libraries for a moment. `os.environ` keeps it, and gives it back to them."""
    value = os.environ.get(name)
    if value is None:
        yield
        return
    with _hiding:
        os.unsetenv(name)
        try:
            yield
        finally:
            os.putenv(name, value)


def _variable(name: str) -> str:
    """The variable of a setting."""
    return _URL if name == "database_url" else f"{_OWN}{name.upper()}"


def _is_setting(name: str) -> bool:
    return name == _URL or name.startswith(_OWN)
