"""A client that dies, stops, or does not read must not keep the others waiting."""

import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psutil
import psycopg
import pytest

from database.fronts import Front, copy_of_pristine, eventually, line_of, own_front, python_client
from database.wire import logged_in, query

LIMIT_SECONDS = 1.0

IN_TRANSACTION = """
import sys, psycopg
connection = psycopg.connect(sys.argv[1])
connection.execute("INSERT INTO kept VALUES (1)")
print("inserted", flush=True)
sys.stdin.readline()
try:
    connection.execute("SELECT 1")
except psycopg.Error as error:
    print(error.sqlstate or type(error).__name__, flush=True)
"""

IN_COPY = """
import sys, psycopg
connection = psycopg.connect(sys.argv[1], autocommit=True)
with connection.cursor().copy("COPY kept FROM STDIN") as copy:
    for number in range(100_000):
        copy.write_row((number,))
    print("copying", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def quick(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front that soon loses patience. `front` has seen to it that there is something to copy."""
    data = copy_of_pristine(tmp_path_factory.mktemp("shared-quick") / "pgdata")
    with own_front(data, idle_transaction_seconds=LIMIT_SECONDS) as (own, _):
        with psycopg.connect(own.url) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        yield own


def kept(front: Front) -> int:
    with psycopg.connect(front.url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def patient(front: Front, db: psycopg.Connection) -> Iterator[Front]:
    """A front that is patient for a minute, with the same table."""
    db.execute("CREATE TABLE kept (id int)")
    yield front
    db.execute("DROP TABLE kept")


def test_a_client_killed_in_a_transaction_leaves_nothing_and_keeps_nobody_waiting(
    patient: Front,
) -> None:
    with python_client(IN_TRANSACTION, patient.url) as client:
        assert line_of(client) == "inserted"
        client.kill()
        assert kept(patient) == 0


def test_a_client_killed_in_a_copy_leaves_nothing_and_keeps_nobody_waiting(quick: Front) -> None:
    with python_client(IN_COPY, quick.url) as client:
        assert line_of(client) == "copying"
        assert kept(quick) == 0
        client.kill()
    assert kept(quick) == 0


def test_a_client_stopped_in_a_transaction_is_put_out_after_the_limit(quick: Front) -> None:
    with python_client(IN_TRANSACTION, quick.url) as client:
        assert line_of(client) == "inserted"
        client.send_signal(signal.SIGSTOP)
        assert kept(quick) == 0  # this waited for the limit
        assert client.stdin is not None
        client.stdin.write("\n")
        client.stdin.flush()
        client.send_signal(signal.SIGCONT)
        assert line_of(client) == "25P03"


def test_a_client_that_goes_on_in_its_transaction_is_not_put_out(quick: Front) -> None:
    with psycopg.connect(quick.url) as connection:
        for _ in range(8):
            assert connection.execute("SELECT pg_sleep(0.2)").fetchone()
        connection.rollback()


def test_a_client_is_not_put_out_for_the_time_in_which_the_front_stood_still(quick: Front) -> None:
    answers: list[object] = []
    with psycopg.connect(quick.url) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        node = psutil.Process(quick.pid)
        node.suspend()
        try:
            asking = Thread(
                target=lambda: answers.append(connection.execute("SELECT 1").fetchone())
            )
            asking.start()
            asking.join(1.5 * LIMIT_SECONDS)  # what it sends lies there before the front goes on
        finally:
            node.resume()
        asking.join(60)
        connection.rollback()
    assert answers == [(1,)]


def test_a_transaction_idle_for_less_than_the_limit_makes_others_wait_and_is_kept(
    patient: Front,
) -> None:
    with psycopg.connect(patient.url) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        seen: list[int] = []
        waiting = Thread(target=lambda: seen.append(kept(patient)))
        waiting.start()
        waiting.join(0.5)
        assert seen == []
        connection.execute("DELETE FROM kept")
        connection.execute("INSERT INTO kept VALUES (1), (2), (3)")
        connection.commit()
        waiting.join(60)
    assert seen == [3]


def test_a_client_that_does_not_read_keeps_nobody_waiting_and_gets_all_in_the_end(
    quick: Front,
) -> None:
    node = psutil.Process(quick.pid)
    with logged_in(quick) as slow:
        before = node.memory_info().rss
        slow.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 300)"))
        eventually(lambda: kept(quick) == 0, "others are served", seconds=15)
        # V8 takes some hundred megabytes for a moment when it optimizes Postgres' largest functions.
        eventually(
            lambda: node.memory_info().rss - before < 180_000_000,
            "memory is given back",
            seconds=60,
        )
        assert (
            sum(len(part.body) for part in slow.until_ready() if part.kind == "D")
            == 300 * 1_000_006
        )


def test_a_client_that_does_not_read_in_its_transaction_is_put_out(quick: Front) -> None:
    with logged_in(quick) as slow:
        slow.send(query("BEGIN"), query("INSERT INTO kept VALUES (1)"))
        slow.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 30)"), query("COMMIT"))
        assert kept(quick) == 0


def test_turns_go_round_among_those_who_wait(patient: Front) -> None:
    with logged_in(patient) as greedy, logged_in(patient) as modest:
        with psycopg.connect(patient.url) as holder:
            holder.execute("INSERT INTO kept VALUES (0)")  # it has the turn: the others wait
            greedy.send(*(query("INSERT INTO kept VALUES (1)") for _ in range(3000)))
            modest.send(query("SELECT count(*) FROM kept"))
        [count] = [part.body for part in modest.until_ready() if part.kind == "D"]
        assert int(count[6:]) < 1000  # its turn came before most of the other's
        assert greedy.kinds() == "CZ"


def test_without_clients_the_process_rests(front: Front, tmp_path: Path) -> None:
    with own_front(copy_of_pristine(tmp_path / "pgdata")) as (own, _):
        with psycopg.connect(own.url) as connection:
            connection.execute("SELECT 1")
        node = psutil.Process(own.pid)
        eventually(
            lambda: node.cpu_percent(interval=1) == 0.0, "no processor time is used", seconds=60
        )
