"""asyncpg, which prepares everything, resets connections that go back to its pool, and listens."""

# asyncpg has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import anyio
import asyncpg
import pytest

from database.fronts import Front

pytestmark = pytest.mark.anyio


async def test_asyncpg_works_with_its_pool_prepared_statements_and_listeners(
    front: Front, table: str
) -> None:
    heard: list[object] = []
    async with asyncpg.create_pool(
        front.url.removesuffix("?sslmode=disable"), min_size=3, max_size=3, ssl=False
    ) as pool:

        async def insert(number: int) -> None:
            async with (
                pool.acquire() as own,
                own.transaction(),
            ):  # its release sends the reset query
                await own.execute(f"INSERT INTO {table} VALUES ($1, $2)", number, str(number))
                assert await own.fetchval(f"SELECT name FROM {table} WHERE id = $1", number) == str(
                    number
                )

        listener = await pool.acquire()

        def hear(*note: object) -> None:
            heard.append(note[3])

        await listener.add_listener("asyncpg", hear)
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(insert, number)
        await pool.execute("NOTIFY asyncpg, 'heard'")
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 20
        with anyio.fail_after(5):
            while not heard:
                await listener.execute("SELECT 1")
        await listener.remove_listener("asyncpg", hear)
        await pool.release(listener)
    assert heard == ["heard"]


async def test_asyncpg_copies_in_and_out(front: Front, table: str) -> None:
    own = await asyncpg.connect(front.url.removesuffix("?sslmode=disable"), ssl=False)
    try:
        await own.copy_records_to_table(
            table, records=[(number, str(number)) for number in range(1000)]
        )
        assert await own.fetchval(f"SELECT sum(id) FROM {table}") == sum(range(1000))
    finally:
        await own.close()
