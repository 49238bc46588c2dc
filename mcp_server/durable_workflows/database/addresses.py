"""How the project's own connections name the embedded database: with every parameter, so that libpq looks up none.

libpq takes parameters that a URL leaves open from the environment (PGOPTIONS, PGCLIENTENCODING, PGSSLROOTCERT, …). The environment and
`.env`
belong to workflow code and its author's other databases. (A URL cannot prevent everything: see alone.py and login.mjs.) An external
database keeps libpq's behaviour: there it is a feature.
"""

from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, urlencode, urlsplit

from psycopg.pq import Conninfo

from durable_workflows.settings import Database

APPLICATION_NAME = "durable-workflows"  # the front knows the project's own by it (login.mjs)
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
_NONE = " "  # no value; SQLAlchemy drops an empty one from a URL


def own_url(database: Database) -> str:
    """The URL for the project's own connections, for any library."""
    if not database.is_embedded:
        return database.url
    return f"{urlsplit(database.url)._replace(query='').geturl()}?{_parameters()}"


def is_own(parameters: Mapping[str, object]) -> bool:
    """Whether these parameters of a connection come from a URL of `own_url` to the embedded database."""
    return parameters.get("passfile") == _NONE


@cache
def _parameters() -> str:
    """All parameters that this libpq would look up, with its own defaults where it has one."""
    looked_up = {
        option.keyword.decode(): (option.compiled or b"").decode() or _NONE
        for option in Conninfo.get_defaults()
        if option.envvar
    }
    given = {name: _EXPLICIT.get(name, value) for name, value in looked_up.items()}
    for name in (*_IN_URL, "service"):  # an explicit service would have to exist
        given.pop(name, None)
    return urlencode(given, quote_via=quote)
