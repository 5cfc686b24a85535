"""psycopg 3 through the gateway: pipelines, COPY, server-side cursors, binary values, notifications, cancellation.

Where to is said by libpq's environment variables. Prints "ok" when all of it held."""

import threading
import time
from datetime import datetime, timezone
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg import sql


def typed_values(conn):
    values = (7, 2**40, "ü ' \\ \n", b"\x00\xff\x27", Decimal("12345.6789"), True, None,
              datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), UUID(int=5), [1, 2, 3])
    places = "%b::int, %b::bigint, %b::text, %b::bytea, %b::numeric, %b::bool, %b::text, %b::timestamptz, %b::uuid, %b::int[]"
    for binary in (False, True):
        with conn.cursor(binary=binary) as cursor:
            assert cursor.execute(f"SELECT {places}", values).fetchone() == values, binary
    # Five times is what makes psycopg prepare a statement by name.
    for number in range(12):
        assert conn.execute("SELECT %s + 1", (number,)).fetchone() == (number + 1,)


def pipelines(conn):
    with conn.pipeline() as pipeline:
        cursors = [conn.execute("SELECT %s::int, repeat('x', %s)", (n, n)) for n in range(500)]
        pipeline.sync()
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(500))
    conn.rollback()
    # An error in the middle aborts what follows up to the next sync, and nothing before it or after it.
    conn.autocommit = True
    conn.execute("CREATE TEMP TABLE ran (what text)")
    try:
        with conn.pipeline() as pipeline:
            conn.execute("INSERT INTO ran VALUES ('before')")
            pipeline.sync()
            conn.execute("SELECT 1/0")
            conn.execute("INSERT INTO ran VALUES ('skipped')")
        raise AssertionError("a division by zero went unnoticed")
    except (psycopg.errors.DivisionByZero, psycopg.errors.PipelineAborted):
        conn.execute("INSERT INTO ran VALUES ('after')")
    assert conn.execute("SELECT what FROM ran").fetchall() == [("before",), ("after",)]
    conn.autocommit = False


def copies(conn):
    conn.execute("CREATE TEMP TABLE copied (id int, name text, body bytea)")
    rows = [(n, f"name {n}\t\n\\", bytes([n % 256]) * (n % 97)) for n in range(20_000)]
    with conn.cursor() as cursor, cursor.copy("COPY copied FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    with conn.cursor() as cursor, cursor.copy("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "text", "bytea"])
        assert list(copy.rows()) == rows
    try:
        with conn.cursor() as cursor, cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write("not a number\tx\t\n")
        raise AssertionError("a row that is none was taken")
    except psycopg.errors.InvalidTextRepresentation:
        conn.rollback()
    try:
        with conn.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE given_up (id int)")
            with cursor.copy("COPY given_up FROM STDIN") as copy:
                copy.write("1\n")
                raise KeyError("the program gave up")
    except (KeyError, psycopg.errors.QueryCanceled):
        conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)


def cursors(conn):
    with conn.cursor(name="big") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, 5000)")
        assert sum(row[0] for row in cursor) == 5000 * 5001 // 2
    with conn.cursor(name="moved", scrollable=True) as cursor:
        cursor.execute("SELECT generate_series(1, 100)")
        cursor.scroll(49)
        assert cursor.fetchone() == (50,)
        cursor.scroll(-1)
        assert cursor.fetchone() == (50,)
    conn.rollback()


def notifications(conn):
    conn.autocommit = True
    conn.execute("LISTEN news")
    with psycopg.connect(autocommit=True) as other:
        for number in range(3):
            other.execute("SELECT pg_notify('news', %s)", (f"number {number}",))
    heard = []
    for notification in conn.notifies():
        heard.append(notification.payload)
        if len(heard) == 3:
            break
    assert heard == ["number 0", "number 1", "number 2"], heard
    conn.autocommit = False


def cancellation(conn):
    timer = threading.Timer(0.5, conn.cancel)
    started = time.monotonic()
    timer.start()
    try:
        conn.execute("SELECT pg_sleep(100)")
        raise AssertionError("the query was not cancelled")
    except psycopg.errors.QueryCanceled:
        pass
    assert time.monotonic() - started < 60
    # PostgreSQL signals a backend and its process group, so that one request may cancel two statements.
    for _time in range(3):
        conn.rollback()
        try:
            assert conn.execute("SELECT pg_sleep(0.1), 'alive'").fetchone()[1] == "alive"
        except psycopg.errors.QueryCanceled:
            pass
    conn.rollback()


def two_phases(conn):
    conn.execute("CREATE TABLE IF NOT EXISTS two_phases (id int)")
    conn.commit()
    with psycopg.connect() as other:
        other.tpc_begin(other.xid(1, "gtrid", "bqual"))
        other.execute("INSERT INTO two_phases VALUES (1)")
        other.tpc_prepare()
        other.tpc_rollback()
    assert conn.execute("SELECT count(*) FROM two_phases").fetchone() == (0,)
    conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("two_phases")))
    conn.commit()


def main():
    with psycopg.connect() as conn:
        for story in (typed_values, pipelines, copies, cursors, notifications, cancellation, two_phases):
            story(conn)
    print("ok")


main()
