"""The URIs of the resources: texts about runs, and the files of this installation."""

from collections.abc import Mapping

from mcp.shared.uri_template import UriTemplate

RUNS = "durable://workflows"
RUNS_PAGE = "durable://workflows{?cursor}"
TRACE = "durable://workflows/{workflow_id}/trace"
TRACE_JSON = "durable://workflows/{workflow_id}/trace.json"
TEMPLATE = "durable://templates/{name}"
REFERENCE = "durable://references/{name}"
APP_RUN = "ui://durable-workflows/run"  # the page, for clients that show it
APP_INBOX = "ui://durable-workflows/inbox"
APPS = (APP_RUN, APP_INBOX)
ALL = (RUNS_PAGE, TRACE, TRACE_JSON, TEMPLATE, REFERENCE)

_PARSED: Mapping[str, UriTemplate] = {
    one: UriTemplate.parse(one) for one in (TRACE, TRACE_JSON, TEMPLATE, REFERENCE)
}


def expand(template: str, **values: str) -> str:
    """The URI of a template with these values, which may be any text."""
    return _PARSED[template].expand(values)


def workflow_id_of(uri: str) -> str | None:
    """The run whose trace the URI names, if any."""
    for template in (TRACE, TRACE_JSON):
        found = (_PARSED[template].match(uri) or {}).get("workflow_id")
        if isinstance(found, str):
            return found
    return None


def may_change(uri: str) -> bool:
    """Whether a subscription to the URI is worthwhile."""
    return uri == RUNS or workflow_id_of(uri) is not None
