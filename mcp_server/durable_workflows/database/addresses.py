"""How the project's own connections name the embedded database: with every parameter, so that libpq looks for none.

libpq takes what a URL leaves open from the environment (PGOPTIONS, PGCLIENTENCODING, PGSSLROOTCERT, …), which belongs to workflow code
and its author's other databases, and so does `.env`. (What a URL cannot prevent: alone.py, and login.mjs.) An external database keeps
libpq's behaviour: there it is a feature.
"""

from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, urlencode, urlsplit

from psycopg.pq import Conninfo

from durable_workflows.settings import Database

APPLICATION_NAME = "durable-workflows"  # the front knows by it who is the project's own (login.mjs)
_EXPLICIT = {
    "application_name": APPLICATION_NAME,
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "hostaddr": "127.0.0.1",
    "gssencmode": "disable",
    "max_protocol_version": "3.0",
    "min_protocol_version": "3.0",
    "require_auth": "scram-sha-256",
    "ssl_max_protocol_version": "TLSv1.3",
    "sslmode": "disable",
    "sslcertmode": "disable",
}
_IN_URL = {"user", "password", "host", "port", "dbname"}
_NONE = " "  # no value; an empty one SQLAlchemy drops from a URL


def own_url(database: Database) -> str:
    """The URL for the project's own connections, by whatever library."""
    if not database.is_embedded:
        return database.url
    return f"{urlsplit(database.url)._replace(query='').geturl()}?{_parameters()}"


def is_own(parameters: Mapping[str, object]) -> bool:
    """Whether these parameters of a connection are those of a URL of `own_url` to the embedded database."""
    return parameters.get("passfile") == _NONE


@cache
def _parameters() -> str:
    """All that this libpq would look up, with its own default where there is one."""
    looked_up = {
        option.keyword.decode(): (option.compiled or b"").decode() or _NONE
        for option in Conninfo.get_defaults()
        if option.envvar
    }
    given = {name: _EXPLICIT.get(name, value) for name, value in looked_up.items()}
    for name in (*_IN_URL, "service"):  # an explicit service would have to exist
        given.pop(name, None)
    return urlencode(given, quote_via=quote)
