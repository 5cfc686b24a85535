"""libpq 18, as psycopg's binary wheel brings it: protocol 3.2 with long cancel keys, TLS from the first byte.

Arguments: the protocol version that the far end is expected to agree to, and the CA file of its certificate."""

import sys
import threading

import psycopg
from psycopg import pq


def cancelled(conn):
    """Cancels in both of libpq's ways; the newer one has a connection of its own, over TLS when the session has it."""
    for cancel in (conn.cancel, conn.cancel_safe):
        timer = threading.Timer(0.3, cancel)
        timer.start()
        try:
            conn.execute("SELECT pg_sleep(100)")
            raise AssertionError("the query was not cancelled")
        except psycopg.errors.QueryCanceled:
            conn.rollback()
        timer.join()


def main():
    expected, ca = int(sys.argv[1]), sys.argv[2]
    assert pq.version() >= 180000, pq.version()
    for options in ({}, {"max_protocol_version": "3.2"}, {"min_protocol_version": "3.0", "max_protocol_version": "latest"}):
        with psycopg.connect(**options) as conn:
            full = conn.pgconn.full_protocol_version
            assert full == (expected if options else 30000), (options, full)
            cancelled(conn)
    if ca == "-":
        print("ok")
        return
    for negotiation in ("postgres", "direct"):
        for mode in ("require", "verify-ca", "verify-full"):
            with psycopg.connect(sslnegotiation=negotiation, sslmode=mode, sslrootcert=ca) as conn:
                assert conn.pgconn.ssl_in_use, (negotiation, mode)
                cancelled(conn)
    print("ok")


main()
