# pyright: reportPrivateUsage=false
"""Changes of runs and schedules in dbos's own way: cancelling, resuming, pausing. All calls block.

An engine reads, starts and forks runs, and sends messages, without this module: importing dbos takes a third of a second and 26 MB.
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy.exc
from dbos import DBOSClient
from dbos._error import DBOSNonExistentWorkflowError

from durable_workflows.database import tables
from durable_workflows.database.addresses import own_url
from durable_workflows.errors import InvalidArguments, UnknownSchedule, UnknownWorkflowId
from durable_workflows.seam.patches import connections, schedules, typed_values, values
from durable_workflows.settings import APPLICATION, Database

logger = logging.getLogger(__name__)


class Client:
    """dbos's client on a database. Close it after use (`close`).

    Each method is safe to repeat. Each raises:
        InvalidArguments: the database rejects a value.
        UnknownWorkflowId: a run has just been deleted.
        DatabaseUnavailable: the database does not answer.
    """

    def __init__(self, database: Database, explain: tables.Explain, pool_size: int) -> None:
        """`explain` says why the database may be away; the client makes at most `pool_size` connections."""
        values.refuse_pickle()
        connections.connect_alone()
        values.record_any_text()
        typed_values.install_without_code()
        self._explain = explain
        self._client = DBOSClient(
            system_database_url=own_url(database),
            dbos_system_schema=database.dbos_schema,
            serializer=typed_values.KeptJSON(),
            application_name=APPLICATION,
            system_database_pool_size=pool_size,
            retry_connection_errors=False,
            lazy=True,
        )

    def close(self) -> None:
        """Close all connections; a call that was given up closes its own connection when it returns."""
        self._client.destroy()

    def cancel(self, workflow_ids: Sequence[str]) -> None:
        """Cancel runs that have not ended."""
        with self._own_errors():
            self._client.cancel_workflows(list(workflow_ids))

    def resume(self, workflow_ids: Sequence[str], queue: str) -> None:
        """Put cancelled and dead-lettered runs into a queue."""
        with self._own_errors():
            self._client.resume_workflows(list(workflow_ids), queue_name=queue)

    def pause_schedule(self, name: str) -> None:
        """Pause a schedule."""
        with self._own_errors():
            self._client.pause_schedule(name)

    def resume_schedule(self, name: str) -> None:
        """Resume a paused schedule."""
        with self._own_errors():
            self._client.resume_schedule(name)

    def delete_schedule(self, name: str) -> None:
        """Delete a schedule."""
        with self._own_errors():
            self._client.delete_schedule(name)

    def run_schedule(self, name: str, workflow_id: str, at: datetime, version: str) -> None:
        """Start a schedule's workflow for that time, as a run with that id, on the newest version that has been launched.

        dbos's `trigger_schedule` does the same, but makes a new id each time.
        """
        with self._own_errors():
            found = self._client.get_schedule(name)
            if found is None:  # deleted a moment ago
                raise UnknownSchedule()
            if self._client._sys_db.get_workflow_status(workflow_id) is None:
                self._client.set_latest_application_version(version)
                schedules.start(
                    schedules.never,
                    self._client._sys_db,
                    found["workflow_name"],
                    at,
                    workflow_id,
                    name,
                    found["context"],
                    found["workflow_class_name"],
                    found["queue_name"],
                    found["application_name"],
                )

    @contextmanager
    def _own_errors(self) -> Generator[None]:
        try:
            yield
        except DBOSNonExistentWorkflowError as error:  # deleted a moment ago
            raise UnknownWorkflowId() from error
        except sqlalchemy.exc.DataError as error:  # a text with NUL, or a number out of bounds
            raise InvalidArguments(
                f"The database rejected this: {error.orig}. Nothing was done.",
                hint="Correct that argument and call again.",
            ) from error
        except sqlalchemy.exc.DBAPIError as error:
            logger.warning("dbos could not use the database: %s", error.orig)
            raise tables.unavailable(error.orig, self._explain) from error
