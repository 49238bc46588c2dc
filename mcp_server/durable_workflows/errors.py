"""Every error that this software raises on purpose.

Each has a message that says what happened and a hint that says what to do next; the reader is often a model.
A class's docstring is its default message. The tree:

    DurableWorkflowsError
    ├── UsageError                    the caller asked for something that cannot be; nothing was changed
    │   ├── UnknownWorkflow
    │   ├── WorkflowUnavailable
    │   ├── NameTaken
    │   ├── InvalidArguments
    │   ├── UnknownWorkflowId
    │   ├── WorkflowIdTaken
    │   ├── UnknownStep
    │   ├── WorkflowFinished
    │   ├── MessageTooLarge
    │   ├── PeopleOnly
    │   ├── NotWaiting
    │   ├── CannotAsk
    │   ├── AlreadyAnswered
    │   └── InvalidProject
    ├── SetupError                    something on this machine has to be put right first
    │   ├── StateDirectoryUnusable
    │   ├── NoSpaceLeft
    │   ├── PortTaken
    │   ├── NodeFailed
    │   ├── PGliteNotInstalled
    │   ├── DataDirectoryLocked
    │   ├── DataDirectoryLost
    │   ├── DataDirectoryDamaged
    │   ├── DatabaseRefused
    │   ├── OtherDatabase
    │   ├── ProjectMoved
    │   ├── PythonUnusable
    │   └── SupervisorFailed
    └── DatabaseUnavailable           the database does not answer (now)
        └── DatabaseSilent            it is there, and says nothing
"""

import inspect


class DurableWorkflowsError(Exception):
    """Something went wrong in durable-workflows."""

    hint: str = (
        "Call server_status, or run `durable-workflows status`, to see what runs and what is wrong."
    )

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or "")
        if hint is not None:
            self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        between = "\n" if "\n" in self.message else " "
        return f"{self.message}{between}{self.hint}".strip()


class UsageError(DurableWorkflowsError):
    """The request cannot be carried out; nothing was changed."""

    hint = "Correct the request and call again."


class UnknownWorkflow(UsageError):
    """There is no workflow of that name."""

    hint = "Call workflow_catalog (or `durable-workflows status`) to see the registered names."


class WorkflowUnavailable(UsageError):
    """The file that defines this workflow does not load."""

    hint = "Repair the file; the new version is picked up by itself. Then call again."


class NameTaken(UsageError):
    """Two workflow files register the same name; only the first of them is loaded."""

    hint = 'Give one of the workflows another name: `@DBOS.workflow(name="…")`.'


class InvalidArguments(UsageError):
    """The arguments do not fit the workflow."""

    hint = "Call workflow_catalog with the workflow's name to see its args_schema."


class UnknownWorkflowId(UsageError):
    """There is no run with that workflow_id."""

    hint = "Call list_workflows to see the runs of this project."


class WorkflowIdTaken(UsageError):
    """That workflow_id belongs to a run of another workflow."""

    hint = "Choose another workflow_id, or leave it out to have one made."


class UnknownStep(UsageError):
    """The run has no such step."""

    hint = "Call inspect to see the run's steps and their numbers."


class WorkflowFinished(UsageError):
    """The run has ended; it takes no more messages."""

    hint = "Call inspect to see which step received a message on this topic; fork the run from that step, and send the message to the fork."


class MessageTooLarge(UsageError):
    """The data are larger than the limit of 1 MB."""

    hint = "Write the data to a file in the project and give its path instead."


class PeopleOnly(UsageError):
    """This topic takes answers from people only."""

    hint = "Call answer_in_person, by which the person at this client answers, or have them run `durable-workflows approve` in a terminal."


class NotWaiting(UsageError):
    """The run does not wait for this any more."""

    hint = "Call inspect to see what the run does now."


class CannotAsk(UsageError):
    """This client cannot ask its person."""

    hint = "Show the person what is asked, and have them run `durable-workflows approve` in a terminal."


class AlreadyAnswered(UsageError):
    """Somebody has answered this before; that answer counts."""

    hint = "Call inspect to see the answer, and who gave it."


class InvalidProject(UsageError):
    """The project directory does not exist or is not a directory."""

    hint = "Give an existing directory with --project, or start in one."


class SetupError(DurableWorkflowsError):
    """This machine is not ready to run durable workflows."""


class StateDirectoryUnusable(SetupError):
    """The state directory cannot be created or written."""

    hint = (
        "Make the project directory writable for this user, or choose another one with --project."
    )


class NoSpaceLeft(SetupError):
    """No space is left on the device that holds the state directory."""

    hint = "Free some space, then call again: every finished step is kept."


class PortTaken(SetupError):
    """The port for the database is in use by another program."""

    hint = "Unset DURABLE_WORKFLOWS_PORT to have a free one chosen, or name another."


class NodeFailed(SetupError):
    """Node, which runs the embedded database, did not start."""

    hint = "Read the end of its log above; `durable-workflows status` names the whole log file."


class PGliteNotInstalled(SetupError):
    """PGlite, the embedded database, could not be installed from the npm registry."""

    hint = (
        "Check that the npm registry is reachable. Behind a company's own certificate authority set NODE_USE_SYSTEM_CA=1, or NODE_EXTRA_CA_CERTS to its file."
        " Or set DBOS_DATABASE_URL to use a Postgres of your own."
    )


class DataDirectoryLocked(SetupError):
    """Another process holds the data directory of the embedded database."""

    hint = "Run `durable-workflows shutdown` in that project, then try again."


class DataDirectoryLost(SetupError):
    """The data directory of this project's embedded database is gone."""

    hint = "Its runs are in that directory: put it back, from where it was moved to or from a backup. To begin again without them, remove the file .dbos/pgdata.made."


class DataDirectoryDamaged(SetupError):
    """Postgres cannot open the data directory of this project's embedded database."""

    hint = "Nothing was changed. Put back what was changed in .dbos/pgdata, or a backup of that directory that was made while nothing ran. To begin again without its runs, move .dbos/pgdata away and remove the file .dbos/pgdata.made."


class DatabaseRefused(SetupError):
    """The Postgres of DBOS_DATABASE_URL cannot be used."""

    hint = "It looks like postgresql://user:password@host:5432/database. Correct DBOS_DATABASE_URL, or unset it to use the embedded database."


class OtherDatabase(SetupError):
    """The project runs on another database than the settings name."""

    hint = "Run `durable-workflows shutdown`, then call again: it starts on the one that is set. `durable-workflows move` takes the runs along."


class ProjectMoved(SetupError):
    """The runs of this project were moved to an external Postgres."""

    hint = "Set DBOS_DATABASE_URL to that Postgres. What is here is a backup; to go on with it instead, remove the file .dbos/moved."


class PythonUnusable(SetupError):
    """The interpreter of the setting `python` cannot run workflow code."""

    hint = (
        "Install durable-workflows into its environment, or leave DURABLE_WORKFLOWS_PYTHON unset."
    )


class SupervisorFailed(SetupError):
    """The supervisor did not start."""

    hint = "Read the end of its log above; `durable-workflows status` names the whole log file."


class DatabaseUnavailable(DurableWorkflowsError):
    """The database does not answer."""

    hint = "It is restarted by itself; try again in some seconds. `durable-workflows status` shows its state."


class DatabaseSilent(DatabaseUnavailable):
    """The database takes connections, and has not answered for half a minute."""

    hint = "It may be busy with a long statement of a workflow: call again later. If it stays so, `durable-workflows shutdown` and then any call start it anew: nothing recorded is lost."
