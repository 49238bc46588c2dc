"""The settings of one process, and the names that server, supervisor and worker share.

The only reader of `os.environ`. A process reads its settings once, passes them down, and hands them to the
processes that it starts with `as_environment`.
"""

import os
import re
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SCHEMA = "durable_workflows"  # our own tables; DBOS keeps its own in DBOS_SCHEMA
DBOS_SCHEMA = "dbos"
QUEUE = "workflows"  # the queue that starts go to when the caller names none
EMBEDDED_APPLICATION = "durable-workflows"  # a constant: the project may be moved or renamed
RUNS_CHANNEL = "durable_workflows_runs"  # NOTIFY: status, queue and workflow_id at each change of a run's status, with tabs between
ACTIVITY_CHANNEL = (
    "durable_workflows_activity"  # NOTIFY: a workflow_id whose waits or running steps changed
)
MAX_PAYLOAD_BYTES = 1_000_000  # arguments and messages, as JSON


class Settings(BaseSettings):
    """What can be set, by `DURABLE_WORKFLOWS_<NAME>` or by the CLI flag of the same name."""

    model_config = SettingsConfigDict(
        env_prefix="DURABLE_WORKFLOWS_", frozen=True, populate_by_name=True, extra="ignore"
    )

    project: Path = Field(
        default_factory=Path.cwd,
        validation_alias=AliasChoices("DURABLE_WORKFLOWS_PROJECT", "CLAUDE_PROJECT_DIR"),
        description="The project directory. Default: CLAUDE_PROJECT_DIR, else the working directory.",
    )
    database_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DBOS_DATABASE_URL"),
        repr=False,
        description="An external Postgres. Default: none, the embedded one is used.",
    )
    workflows: Path = Field(
        default=Path("workflows"),
        description="The folder of workflow files, in the project directory.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="The embedded database's port on the loopback interface. 0: the last one used, else any free one.",
    )
    cache: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("durable-workflows"),
        description="Where PGlite and the pristine data directory are kept, once per user.",
    )
    idle_exit_seconds: float = Field(
        default=900.0,
        gt=0,
        description="How long the supervisor stays when no run is unfinished and no server is connected.",
    )
    old_workers: int = Field(
        default=3,
        ge=1,
        description="How many workers may serve older versions at once; further versions wait their turn.",
    )
    concurrency: int = Field(
        default=500,
        ge=1,
        description="How many runs of the default queue one worker has under way at once, those that wait included.",
    )
    idle_transaction_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long a client of the embedded database may leave a transaction idle.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="What the processes write to their logs."
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
        """Whether the database is the embedded one."""
        return self.database_url is None

    @property
    def application(self) -> str:
        """The DBOS application name, which owns the rows of this project."""
        if self.embedded:
            return EMBEDDED_APPLICATION
        slug = re.sub(r"[^a-z0-9_-]+", "-", self.project.name.lower()).strip("-")
        return f"dw-{slug}"[:200]

    def as_environment(self) -> dict[str, str]:
        """The environment for a process that shall have the same settings."""
        own = {
            f"DURABLE_WORKFLOWS_{name.upper()}": str(value)
            for name, value in self
            if name != "database_url"
        }
        url = {"DBOS_DATABASE_URL": self.database_url} if self.database_url else {}
        return {**os.environ, **own, **url}
