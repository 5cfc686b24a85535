"""Prints the SQLSTATE of a connection that is refused.

usage: refused_client.py DATABASE, the rest by libpq's environment variables"""

import asyncio
import sys

import asyncpg


async def main():
    try:
        await asyncpg.connect(database=sys.argv[1], ssl="disable")
    except asyncpg.PostgresError as error:
        assert error.detail and error.hint, error
        print(error.sqlstate)
    else:
        sys.exit("it connected")


asyncio.run(main())
