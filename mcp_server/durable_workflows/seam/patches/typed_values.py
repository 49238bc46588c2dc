# pyright: reportPrivateUsage=false
"""Values of runs are recorded by our serializer, with their types, and handed over as they are recorded."""

import functools
import json
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import iscoroutine
from typing import Any, cast

from dbos import _core as dbos_core
from dbos import _serialization as dbos_serialization
from dbos._serialization import DBOSPortableJSON, DBOSPortableJSONSerializer, Serializer

from durable_workflows.errors import NotRecordable
from durable_workflows.seam import dbos_calls
from durable_workflows.seam.own_classes import OwnClasses
from durable_workflows.seam.patches import replacing
from durable_workflows.seam.typed_json import TypedJson
from durable_workflows.tags import LABEL, label_of

Value = Any  # of workflow code: of any type
Read = Callable[[], Value]
Function = Callable[..., Value]


class _Recording:
    """The value that was recorded last in a step or a run."""

    def __init__(self) -> None:
        self._value: object = None
        self._read: Read | None = None

    def note(self, value: object, read: Read) -> None:
        self._value, self._read = value, read

    def handed(self, value: Value) -> Value:
        """The value as a replay will get it, if it was recorded here."""
        return value if self._read is None or value is not self._value else self._read()


_RECORDING: ContextVar[_Recording | None] = ContextVar("recording", default=None)


class DurableJSON(Serializer):
    """Our serializer."""

    def __init__(self, form: TypedJson) -> None:
        self._form = form

    def name(self) -> str:
        """The label of the rows."""
        return LABEL

    def serialize(self, data: Value) -> str:
        """A value as it is recorded.

        Raises:
            NotRecordable: naming the place in the value, and the step.
        """
        try:
            recorded = self._form.recorded(data)
        except NotRecordable as error:
            raise NotRecordable(f"{_where()}{error.message}") from None
        _note(data, functools.partial(self._form.read_back, recorded))
        return recorded.text

    def deserialize(self, serialized_data: str) -> Value:  # pyright: ignore[reportIncompatibleMethodOverride] - dbos calls its `self` so
        """A recorded value as it was."""
        return self._form.value(serialized_data)


class KeptJSON(DurableJSON):
    """For processes without the version's code: what is read stays JSON, and is written as it was."""

    def __init__(self) -> None:
        super().__init__(TypedJson(OwnClasses(), keeps_tags=True))

    def deserialize(self, serialized_data: str) -> Value:  # pyright: ignore[reportIncompatibleMethodOverride] - dbos calls its `self` so
        """JSON."""
        return json.loads(serialized_data)


def install(serializer: Serializer) -> None:
    """Let dbos read and write rows with our label by our serializer, whichever it was configured with.

    Arguments have dbos's portable form, and so do errors. Call it once, after all other changes of how dbos records.
    """
    write, read = dbos_serialization.serialize_value_as, dbos_serialization.deserialize_value
    replacing.replace_in_dbos(write, _writing(write, serializer))
    replacing.replace_in_dbos(read, _reading(read, serializer))
    _take_arguments(serializer)
    _take_errors()


@functools.cache
def install_without_code() -> None:
    """As `install`, in a process that has no code of runs; repeated calls do nothing more."""
    install(KeptJSON())


def hand_over_as_recorded() -> None:
    """Give the code of workflows the results of steps and of other runs as a replay will give them."""
    replacing.replace_in_dbos(dbos_core.invoke_step, _step_as_recorded(dbos_core.invoke_step))
    make = dbos_core._get_wf_invoke_func
    replacing.replace(dbos_core, _get_wf_invoke_func=_run_as_recorded(make))
    portable = DBOSPortableJSONSerializer.serialize

    def noted(self: DBOSPortableJSONSerializer, value: object) -> str:
        text = portable(self, value)
        _note(value, functools.partial(json.loads, text))
        return text

    replacing.replace(DBOSPortableJSONSerializer, serialize=noted)


def _note(value: object, read: Read) -> None:
    recording = _RECORDING.get()
    if recording is not None:
        recording.note(value, read)


def _where() -> str:
    run = dbos_calls.current_run()
    return f"In the result of step {run[1]}: " if run and run[1] is not None else ""


def _writing(write: Function, ours: Serializer) -> Function:
    @functools.wraps(write)
    def written(value: Value, serialization: str | None, serializer: Serializer) -> Value:
        if serialization == LABEL:
            text = ours.serialize(value)
            return text, label_of(text)
        return write(value, serialization, serializer)

    return written


def _reading(read: Function, ours: Serializer) -> Function:
    @functools.wraps(read)
    def found(text: str | None, serialization: str | None, serializer: Serializer) -> Value:
        if serialization == LABEL and text is not None:
            return ours.deserialize(text)
        return read(text, serialization, serializer)

    return found


def _take_arguments(ours: Serializer) -> None:
    write, read = dbos_serialization.serialize_args, dbos_serialization.deserialize_args

    @functools.wraps(write)
    def written(args: Value, kwargs: Value, kind: Value, serializer: Serializer) -> tuple[str, str]:
        if dbos_serialization.serialization_for_type(kind, serializer) != LABEL:
            return write(args, kwargs, kind, serializer)
        return ours.serialize({"namedArgs": kwargs, "positionalArgs": list(args)}), LABEL

    @functools.wraps(read)
    def found(text: str, serialization: str | None, serializer: Serializer) -> Value:
        if serialization != LABEL:
            return read(text, serialization, serializer)
        given = cast("Mapping[str, Value]", ours.deserialize(text))
        return {"args": tuple(given["positionalArgs"]), "kwargs": given["namedArgs"]}

    replacing.replace_in_dbos(write, written)
    replacing.replace_in_dbos(read, found)


def _take_errors() -> None:
    write, read = dbos_serialization.serialize_exception, dbos_serialization.deserialize_exception

    @functools.wraps(write)
    def written(value: Value, serialization: str | None, serializer: Serializer) -> Value:
        if (serialization or serializer.name()) != LABEL:
            return write(value, serialization, serializer)
        return write(value, DBOSPortableJSON.name(), serializer)[0], LABEL

    @functools.wraps(read)
    def found(text: str, serialization: str | None, serializer: Serializer) -> Value:
        is_ours = (serialization or serializer.name()) == LABEL
        return read(text, DBOSPortableJSON.name() if is_ours else serialization, serializer)

    replacing.replace_in_dbos(write, written)
    replacing.replace_in_dbos(read, found)


@contextmanager
def _recording() -> Generator[_Recording]:
    recording = _Recording()
    mark = _RECORDING.set(recording)
    try:
        yield recording
    finally:
        _RECORDING.reset(mark)


def _step_as_recorded(invoke: Function) -> Function:
    async def awaited(outcome: Read) -> Value:
        with _recording() as recording:
            return recording.handed(await cast("Awaitable[Value]", outcome()))

    @functools.wraps(invoke)
    def invoked(*given: Value, **options: Value) -> Value:
        with _recording() as recording:
            result = invoke(*given, **options)
            return awaited(lambda: result) if iscoroutine(result) else recording.handed(result)

    return invoked


def _run_as_recorded(make: Function) -> Function:
    @functools.wraps(make)
    def made(*given: Value, **named: Value) -> Callable[[Read], Value]:
        persist = make(*given, **named)

        def persisted(run: Read) -> Value:
            with _recording() as recording:
                return recording.handed(persist(run))

        return persisted

    return made
