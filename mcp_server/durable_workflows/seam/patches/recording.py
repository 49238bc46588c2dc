"""How dbos records values and errors in the processes that have the code of runs."""

from dbos import DBOSPortableJSONSerializer, Serializer

from durable_workflows.seam.patches import recorded_errors, typed_values, values
from durable_workflows.seam.typed_json import Classes, TypedJson


def install(classes: Classes, *, is_current: bool) -> Serializer:
    """Change dbos for this process, and return the serializer to make it with. Call it once.

    With `is_current` values come back with their types, also in the first run. Code of an earlier release gets them as it did there.
    """
    values.refuse_pickle()
    values.record_any_text()
    recorded_errors.keep_errors_whole()
    recorded_errors.name_last_attempts()
    typed = typed_values.DurableJSON(TypedJson(classes))
    typed_values.install(typed)
    if not is_current:
        return DBOSPortableJSONSerializer()
    typed_values.hand_over_as_recorded()
    return typed
