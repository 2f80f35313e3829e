"""An SSH server: sshd.py LOG

It asks for no password, and takes a command of two words: a mark, and the seconds to wait before it answers.
Notes each command in LOG as tests/lab/server.py does. Prints "listening" and closes standard output once
connections are accepted. It never switches TCP keepalive on.
"""

import asyncio
import os
import sys
import time

import asyncssh


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False


async def answer(process):
    address = process.get_extra_info("peername")[0]
    mark, wait = process.command.split()
    family = "IPv6" if ":" in address else "IPv4"
    os.write(log, f"{time.time():.3f} {address} {family} ssh?{mark}\n".encode())
    await asyncio.sleep(float(wait))
    process.stdout.write("42\n")
    process.exit(0)


async def serve():
    await asyncssh.listen(
        port=22,
        server_factory=Server,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=answer,
        tcp_keepalive=False,
    )
    print("listening", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    await asyncio.Event().wait()


log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
asyncio.run(serve())
