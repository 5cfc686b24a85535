"""AsyncSSH as a client: many channels at once, a terminal, SFTP. Prints `ok`, or why not.

usage: asyncssh_client.py HOST USER KNOWN_HOSTS
"""

import asyncio
import hashlib
import os
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

import asyncssh  # noqa: E402


async def commands(connection):
    """Sixteen channels of one connection at once, each with its own streams and exit code."""

    async def one(number):
        line = f"cat; echo err{number} >&2; exit {number}"
        done = await connection.run(line, input=f"in{number}")
        assert (done.stdout, done.stderr, done.exit_status) == (f"in{number}", f"err{number}\n", number), done

    await asyncio.gather(*(one(number) for number in range(16)))


async def terminal(connection):
    process = await connection.create_process("stty size; read line; stty size", term_type="xterm", term_size=(91, 17))
    assert (await process.stdout.readline()).strip() == "17 91"
    process.change_terminal_size(120, 40)
    process.stdin.write("\n")
    rest = await process.stdout.read()
    assert "40 120" in rest, rest


async def signals(connection):
    process = await connection.create_process("echo runs; exec sleep 1000")
    # sshd's child takes the signal for its own until it has become the program.
    assert await process.stdout.readline() == "runs\n"
    process.send_signal("TERM")
    await process.wait()
    assert process.exit_signal[0] == "TERM", process.exit_signal


async def files(connection):
    data = os.urandom(6_000_000)
    with tempfile.TemporaryDirectory() as folder:
        here, back = os.path.join(folder, "here"), os.path.join(folder, "back")
        with open(here, "wb") as file:
            file.write(data)
        async with connection.start_sftp_client() as sftp:
            await sftp.put(here, "from-asyncssh")
            assert await sftp.getsize("from-asyncssh") == len(data)
            await sftp.get("from-asyncssh", back)
            await sftp.remove("from-asyncssh")
        with open(back, "rb") as file:
            assert hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest()


async def main(host, user, known_hosts):
    options = {"username": user, "known_hosts": known_hosts, "client_keys": None, "agent_path": None, "config": None}
    async with asyncssh.connect(host, **options) as connection:
        for part in (commands, terminal, signals, files):
            await asyncio.wait_for(part(connection), 60)
    print("ok")


asyncio.run(main(*sys.argv[1:]))
