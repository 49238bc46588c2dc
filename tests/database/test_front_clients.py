"""The usual clients, and what they may do at the same time on the one session."""

import random
import secrets
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import anyio
import psycopg
import pytest
from psycopg import sql

from database.fronts import Front, eventually
from database.wire import logged_in, query

pytestmark = pytest.mark.anyio


def run(
    db: psycopg.Connection, text: str, table: str, *values: object
) -> psycopg.Cursor[tuple[object, ...]]:
    return db.execute(text.format(table).encode(), values or None)


def rows(db: psycopg.Connection, table: str) -> list[tuple[object, ...]]:
    return run(db, "SELECT id, name FROM {} ORDER BY id", table).fetchall()


def test_a_committed_transaction_is_seen_and_a_rolled_back_one_is_not(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    with psycopg.connect(front.url) as other:
        run(other, "INSERT INTO {} VALUES (1, 'kept')", table)
        other.commit()
        run(other, "INSERT INTO {} VALUES (2, 'dropped')", table)
        other.rollback()
    assert rows(db, table) == [(1, "kept")]


def test_two_transactions_do_not_see_each_other_before_the_commit(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    def insert_three(_client: int) -> None:
        with psycopg.connect(front.url) as other:
            for number in range(3):
                run(other, "INSERT INTO {} VALUES (%s, 'x')", table, number)
                assert run(other, "SELECT count(*) FROM {}", table).fetchone() in (
                    (number + 1,),
                    (number + 4,),
                )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(insert_three, range(2)))
    assert len(rows(db, table)) == 6


def test_an_error_in_a_transaction_fails_the_rest_of_it_until_the_rollback(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    with psycopg.connect(front.url) as other:
        run(other, "INSERT INTO {} VALUES (1, 'x')", table)
        with pytest.raises(psycopg.errors.DivisionByZero):
            other.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            other.execute("SELECT 1")
        other.rollback()
        assert other.execute("SELECT 1").fetchone() == (1,)
    assert rows(db, table) == []


def test_a_begin_alone_keeps_nobody_waiting(front: Front, db: psycopg.Connection) -> None:
    with psycopg.connect(front.url, autocommit=True) as other:
        other.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert db.execute("SELECT 1").fetchone() == (1,)
        assert other.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        other.execute("COMMIT")
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_asynchronous_clients_run_side_by_side(
    front: Front, table: str, db: psycopg.Connection
) -> None:
    async def insert(number: int) -> None:
        async with await psycopg.AsyncConnection.connect(front.url) as own:
            statement = sql.SQL("INSERT INTO {} VALUES (%s, %s)").format(sql.Identifier(table))
            await own.execute(statement, (number, str(number)))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(insert, number)
    assert rows(db, table) == [(number, str(number)) for number in range(20)]


def test_a_pipeline_gives_each_statement_its_own_result(db: psycopg.Connection) -> None:
    with db.pipeline():
        cursors = [db.execute("SELECT %s::int", (number,)) for number in range(200)]
        assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(200)]


def fail_in_pipeline(db: psycopg.Connection, table: str) -> None:
    with db.pipeline():
        run(db, "INSERT INTO {} VALUES (1, 'x')", table)
        db.execute("SELECT 1 / 0")
        run(db, "INSERT INTO {} VALUES (2, 'x')", table)


def test_an_error_in_a_pipeline_skips_the_rest_and_the_session_goes_on(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    with psycopg.connect(front.url, autocommit=True) as other:
        with pytest.raises(psycopg.errors.DivisionByZero):
            fail_in_pipeline(other, table)
        assert other.execute("SELECT 7").fetchone() == (7,)
    assert rows(db, table) == []


def test_prepared_statements_of_several_clients_are_kept_apart(front: Front) -> None:
    def ask(offset: int) -> None:
        with psycopg.connect(front.url, autocommit=True) as own:
            for number in range(30):  # prepared from the fifth time on, as _pg3_0 by each of them
                question = f"SELECT %s::int + {offset}, repeat('x', {offset})".encode()
                wanted = (number + offset, "x" * offset)
                assert own.execute(question, (number,)).fetchone() == wanted

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(ask, range(5)))


def test_prepared_statements_are_closed_when_their_client_leaves(
    front: Front, db: psycopg.Connection
) -> None:
    def is_there() -> bool:  # never prepared itself, and blind to what clients of other tests leave
        found = "SELECT FROM pg_prepared_statements WHERE statement = 'SELECT 1234'"
        return db.execute(found, prepare=False).rowcount > 0

    with psycopg.connect(front.url, autocommit=True) as other:
        other.execute("SELECT 1234", prepare=True)
        assert is_there()
    eventually(lambda: not is_there(), "the client's statements are closed")


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_a_client_that_deallocates_all_loses_only_its_own_statements(
    front: Front, command: str
) -> None:
    with (
        psycopg.connect(front.url, autocommit=True) as one,
        psycopg.connect(front.url, autocommit=True) as two,
    ):
        for own in (one, two):
            own.execute("SELECT %s::int", (1,), prepare=True)
        one.execute(command.encode())
        assert two.execute("SELECT %s::int", (2,), prepare=True).fetchone() == (2,)
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            one.execute("SELECT %s::int", (3,), prepare=True)


def test_a_statement_deallocated_by_name_is_the_clients_own(front: Front) -> None:
    with (
        psycopg.connect(front.url, autocommit=True) as one,
        psycopg.connect(front.url, autocommit=True) as two,
    ):
        one.prepared_max = 1  # so that the second puts out the first, by DEALLOCATE or Close
        for own in (one, two):
            own.execute("SELECT %s::int", (1,), prepare=True)
        for number in range(3):
            one.execute(f"SELECT {number}, %s::int".encode(), (1,), prepare=True)
            assert two.execute("SELECT %s::int", (2,), prepare=True).fetchone() == (2,)
        two.execute("DEALLOCATE _pg3_0")
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            two.execute("SELECT %s::int", (3,), prepare=True)


def test_copy_from_stdin_stores_every_row(db: psycopg.Connection, table: str) -> None:
    with (
        db.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy,
    ):
        for number in range(50_000):  # more than is kept in memory
            copy.write_row((number, f"name {number} " + "x" * 50))
    assert run(
        db, "SELECT count(*), sum(id) FROM {} WHERE length(name) > 50", table
    ).fetchone() == (50_000, sum(range(50_000)))


def test_copy_from_stdin_in_a_transaction_is_rolled_back_with_it(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    with psycopg.connect(front.url) as other:
        run(other, "INSERT INTO {} VALUES (0, 'before')", table)
        with (
            other.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy,
        ):
            copy.write_row((1, "copied"))
        assert rows(other, table) == [(0, "before"), (1, "copied")]
        other.rollback()
    assert rows(db, table) == []


def test_copy_with_parameters_and_binary_data_works(db: psycopg.Connection, table: str) -> None:
    statement = sql.SQL("COPY {} (id, name) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table)
    )
    with db.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["int4", "text"])
        copy.write_row((7, "seven"))
    out = sql.SQL("COPY (SELECT * FROM {} WHERE id = %s) TO STDOUT").format(sql.Identifier(table))
    with db.cursor() as cursor, cursor.copy(out, (7,)) as copy:
        assert list(copy.rows()) == [("7", "seven")]


def test_an_error_in_the_data_of_a_copy_stores_nothing_and_the_client_goes_on(
    db: psycopg.Connection, table: str
) -> None:
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
    with (
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
        db.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        copy.write("1\tgood\nnot a number\tbad\n")
    assert rows(db, table) == []


def give_up_copy(db: psycopg.Connection, table: str) -> None:
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
    with db.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write("1\tgood\n")
        raise ZeroDivisionError


def test_a_copy_that_the_client_gives_up_stores_nothing(db: psycopg.Connection, table: str) -> None:
    with pytest.raises(ZeroDivisionError):
        give_up_copy(db, table)
    assert rows(db, table) == []


def test_a_copy_into_a_missing_table_is_the_servers_own_error(db: psycopg.Connection) -> None:
    with (
        pytest.raises(psycopg.errors.UndefinedTable),
        db.cursor() as cursor,
        cursor.copy("COPY nowhere FROM STDIN"),
    ):
        pass


def test_copy_to_stdout_gives_every_row(db: psycopg.Connection) -> None:
    with (
        db.cursor() as cursor,
        cursor.copy("COPY (SELECT generate_series(1, 20000)) TO STDOUT") as copy,
    ):
        assert [int(row[0]) for row in copy.rows()] == list(range(1, 20_001))


def test_a_copy_among_other_statements_is_refused_and_harms_nobody(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    with logged_in(front) as wire:
        answer = wire.send(query(f"SELECT 1; COPY {table} FROM STDIN")).until_ready()
        assert b"only statement" in next(message.body for message in answer if message.kind == "E")
        wire.send(query("SELECT 1")).until_ready()
    assert db.execute("SELECT 1").fetchone() == (1,)


def test_twenty_clients_at_once_get_and_leave_exactly_what_they_should(
    front: Front, db: psycopg.Connection, table: str
) -> None:
    def work(client: int) -> None:
        chance = random.Random(client)
        with psycopg.connect(front.url) as own:
            for number in range(20):
                name = "x" * chance.choice((1, 100, 30_000)) + f" {client} {number}"
                run(own, "INSERT INTO {} VALUES (%s, %s)", table, client * 100 + number, name)
                if chance.random() < 0.2:
                    own.rollback()
                    run(own, "INSERT INTO {} VALUES (%s, %s)", table, client * 100 + number, name)
                assert run(
                    own, "SELECT name FROM {} WHERE id = %s", table, client * 100 + number
                ).fetchall() == [(name,)]
                own.commit()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))
    found = rows(db, table)
    assert [row[0] for row in found] == [
        client * 100 + number for client in range(20) for number in range(20)
    ]
    assert all(
        str(name).endswith(f" {int(str(key)) // 100} {int(str(key)) % 100}") for key, name in found
    )


def test_a_notification_reaches_those_who_listen_and_nobody_else(
    front: Front, db: psycopg.Connection
) -> None:
    with (
        psycopg.connect(front.url, autocommit=True) as one,
        psycopg.connect(front.url, autocommit=True) as two,
    ):
        one.execute("LISTEN MixedCase")
        two.execute('LISTEN "MixedCase"')
        db.execute("NOTIFY mixedcase, 'folded'")
        db.execute("""NOTIFY "MixedCase", 'quoted'""")
        assert [note.payload for note in one.notifies(timeout=5, stop_after=1)] == ["folded"]
        assert [note.payload for note in two.notifies(timeout=5, stop_after=1)] == ["quoted"]
        assert [*one.notifies(timeout=0.1), *two.notifies(timeout=0)] == []


def test_a_client_hears_its_own_notification_with_its_own_number(db: psycopg.Connection) -> None:
    db.execute("LISTEN own")
    db.execute("SELECT pg_notify('own', 'payload')")
    (note,) = db.notifies(timeout=5, stop_after=1)
    assert (note.channel, note.payload, note.pid) == ("own", "payload", db.info.backend_pid)


def test_a_rolled_back_notify_and_a_rolled_back_listen_do_nothing(
    front: Front, db: psycopg.Connection
) -> None:
    with (
        psycopg.connect(front.url) as other,
        psycopg.connect(front.url, autocommit=True) as listener,
    ):
        listener.execute("LISTEN undone")
        other.execute("LISTEN undone")
        other.execute("NOTIFY undone, 'never'")
        other.rollback()
        db.execute("NOTIFY undone, 'once'")
        assert [note.payload for note in listener.notifies(timeout=5, stop_after=1)] == ["once"]
        assert list(other.notifies(timeout=0.1)) == []


@pytest.mark.parametrize(
    "command", ["UNLISTEN stay", "UNLISTEN *", "DISCARD ALL", "SELECT 1; UNLISTEN *; SELECT 2"]
)
def test_a_client_that_stops_listening_stops_only_itself(
    front: Front, db: psycopg.Connection, command: str
) -> None:
    with (
        psycopg.connect(front.url, autocommit=True) as one,
        psycopg.connect(front.url, autocommit=True) as two,
    ):
        for own in (one, two):
            own.execute("LISTEN stay")
        one.execute(command.encode())
        db.execute("NOTIFY stay, 'still'")
        assert [note.payload for note in two.notifies(timeout=5, stop_after=1)] == ["still"]
        assert list(one.notifies(timeout=0.1)) == []


def test_text_that_only_looks_like_a_listen_is_none(front: Front, db: psycopg.Connection) -> None:
    with psycopg.connect(front.url, autocommit=True) as one:
        one.execute(
            "SELECT 'x; LISTEN fake', $$; LISTEN fake$$ -- ; LISTEN fake\n /* ; LISTEN fake; */"
        )
        with psycopg.connect(front.url, autocommit=True) as listener:
            listener.execute("/* a comment */ LISTEN fake")
            db.execute("NOTIFY fake, 'x'")
            assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1
        assert list(one.notifies(timeout=0.1)) == []


def test_a_setting_of_one_client_is_not_seen_by_another(
    front: Front, db: psycopg.Connection
) -> None:
    with (
        psycopg.connect(front.url, autocommit=True) as one,
        psycopg.connect(front.url, autocommit=True) as two,
    ):
        one.execute("SET TIME ZONE 'Europe/Berlin'")
        one.execute("SET my.own = 'secret'")
        two.execute("SELECT set_config('search_path', 'pg_catalog', false)")
        assert db.execute("SHOW timezone").fetchone() == ("UTC",)
        assert db.execute("SELECT current_setting('my.own', true)").fetchone() in ((None,), ("",))
        assert one.execute("SHOW timezone").fetchone() == ("Europe/Berlin",)
        assert one.execute("SHOW my.own").fetchone() == ("secret",)
        assert two.execute("SHOW search_path").fetchone() == ("pg_catalog",)
        one.execute("RESET ALL")
        assert one.execute("SHOW timezone").fetchone() == ("UTC",)
        assert two.execute("SHOW search_path").fetchone() == ("pg_catalog",)


def test_a_setting_that_is_rolled_back_or_local_ends_with_the_transaction(
    front: Front, db: psycopg.Connection
) -> None:
    with psycopg.connect(front.url) as one:
        one.execute("SET work_mem = '77MB'")
        one.rollback()
        assert one.execute("SHOW work_mem").fetchone() == ("4MB",)
        one.execute("SET LOCAL work_mem = '88MB'")
        one.commit()
        assert one.execute("SHOW work_mem").fetchone() == ("4MB",)
    assert db.execute("SHOW work_mem").fetchone() == ("4MB",)


def test_a_role_is_the_clients_own(front: Front, db: psycopg.Connection) -> None:
    with psycopg.connect(front.url, autocommit=True) as one:
        one.execute("SET ROLE pg_read_all_data")
        assert db.execute("SELECT current_user").fetchone() == ("postgres",)
        assert one.execute("SELECT current_user").fetchone() == ("pg_read_all_data",)


def test_settings_asked_for_at_the_login_are_the_clients_own(
    front: Front, db: psycopg.Connection
) -> None:
    options = "-c timezone=Asia/Tokyo -c work_mem=66MB"
    with psycopg.connect(
        front.url, autocommit=True, options=options, application_name="own"
    ) as one:
        assert one.info.parameter_status("TimeZone") == "Asia/Tokyo"
        assert one.execute("SHOW work_mem").fetchone() == ("66MB",)
        assert db.execute("SHOW timezone").fetchone() == ("UTC",)
    with pytest.raises(psycopg.OperationalError, match="Nowhere"):
        psycopg.connect(front.url, options="-c timezone=Nowhere")


def test_postgres_own_timeouts_cannot_end_the_shared_session(
    front: Front, db: psycopg.Connection
) -> None:
    with psycopg.connect(front.url) as one:
        one.execute("SET idle_in_transaction_session_timeout = 1")
        one.execute("SET statement_timeout = 1")
        one.commit()
        assert one.execute("SELECT count(*) FROM generate_series(1, 100000)").fetchone() == (
            100_000,
        )
        assert one.execute("SELECT pg_sleep(0.05)").fetchone() is not None
        assert one.execute("SELECT 1").fetchone() == (1,)
    assert db.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not on this machine")
def test_psql_runs_scripts_of_several_statements(front: Front, table: str) -> None:
    script = f"INSERT INTO {table} VALUES (1, 'a'); SELECT 'one'; BEGIN; SELECT 'two'; COMMIT;\n\\copy {table} FROM STDIN\n2\tb\n\\.\nSELECT count(*) FROM {table};"
    done = subprocess.run(
        ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", front.url],
        input=script,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == ["one", "two", "2"]


def test_a_big_value_goes_in_and_out_whole(db: psycopg.Connection, table: str) -> None:
    value = secrets.token_hex(3_000_000)
    run(db, "INSERT INTO {} VALUES (1, %s)", table, value)
    assert rows(db, table) == [(1, value)]


def test_a_statement_nested_too_deeply_is_an_error_and_not_the_end(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.StatementTooComplex):
        db.execute(b"SELECT " + b"+".join([b"1"] * 100_000))
    assert db.execute("SELECT 1").fetchone() == (1,)
