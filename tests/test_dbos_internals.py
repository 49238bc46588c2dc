# pyright: reportPrivateUsage=false
"""The private names of dbos that we rely upon: this fails when a new dbos has changed them."""

import inspect
import re
from dataclasses import fields
from typing import Any

import pytest
import sqlalchemy
from dbos import (
    DBOSClient,
    _client,
    _context,
    _core,
    _datasource,
    _datasource_postgres,
    _dbos,
    _dbos_config,
    _enqueue_options,
    _error,
    _outcome,
    _queue,
    _recovery,
    _registrations,
    _scheduler,
    _serialization,
    _sys_db,
)
from dbos._sys_db import SystemDatabase
from dbos._sys_db_postgres import PostgresSystemDatabase

from durable_workflows.seam.patches import single_statements
from durable_workflows.seam.rehearsed import RecordedDatabase


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_background_jobs_take_their_lock_by_the_method_that_we_replace() -> None:
    assert parameters(PostgresSystemDatabase.background_job_lock) == ["self", "job_name"]
    assert parameters(SystemDatabase.background_job_lock) == ["self", "job_name"]
    lock: Any = SystemDatabase.background_job_lock
    with lock(object(), "any") as acquired:
        assert acquired is True
    assert "pg_try_advisory_xact_lock" in inspect.getsource(PostgresSystemDatabase)


def test_dbos_names_itself_to_the_database_as_the_front_knows_it() -> None:
    """pglite/front/login.mjs and guard.mjs: what launches DBOS itself is refused, and a client of DBOS is one of ours."""
    assert '"application_name": "dbos_transact"' in inspect.getsource(_dbos_config)
    assert '"application_name": "dbos_transact_client"' in inspect.getsource(_client)
    lock = inspect.getsource(PostgresSystemDatabase.background_job_lock)
    for part in ("pg_try_advisory_xact_lock", "FROM set_config(", "idle_in_transaction_session"):
        assert part in lock


def test_queue_threads_are_started_by_the_name_that_we_replace_and_wait_for_their_stop_event() -> (
    None
):
    assert parameters(_queue.queue_worker_thread) == ["stop_event", "dbos", "queue"]
    assert "target=queue_worker_thread" in inspect.getsource(_queue.queue_thread)
    assert "stop_event.wait(timeout=check_interval)" in inspect.getsource(_queue.queue_thread)
    assert "target=queue_thread" in inspect.getsource(_dbos)
    source = inspect.getsource(_queue.queue_worker_thread)
    used = {part.split("(")[0] for part in source.split("stop_event.")[1:]}
    assert used == {"is_set", "wait"}


def test_the_names_of_steps_and_the_engine_come_by_the_functions_that_we_replace() -> None:
    assert "step_name" in parameters(_core.invoke_step)
    assert inspect.getsource(_core).count(" invoke_step(") >= 3  # its definition, and its callers
    assert parameters(PostgresSystemDatabase._create_engine)[1:] == [
        "system_database_url",
        "engine_kwargs",
    ]


def test_what_we_run_without_a_transaction_is_one_statement_in_dbos() -> None:
    for name in single_statements.METHODS:
        method = getattr(SystemDatabase, name)
        inner = "_list_schedules" if name == "list_schedules" else name
        source = inspect.getsource(getattr(SystemDatabase, inner))
        assert source.count("c.execute(") == 1, name
        assert getattr(PostgresSystemDatabase, name) is method, name
    assert "with self.engine.begin() as c:" in inspect.getsource(SystemDatabase._keyless_connection)


def test_a_statement_about_several_runs_gets_its_condition_from_the_method_that_we_replace() -> (
    None
):
    assert parameters(SystemDatabase._wf_in) == ["self", "table", "workflow_ids"]
    assert "table.c.workflow_uuid.in_(" in inspect.getsource(SystemDatabase._wf_in)
    assert PostgresSystemDatabase._wf_in is SystemDatabase._wf_in
    assert "self._wf_in(" in inspect.getsource(SystemDatabase.get_workflow_statuses)


def test_a_queue_is_claimed_by_the_method_that_we_replace() -> None:
    method = SystemDatabase.start_queued_workflows
    assert PostgresSystemDatabase.start_queued_workflows is method
    assert parameters(method) == [
        "self",
        "queue",
        "executor_id",
        "app_version",
        "queue_partition_key",
        "local_running_count",
        "partition_local_running_count",
        "owner_xid",
        "is_latest_version",
    ]
    # The statement is written for a database that is not sharded, where nothing is asked besides.
    assert "is_latest_version: Optional[bool] = None" in inspect.getsource(
        _queue.queue_worker_thread
    )
    assert "return []" in inspect.getsource(SystemDatabase._scoped)


def test_a_step_is_looked_up_and_recorded_by_the_methods_that_we_replace() -> None:
    assert parameters(SystemDatabase.check_operation_execution) == [
        "self",
        "workflow_id",
        "function_id",
        "function_name",
        "owner_key",
    ]
    assert parameters(SystemDatabase.record_operation_result) == [
        "self",
        "result",
        "completed_at_epoch_ms",
        "owner_xid",
        "owner_key",
    ]
    assert set(_sys_db.OperationResultInternal.__annotations__) == {
        "workflow_uuid",
        "function_id",
        "function_name",
        "started_at_epoch_ms",
        "output",
        "error",
        "child_workflow_id",
        "serialization",
    }


def test_the_records_that_take_a_label_have_the_arguments_that_we_read() -> None:
    database = SystemDatabase
    taken = ["self", "result_workflow_id", "output", "error", "serialization", "ctx"]
    assert parameters(database.record_get_result)[:6] == taken
    child = parameters(database.init_child_workflow)
    assert child[:2] == ["self", "status"]
    assert {"parent_workflow_id", "parent_function_id"} <= set(child)


def test_failed_attempts_of_steps_are_heard_of_by_the_callback_that_we_wrap() -> None:
    outcomes: list[Any] = [_outcome.Immediate, _outcome.Pending]
    for outcome in outcomes:
        assert parameters(outcome.retry)[:3] == ["self", "attempts", "on_exception"]


def test_the_code_of_runs_and_steps_is_called_by_outcomes() -> None:
    for outcome in (_outcome.Immediate, _outcome.Pending):
        assert parameters(outcome) == ["func"]
    assert "Immediate[R](" in inspect.getsource(_core._execute_workflow_wthread)
    assert "Pending[R](" in inspect.getsource(_core._execute_workflow_async)


def test_the_internal_queue_has_a_polling_interval() -> None:
    registry: Any = _dbos.DBOSRegistry()
    assert registry.get_internal_queue()._polling_interval_sec == 1.0


def test_a_recv_passes_the_arguments_that_we_read() -> None:
    expected = [
        "self",
        "workflow_uuid",
        "function_id",
        "timeout_function_id",
        "topic",
        "timeout_seconds",
    ]
    assert parameters(SystemDatabase.recv) == expected
    assert parameters(SystemDatabase.recv_async) == expected
    for function in (_dbos.DBOS.recv, _dbos.DBOS.recv_async):
        assert "sys_db.recv" in inspect.getsource(function)


def test_a_step_is_entered_and_left_by_the_scopes_that_we_observe() -> None:
    assert parameters(_context.EnterDBOSStepCtx) == ["attributes", "ctx"]
    assert parameters(_context.EnterDBOSStepRetry) == ["current_attempt", "max_attempts"]
    from_core = inspect.getsource(_core)
    assert '"operationType": "step"' in from_core
    assert ".also(EnterDBOSStepCtx(attributes, step_ctx))" in from_core


def test_errors_are_recorded_and_raised_again_by_the_names_that_we_replace() -> None:
    recorded = inspect.getsource(_serialization.serialize_exception)
    assert "exception_to_workflow_error_data(value)" in recorded
    assert parameters(_serialization.serialize_exception) == [
        "value",
        "serialization",
        "serializer",
    ]
    assert parameters(_serialization.deserialize_exception) == [
        "serialized_value",
        "serialization",
        "serializer",
    ]
    assert parameters(_error.DBOSMaxStepRetriesExceeded)[-1] == "errors"
    found = {field.name for field in fields(_serialization.PortableWorkflowError)}
    assert found == {"message", "name", "code", "data"}


def test_what_is_no_exception_is_told_from_dbos_own_and_from_the_task_of_a_run() -> None:
    own: list[type[BaseException]] = [
        _error.DBOSWorkflowCancelledError,
        _error.DBOSWorkflowConflictIDError,
    ]
    for kind in own:
        assert issubclass(kind, _error.DBOSBaseException)
    assert "self._workflow_tasks" in inspect.getsource(_dbos.DBOS)
    bodies = inspect.getsource(_core._dropping_datasource_checkpoints)
    assert "return run_async" in bodies
    assert "return run" in bodies
    assert parameters(_core.run_step_async)[2] == "func"
    assert parameters(SystemDatabase.update_workflow_outcome)[:3] == [
        "self",
        "workflow_id",
        "status",
    ]


def test_json_is_written_by_the_method_that_we_replace_with_what_is_not_ascii_as_it_is() -> None:
    assert parameters(_serialization.DBOSPortableJSONSerializer.serialize) == ["self", "value"]
    assert "ensure_ascii=False" in inspect.getsource(_serialization.DBOSPortableJSONSerializer)


def test_values_are_recorded_by_the_functions_that_we_replace_and_handed_over_after_that() -> None:
    expected = ["value", "serialization", "serializer"]
    assert parameters(_serialization.serialize_value_as) == expected
    assert "serialize_value_as(" in inspect.getsource(_serialization.serialize_value)
    assert parameters(_serialization.deserialize_value)[1:] == expected[1:]
    expected = ["args", "kwargs", "serialization_type", "serializer"]
    assert parameters(_serialization.serialize_args) == expected
    expected = ["serialized_value", "serialization", "serializer"]
    assert parameters(_serialization.deserialize_args) == expected
    assert parameters(_serialization.serialize_exception) == ["value", *expected[1:]]
    step = inspect.getsource(_core.invoke_step)
    recorded = "serialize_value(output, None, dbos._serializer)"
    assert recorded in step
    assert step.index(recorded) < step.index("return output")
    run = inspect.getsource(_core._get_wf_invoke_func)
    assert 'output, status["serialization"], dbos._serializer' in run


def test_pickle_is_read_by_the_method_that_we_replace() -> None:
    assert isinstance(_serialization.DBOSDefaultSerializer, _serialization.DefaultSerializer)
    assert "DBOSDefaultSerializer.deserialize(" in inspect.getsource(
        _serialization.deserialize_value
    )


def test_a_start_is_built_and_written_by_the_functions_that_we_call() -> None:
    expected = ["options", "serializer", "args", "kwargs"]
    assert parameters(_enqueue_options.build_enqueue_status) == expected
    assert parameters(SystemDatabase.init_workflow) == [
        "self",
        "status",
        "creator_xid",
        "reuse_policy",
    ]
    assert {"_serializer", "_sys_db"} <= set(DBOSClient.__init__.__code__.co_names)


def test_workflows_are_registered_and_their_arguments_recorded_by_the_functions_that_we_wrap() -> (
    None
):
    registered = inspect.getsource(_dbos.DBOS.workflow)
    assert "return decorate_workflow(" in registered
    assert "validate_args=validate_args" in registered
    assert "@wraps(func)\n    def wrapper(" in inspect.getsource(_core.workflow_wrapper)
    given = parameters(_core._assemble_workflow_status)
    assert given[:4] == ["dbos", "ctx", "inputs", "wf_name"]
    assert "_assemble_workflow_status(\n        dbos,\n        ctx,\n        inputs=inputs," in (
        inspect.getsource(_core._init_workflow)
    )
    expected = ["dbos", "new_wf_ctx", "options", "args", "kwargs"]
    assert parameters(_core._build_enqueue_with_options) == expected
    assert "workflow_info_map" in vars(_dbos.DBOSRegistry())
    assert {"Class", "Instance"} <= set(_registrations.DBOSFuncType.__members__)


@pytest.mark.parametrize("name", ["notifications_map", "workflow_events_map"])
def test_waits_in_this_process_are_kept_in_the_maps_that_we_wake(name: str) -> None:
    assert name in SystemDatabase.__init__.__code__.co_names


def test_registering_a_queue_and_waits_are_made_of_what_we_rely_upon() -> None:
    assert parameters(SystemDatabase.upsert_queue)[0] == "self"
    assert parameters(SystemDatabase.get_queue)[0] == "self"
    assert parameters(SystemDatabase.record_sleep)[:4] == [
        "self",
        "workflow_uuid",
        "function_id",
        "seconds",
    ]
    assert "record_sleep" in inspect.getsource(SystemDatabase.recv_setup)


def test_an_answer_of_a_person_is_read_and_recorded_by_what_we_replace_and_call() -> None:
    expected = ["self", "workflow_uuid", "function_id", "topic", "start_time"]
    assert parameters(SystemDatabase.recv_consume) == expected
    assert "self.recv_consume" in inspect.getsource(SystemDatabase.recv)
    assert "self.recv_consume" in inspect.getsource(SystemDatabase.recv_async)
    assert "record_sleep" in inspect.getsource(SystemDatabase.recv_setup)
    checks = parameters(SystemDatabase._check_operation_execution_txn)
    assert checks == ["self", "workflow_id", "function_id", "function_name", "conn"]
    assert parameters(SystemDatabase._record_operation_result_txn)[:4] == [
        "self",
        "result",
        "completed_at_epoch_ms",
        "conn",
    ]
    assert parameters(SystemDatabase._wf)[:3] == ["self", "table", "workflow_id"]


def test_every_message_is_sent_by_the_method_in_which_we_refuse_some() -> None:
    assert parameters(SystemDatabase._send_bulk_txn)[:3] == ["self", "messages", "conn"]
    named = {"workflow_id", "function_id", "function_name"}
    assert named <= set(parameters(SystemDatabase._send_bulk_txn))
    for function in (SystemDatabase.send_bulk, SystemDatabase.send_bulk_with_connection):
        assert "self._send_bulk_txn(" in inspect.getsource(function)
    assert inspect.getsource(SystemDatabase).count("self._send_bulk_txn(") == 2
    assert "self.tables.notifications)" in inspect.getsource(SystemDatabase._send_bulk_txn)


def test_workflows_are_registered_and_run_by_the_functions_that_we_wrap() -> None:
    assert parameters(_dbos.DBOSRegistry.register_wf_function) == ["self", "name", "wrapped_func"]
    assert parameters(_core.execute_dequeued_workflow) == ["dbos", "status", "owner_xid"]
    assert "execute_dequeued_workflow(dbos, status, owner_xid)" in inspect.getsource(_queue)
    source = inspect.getsource(_core.execute_dequeued_workflow)
    assert 'status["config_name"]' in source
    assert 'status["class_name"]' in source


def test_methods_are_known_by_class_and_object() -> None:
    registry = _dbos.DBOSRegistry()
    assert registry.workflow_info_map == registry.class_info_map == registry.instance_info_map == {}
    assert {"class_info", "func_type"} <= {one.name for one in fields(_registrations.DBOSFuncInfo)}
    assert {"Class", "Instance"} <= set(_registrations.DBOSFuncType.__members__)


def test_the_password_of_the_database_is_that_of_the_engine_s_url() -> None:
    assert "self.engine = " in inspect.getsource(SystemDatabase.__init__)
    assert hasattr(sqlalchemy.engine.URL, "password")


def test_waits_for_results_are_made_of_what_we_replace() -> None:
    result = ["self", "workflow_id", "polling_interval", "fail_if_missing"]
    first = ["self", "workflow_ids", "polling_interval"]
    assert parameters(SystemDatabase.await_workflow_result) == result
    assert parameters(SystemDatabase.await_workflow_result_async) == result
    assert parameters(SystemDatabase.await_first_workflow_id) == first
    assert parameters(SystemDatabase.await_first_workflow_id_async) == first
    assert parameters(SystemDatabase.check_workflow_result)[:2] == ["self", "workflow_id"]
    assert parameters(SystemDatabase.get_cancelled_workflow_ids) == ["self", "workflow_ids"]
    event = ["self", "target_uuid", "key", "timeout_seconds", "caller_ctx"]
    assert parameters(SystemDatabase.get_event_setup) == event
    for handle in (_core.WorkflowHandleFuture, _core.WorkflowHandleAsyncTask):
        get: Any = handle
        assert parameters(get._get_result) == ["self", "polling_interval_sec"]
    signal: Any = _sys_db.KeySignal(("run", "topic", None))
    assert signal._waiters == set()


def test_pauses_of_dbos_are_the_two_sleeps_that_we_replace() -> None:
    assert "record_sleep(" in inspect.getsource(_dbos.DBOS.sleep)
    assert "record_sleep" in inspect.getsource(_dbos.DBOS.sleep_async)
    assert "time.sleep(wait_time)" in inspect.getsource(_outcome.Immediate)
    assert "await asyncio.sleep(wait_time)" in inspect.getsource(_outcome.Pending)
    source = inspect.getsource(_outcome)
    assert source.count("time.sleep(") == source.count("asyncio.sleep(") == 1


def test_a_run_records_its_steps_by_the_function_that_we_wrap() -> None:
    assert parameters(SystemDatabase.record_operation_result)[:2] == ["self", "result"]
    assert parameters(SystemDatabase.get_workflow_owner) == ["self", "workflow_id"]
    assert set(_sys_db.OperationResultInternal.__annotations__) == {
        "workflow_uuid",
        "function_id",
        "function_name",
        "output",
        "error",
        "serialization",
        "started_at_epoch_ms",
        "child_workflow_id",
    }


def test_a_queue_takes_runs_up_through_the_gate_that_we_replace() -> None:
    assert parameters(SystemDatabase._claim_gate) == ["self", "queue_name", "partition_key"]
    claim = inspect.getsource(SystemDatabase.start_queued_workflows)
    assert "self._claim_gate(queue.name, queue_partition_key)" in claim
    assert "recovery_attempts=self.tables" in claim  # the attempt that we give back
    sweep = SystemDatabase.start_queued_partitioned_workflows
    assert parameters(sweep)[:5] == ["self", "queue", "executor_id", "app_version", "max_tasks"]
    assert "start_queued_partitioned_workflows(" in inspect.getsource(_queue.queue_worker_thread)
    assert parameters(SystemDatabase.get_queue_partitions) == ["self", "queue_name"]


def test_a_recovered_run_is_put_back_by_the_method_that_we_replace() -> None:
    recover = SystemDatabase.reenqueue_for_recovery
    assert parameters(recover) == ["self", "workflow_id", "executor_ids", "recovery_queue_name"]
    assert "reenqueue_for_recovery(" in inspect.getsource(_recovery._recover_workflow)
    # What ours sets as well.
    values = inspect.getsource(recover).partition(".values(")[2]
    assert set(re.findall(r"^ +(\w+)=", values, re.MULTILINE)) == {
        "status",
        "owner_xid",
        "started_at_epoch_ms",
        "updated_at",
        "queue_name",
    }
    assert parameters(SystemDatabase.dead_letter_workflows) == [
        "self",
        "workflow_ids",
        "min_recovery_attempts",
    ]


def test_a_call_that_waits_for_the_database_sleeps_as_we_replace_it() -> None:
    assert "time.sleep(actual_backoff)" in inspect.getsource(_sys_db.db_retry)
    # Elsewhere in this module, between two looks only.
    sleeps = re.findall(r"time\.sleep\((.*)\)", inspect.getsource(_sys_db))
    polling = ["polling_interval", "self._notification_listener_polling_interval_sec"]
    assert set(sleeps) == {"actual_backoff", *polling, "0.1"}


def test_an_execution_takes_and_gives_up_its_place_by_the_methods_that_we_wrap() -> None:
    active = _core.ActiveWorkflowById
    assert parameters(active.add) == ["self", "key", "queue_name", "queue_partition_key"]
    assert parameters(active._remove) == ["self", "key", "bucket"]
    assert "self._active._remove(" in inspect.getsource(_core.ActiveWorkflowEntry.release)
    for execute in (_core._execute_workflow_wthread, _core._execute_workflow_async):
        assert parameters(execute)[:2] == ["dbos", "status"]
        assert inspect.getsource(execute).count("_active_workflows_set.add(") == 1
        assert inspect.getsource(execute).count("entry.release()") == 1
    assert parameters(_core.execute_dequeued_workflow) == ["dbos", "status", "owner_xid"]


def test_what_a_schedule_starts_is_started_by_the_function_that_we_call() -> None:
    assert parameters(_scheduler._enqueue_scheduled_workflow) == [
        "sys_db",
        "workflow_name",
        "scheduled_at",
        "workflow_id",
        "schedule_name",
        "context",
        "class_name",
        "queue_name",
        "application_name",
        "shard_key",
    ]
    trigger = inspect.getsource(_scheduler.trigger_schedule)
    assert 'f"sched-{schedule_name}-trigger-{now.isoformat()}"' in trigger


@pytest.mark.parametrize(
    "source",
    [_datasource.SQLAlchemyDatasource, _datasource.AsyncSQLAlchemyDatasource],
)
def test_data_sources_ask_for_the_owner_where_ours_have_asked_before(source: Any) -> None:
    """Right after the record of a result or of an error; before that the answer of an earlier step would count."""
    run = source.__dict__.get("run_tx_step") or source.__dict__["run_tx_step_async"]
    for function in (run, source._record_error):
        text = inspect.getsource(function)
        assert text.index("_record_result(") < text.index("_still_owns")
    text = inspect.getsource(run)
    assert text.count("_still_owns") == 2  # the second one after a conflict, which resets
    assert text.index("except _StepAlreadyRecorded:") < text.rindex("_still_owns")
    assert text.count("_is_retriable_db_error(") == 1
    assert "_still_owns" in inspect.getsource(source._delete_checkpoints_if_owner)
    record = ["self", "conn", "workflow_id", "step_id", "output", "error", "serialization"]
    assert parameters(source._record_result) == record
    assert parameters(source._delete_checkpoints) == ["self", "workflow_id", "start_step"]
    assert parameters(source._delete_checkpoints_if_owner) == ["self", "workflow_id", "owner_xid"]
    everything = inspect.getsource(source)
    asking = (run, source._record_error, source._delete_checkpoints_if_owner)
    assert everything.count("_still_owns") == sum(
        inspect.getsource(one).count("_still_owns") for one in asking
    )


def test_data_sources_are_made_and_run_by_the_names_that_we_rely_on() -> None:
    assert "from dbos._core import StepOptions, run_step_async" in inspect.getsource(
        _datasource.AsyncSQLAlchemyDatasource.run_tx_step_async
    )
    assert parameters(_core.run_step_async) == [
        "dbos",
        "step_ctx",
        "func",
        "options",
        "args",
        "kwargs",
    ]
    assert parameters(_datasource._still_owns) == ["workflow_id", "owner_xid"]
    assert parameters(_datasource._is_retriable_db_error) == ["error", "is_serialization_error"]
    for source in (_datasource.SQLAlchemyDatasource, _datasource.AsyncSQLAlchemyDatasource):
        assert "serializer = DBOSDefaultSerializer" in inspect.getsource(source.create)
    for of_postgres in (
        _datasource_postgres.PostgresSyncDatasource,
        _datasource_postgres.PostgresAsyncDatasource,
    ):
        assert parameters(of_postgres)[:5] == [
            "database_url",
            "engine_kwargs",
            "engine",
            "schema",
            "serializer",
        ]
    assert "_launched" in inspect.getsource(_dbos.DBOSRegistry.register_datasource)


def test_a_rehearsal_answers_what_dbos_asks_of_its_system_database() -> None:
    for name in (
        "check_operation_execution",
        "_check_operation_execution_txn",
        "recv_setup",
        "get_event_setup",
        "record_sleep",
        "await_workflow_result",
        "await_workflow_result_async",
        "record_get_result",
        "patch",
        "deprecate_patch",
        "get_checkpoint_name",
        "get_workflow_status",
    ):
        ours = parameters(getattr(RecordedDatabase, name))
        assert ours == parameters(getattr(SystemDatabase, name)), name
    assert parameters(SystemDatabase.update_workflow_outcome)[:3] == [
        "self",
        "workflow_id",
        "status",
    ]
    # A launch sets these; a rehearsal sets them without one.
    launch = inspect.getsource(_dbos.DBOS._launch)
    for name in ("_launched", "_sys_db_field", "_executor_field", "_background_event_loop"):
        assert f"self.{name}" in launch
    asked = inspect.getsource(_core.start_workflow)
    assert asked.index("check_operation_execution") < asked.index("_init_workflow")
    step = inspect.getsource(_core.invoke_step)
    assert ".intercept(check_existing_result" in step
