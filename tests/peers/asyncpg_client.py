"""asyncpg through the gateway: prepared statements, binary values, COPY, notifications, cancellation by timeout, a pool.

Where to is said by libpq's environment variables. Prints "ok" when all of it held."""

import asyncio
import datetime
import decimal
import io
import uuid

import asyncpg


async def typed_values(conn):
    values = (7, 2**40, "ü ' \\", b"\x00\xff", decimal.Decimal("12345.6789"), True, None,
              datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), uuid.UUID(int=5), [1, None, 3])
    row = await conn.fetchrow(
        "SELECT $1::int, $2::bigint, $3::text, $4::bytea, $5::numeric, $6::bool, $7::text, $8::timestamptz, $9::uuid, $10::int[]",
        *values)
    assert tuple(row) == values, row
    statement = await conn.prepare("SELECT $1::int * 2")
    for number in range(50):
        assert await statement.fetchval(number) == number * 2
    # A composite type makes asyncpg ask the catalogs in the middle of its own work.
    await conn.execute("CREATE TYPE pair AS (a int, b text)")
    assert tuple(await conn.fetchval("SELECT $1::pair", (1, "one"))) == (1, "one")
    await conn.execute("DROP TYPE pair")


async def copies(conn):
    await conn.execute("CREATE TEMP TABLE copied (id int, name text)")
    rows = [(n, f"name {n}") for n in range(20_000)]
    assert await conn.copy_records_to_table("copied", records=rows) == "COPY 20000"
    out = io.BytesIO()
    await conn.copy_from_query("SELECT * FROM copied ORDER BY id", output=out, format="csv")
    assert out.getvalue().decode().splitlines() == [f"{n},name {n}" for n, _ in rows]
    await conn.executemany("INSERT INTO copied VALUES ($1, $2)", rows[:1000])
    assert await conn.fetchval("SELECT count(*) FROM copied") == 21_000


async def cursors(conn):
    async with conn.transaction():
        total = 0
        async for row in conn.cursor("SELECT generate_series(1, 5000) AS n", prefetch=100):
            total += row["n"]
        assert total == 5000 * 5001 // 2
    try:
        async with conn.transaction():
            await conn.execute("CREATE TABLE never (id int)")
            async with conn.transaction():
                await conn.execute("SELECT 1/0")
        raise AssertionError("a division by zero went unnoticed")
    except asyncpg.DivisionByZeroError:
        pass
    assert await conn.fetchval("SELECT to_regclass('never')") is None


async def notifications(conn):
    heard = asyncio.Queue()
    await conn.add_listener("news", lambda _conn, _pid, _channel, payload: heard.put_nowait(payload))
    other = await asyncpg.connect()
    await other.execute("NOTIFY news, 'one'")
    await other.close()
    assert await asyncio.wait_for(heard.get(), 60) == "one"
    await conn.reset()


async def cancellation(conn):
    for _round in range(3):
        try:
            await conn.fetch("SELECT pg_sleep(100)", timeout=0.5)
            raise AssertionError("the query was not cancelled")
        except asyncio.TimeoutError:
            pass
        # PostgreSQL signals a backend and its process group, so that one request may cancel two statements.
        try:
            assert await conn.fetchval("SELECT 'alive' FROM pg_sleep(0.1)") == "alive"
        except asyncpg.QueryCanceledError:
            pass


async def pool():
    async with asyncpg.create_pool(min_size=2, max_size=8) as shared:
        async def one(number):
            async with shared.acquire() as conn:
                return await conn.fetchval("SELECT $1::int + pg_backend_pid() * 0", number)
        assert await asyncio.gather(*map(one, range(100))) == list(range(100))


async def main():
    conn = await asyncpg.connect()
    for story in (typed_values, copies, cursors, notifications, cancellation):
        await story(conn)
    await conn.close()
    await pool()
    print("ok")


asyncio.run(main())
