"""Every error that this software raises on purpose.

Each has a message that says what happened and a hint that says what to do next; the reader is often a model.
A class's docstring is its default message. The tree:

    DurableWorkflowsError
    ├── UsageError                    the request is wrong or impossible; nothing changed
    │   ├── UnknownWorkflow
    │   ├── WorkflowUnavailable
    │   ├── NameTaken
    │   ├── InvalidArguments
    │   ├── UnknownWorkflowId
    │   ├── WorkflowIdTaken
    │   ├── UnknownStep
    │   ├── UnknownSchedule
    │   ├── ScheduleTaken
    │   ├── WorkflowFinished
    │   ├── MessageTooLarge
    │   ├── PeopleOnly
    │   ├── NotWaiting
    │   ├── NotInDoubt
    │   ├── WouldRepeat
    │   ├── StillRunning
    │   ├── CannotAsk
    │   ├── AlreadyAnswered
    │   ├── ExportDamaged
    │   ├── BackupDamaged
    │   ├── BackupTooNew
    │   └── InvalidProject
    ├── RunsFailed                    more runs that a workflow started failed than it tolerates
    ├── DeadlinePassed                what a workflow waited for did not happen in time
    ├── StepTimeout                   a step was not done in time
    ├── CallbackFailed                who was to call a workflow back said that it failed
    ├── CallbackTimeout               no answer to a callback came in time
    │   └── HeartbeatTimeout          nor gave a sign of life
    ├── SetupError                    something on this machine must be fixed first
    │   ├── StateDirectoryUnusable
    │   ├── NoSpaceLeft
    │   ├── PortTaken
    │   ├── NodeFailed
    │   ├── PGliteNotInstalled
    │   ├── PostgresFailed
    │   ├── PostgresNotInstalled
    │   ├── PageNotBuilt
    │   ├── DataDirectoryLocked
    │   ├── DataDirectoryLost
    │   ├── DataDirectoryDamaged
    │   ├── DataDirectoryIncompatible
    │   ├── TablesNewer
    │   ├── DatabaseRefused
    │   ├── OtherDatabase
    │   ├── OtherEngine
    │   ├── ProjectMoved
    │   ├── PythonUnusable
    │   ├── AutostartFailed
    │   └── SupervisorFailed
    ├── DatabaseUnavailable           the database does not answer (now)
    │   ├── TooManyConnections        the Postgres has no connection left
    │   └── DatabaseSilent            it takes connections and does not answer
    ├── NotRecordable                 a value of a run cannot be recorded
    └── NotRestorable                 a recorded value does not fit the version's code
"""

import inspect


class DurableWorkflowsError(Exception):
    """Something went wrong in durable-workflows."""

    hint: str = "Call server_status to see what is running and any problems."

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or "")
        if hint is not None:
            self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        between = "\n" if "\n" in self.message else " "
        return f"{self.message}{between}{self.hint}".strip()


class UsageError(DurableWorkflowsError):
    """Request rejected; nothing changed."""

    hint = "Correct the request and call again."


class UnknownWorkflow(UsageError):
    """There is no workflow with that name."""

    hint = "Call workflow_catalog to see the registered names."


class WorkflowUnavailable(UsageError):
    """The file that defines this workflow does not load."""

    hint = "Repair the file, then call again; the new version is picked up automatically."


class NameTaken(UsageError):
    """Two workflow files register the same name; only the first is loaded."""

    hint = 'Rename one of the workflows: `@DBOS.workflow(name="…")`.'


class InvalidArguments(UsageError):
    """The arguments do not fit the workflow."""

    hint = "Call workflow_catalog with the workflow's name to see its args_schema."


class UnknownWorkflowId(UsageError):
    """There is no run with that workflow_id."""

    hint = "Call list_workflows to see the runs of this project."


class WorkflowIdTaken(UsageError):
    """That workflow_id belongs to a run of another workflow."""

    hint = "Choose another workflow_id, or omit it to get a generated one."


class UnknownStep(UsageError):
    """The run has no such step."""

    hint = "Call inspect to see the run's steps and their numbers."


class UnknownSchedule(UsageError):
    """There is no schedule with that name."""

    hint = "Call schedule to see the schedules."


class ScheduleTaken(UsageError):
    """There is another schedule with that name."""

    hint = "Choose another name, or pass `replace` to change that schedule."


class WorkflowFinished(UsageError):
    """The run has ended; it accepts no more messages."""

    hint = "Call inspect to see which step received a message on this topic; fork the run from that step, and send the message to the fork."


class MessageTooLarge(UsageError):
    """The data exceeds the limit of 1 MB."""

    hint = "Write the data to a file in the project and pass its path instead."


class PeopleOnly(UsageError):
    """This topic accepts answers from people only."""

    hint = "Call answer_in_person so that the person at this client can answer, or have them run `durable-workflows approve` in a terminal."


class NotWaiting(UsageError):
    """The run no longer waits for this."""

    hint = "Call inspect to see what the run does now."


class NotInDoubt(UsageError):
    """The step is not in doubt."""

    hint = "Call inspect to see the run's steps, and which of them is in doubt. A step is in doubt once its run has gone on after the end of a process and has come to it again."


class WouldRepeat(UsageError):
    """A step that must not happen twice would run again."""

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        steps: tuple[int, ...] = (),
    ) -> None:
        """`steps` are those of the run that was to be forked."""
        super().__init__(message, hint=hint)
        self.steps = steps


class StillRunning(UsageError):
    """The run is under way."""

    hint = "Cancel it, then call again; or fork it, which leaves it as it is."


class CannotAsk(UsageError):
    """This client cannot ask the person."""

    hint = "Show the question to the person, and have them run `durable-workflows approve` in a terminal."


class AlreadyAnswered(UsageError):
    """This question was answered before; the first answer counts."""

    hint = "Call inspect to see the answer and who gave it."


class ExportDamaged(UsageError):
    """The file is damaged, or no export of a run."""

    hint = "Copy the file again, or export the run again. Nothing was imported."


class BackupDamaged(UsageError):
    """The file is damaged, or no backup."""

    hint = "Restore another one: `durable-workflows restore --newest` takes the newest in .dbos/backups that is whole. Nothing was changed."


class BackupTooNew(UsageError):
    """The backup was made by a newer version of durable-workflows."""

    hint = "Update durable-workflows, then restore it again. Nothing was changed."


class InvalidProject(UsageError):
    """The project directory does not exist or is not a directory."""

    hint = "Pass an existing directory with --project, or start in one."


class RunsFailed(DurableWorkflowsError):
    """More of the runs that this workflow started have failed than it tolerates."""

    hint = "Call inspect with the workflow_id of a failed run to see why it failed. Once its cause is gone, start this workflow again."


class DeadlinePassed(DurableWorkflowsError):
    """What this workflow waited for did not happen before the deadline."""

    hint = "Call inspect to see what each look found. If it may still happen, fork the run from the step that set the deadline, or start it again."


class StepTimeout(DurableWorkflowsError):
    """A step was not done in its time, and was cancelled."""

    hint = "Call inspect to see what the step printed. Give it a longer `timeout`, or `retry`; then fork the run from this step."


class CallbackFailed(DurableWorkflowsError):
    """The program that was to call this workflow back said that it failed."""

    hint = "If its cause is gone, start the workflow again, or fork the run from the step that made the callback: then the program is asked again."


class CallbackTimeout(DurableWorkflowsError):
    """This workflow was not called back in time."""

    hint = "Look at the program that was to call back. Then start the workflow again, or fork the run from the step that made the callback: then the program is asked again."


class HeartbeatTimeout(CallbackTimeout):
    """The program that was to call this workflow back gave no sign of life for too long."""


class SetupError(DurableWorkflowsError):
    """This machine is not ready to run durable workflows."""


class StateDirectoryUnusable(SetupError):
    """The state directory cannot be created or written to."""

    hint = (
        "Make the project directory writable for this user, or choose another one with --project."
    )


class NoSpaceLeft(SetupError):
    """No space is left on the device that holds the state directory."""

    hint = "Free some space, then call again: every finished step is kept."


class PortTaken(SetupError):
    """The port for the database is in use by another program."""

    hint = "Unset DURABLE_WORKFLOWS_PORT to use a free port, or set another one."


class NodeFailed(SetupError):
    """Node, which runs the embedded database, did not start."""

    hint = "Read the end of its log above; `durable-workflows status` shows where the whole log is."


class PGliteNotInstalled(SetupError):
    """PGlite, the embedded database, could not be installed from the npm registry."""

    hint = (
        "Check that the npm registry is reachable. If your network has its own certificate authority, set NODE_USE_SYSTEM_CA=1, or set NODE_EXTRA_CA_CERTS to its file."
        " Or set DBOS_DATABASE_URL to use your own Postgres."
    )


class PostgresFailed(SetupError):
    """Postgres, which runs in the project's folder, did not start."""

    hint = "Read what it said above; `durable-workflows status` shows where its whole log is. Or unset DURABLE_WORKFLOWS_ENGINE to use PGlite."


class PostgresNotInstalled(SetupError):
    """Postgres is not installed, and DURABLE_WORKFLOWS_ENGINE asks for it."""

    hint = "Install `durable-workflows[postgres]`, or unset DURABLE_WORKFLOWS_ENGINE to use PGlite."


class PageNotBuilt(SetupError):
    """The page could not be built from its sources."""

    hint = "Check that the npm registry is reachable, then open the page again. A released package brings the page along, and builds nothing."


class DataDirectoryLocked(SetupError):
    """Another process holds the data directory of the embedded database."""

    hint = "Run `durable-workflows shutdown` in that project, then try again."


class DataDirectoryLost(SetupError):
    """The data directory of this project's embedded database is gone."""

    hint = "Put the directory back from where it was moved, or run `durable-workflows restore FILE` with a backup: it holds the runs. To start over without them, remove the file .dbos/pgdata.made."


class DataDirectoryDamaged(SetupError):
    """Postgres cannot open the data directory of this project's embedded database."""

    hint = "Undo what was changed in .dbos/pgdata, or run `durable-workflows restore FILE` with a backup. To start over without its runs, move .dbos/pgdata away and remove the file .dbos/pgdata.made. The directory is left as it is until then."


class DataDirectoryIncompatible(SetupError):
    """The data directory of this project's embedded database was made by another version of Postgres, which this one cannot read."""

    hint = "Nothing was changed. Install the release of durable-workflows that used this project last. To come here with all runs, take them to a Postgres with it: `durable-workflows move`. After a step back to an earlier release, `durable-workflows restore --newest` takes the backup from before the upgrade."


class TablesNewer(SetupError):
    """The tables of this project were made by a newer release of durable-workflows."""

    hint = "Nothing was changed. Install that release or a newer one here. To go back to this release, run `durable-workflows restore --newest`: it takes the backup from before the upgrade."


class DatabaseRefused(SetupError):
    """The Postgres at DBOS_DATABASE_URL cannot be used."""

    hint = "Correct DBOS_DATABASE_URL (it looks like postgresql://user:password@host:5432/database), or unset it to use the embedded database."


class OtherDatabase(SetupError):
    """The project runs on a different database from the one in the settings."""

    hint = "Run `durable-workflows shutdown`, then call again to start on the database in the settings. To take the runs along, run `durable-workflows move`."


class OtherEngine(SetupError):
    """The runs of this project are in its other embedded database."""

    hint = "Change DURABLE_WORKFLOWS_ENGINE, or take the runs along with `durable-workflows move`."


class ProjectMoved(SetupError):
    """The runs of this project were moved to another database."""

    hint = "Set DBOS_DATABASE_URL to that Postgres, or DURABLE_WORKFLOWS_ENGINE to that engine. The data here is a backup; to use it instead, remove the file .dbos/moved (or .dbos/postgres.moved)."


class PythonUnusable(SetupError):
    """The interpreter in the setting `python` cannot run workflow code."""

    hint = "Install durable-workflows into its environment, or unset DURABLE_WORKFLOWS_PYTHON."


class AutostartFailed(SetupError):
    """The service manager of this user cannot start the project."""

    hint = "Call again in a login session of this user, not through su or sudo. On a machine without systemd or launchd, as in a container, have another scheduler run `durable-workflows bootstrap --project DIR` after each boot, such as cron with `@reboot`."


class SupervisorFailed(SetupError):
    """The supervisor did not start."""

    hint = "Read the end of its log above; `durable-workflows status` shows where the whole log is."


class DatabaseUnavailable(DurableWorkflowsError):
    """The database does not answer."""

    hint = "Try again in a few seconds: it restarts automatically. `durable-workflows status` shows its state."


class TooManyConnections(DatabaseUnavailable):
    """The database takes no further connection."""

    hint = "End programs that hold connections, run fewer workers, or raise max_connections of the Postgres at DBOS_DATABASE_URL; then call again. A worker, its supervisor and a server take eleven. Nothing is lost: runs go on once there is room."


class DatabaseSilent(DatabaseUnavailable):
    """The database takes connections but has not answered for half a minute."""

    hint = "Call again later: it may be busy with a long statement of a workflow. If it stays silent, run `durable-workflows shutdown`; the next call starts it again, and nothing recorded is lost."


class NotRecordable(DurableWorkflowsError, TypeError):
    """A value of this run cannot be recorded."""

    hint = "Return plain values, or dataclasses, pydantic models, enums and named tuples of classes at the top of the workflow files. Then fork the run."


class NotRestorable(DurableWorkflowsError, TypeError):
    """A recorded value does not fit the code of this version."""

    hint = "Give the class back its place, its name and its fields, or fork the run from the step that recorded the value."
