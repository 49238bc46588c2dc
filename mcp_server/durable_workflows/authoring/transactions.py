"""Steps that are transactions on the project's own database, where the runs are recorded too."""

from dbos import AsyncSQLAlchemyDatasource, SQLAlchemyDatasource

from durable_workflows.errors import UsageError
from durable_workflows.seam import datasources
from durable_workflows.seam.datasources import Datasources


def project_datasource() -> SQLAlchemyDatasource:
    """A data source of dbos on the project's own database. Call it at the top of the workflow file.

    A function with `@datasource.transaction` is a step. What it does with `datasource.sql_session()`, a session of SQLAlchemy, and the record of the
    step are one transaction: after a crash at any moment both are there, or neither, and then the step runs again. An exception rolls the
    transaction back, and is recorded. The result must be JSON, as that of any step.

    Call such a function from the body of the workflow. In it use the session only: no other call of DBOS, no requests, no waits. Do not commit or
    roll back: dbos does. On the embedded database everybody else waits while the transaction is open.

    All files get the same data source. Tables of your own belong in the schema `public`, or in one that you create.

    Raises:
        UsageError: the process is no worker of durable-workflows; or it was first called while workflows run.
    """
    return _offered().sync


def project_datasource_async() -> AsyncSQLAlchemyDatasource:
    """As `project_datasource`, for async functions and the workflows that call them. The functions run on an event loop of their own."""
    return _offered().asynchronous


def _offered() -> Datasources:
    offered = datasources.offer.there()
    if offered is None:
        raise UsageError(
            "The data source of the project is for workers of durable-workflows.",
            hint="In a process of your own make one with SQLAlchemyDatasource.create(URL, serializer=DBOSPortableJSONSerializer()), both from dbos.",
        )
    return offered
