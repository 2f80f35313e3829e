"""Servers that HTTP and PostgreSQL leave to others: servers.py LOG

SSH (port 22) asks for no password, and takes a command of one word. Redis (6379) takes it as the key of a GET,
MongoDB (27017) as the value of a command `answer`, gRPC (50051) anywhere in the message of any method. The word
is "now?MARK" or "after/N?MARK": the answer comes at once or after N seconds, and the request is noted in LOG as
tests/lab/server.py does. Prints "listening" and closes standard output once connections are accepted. None
switches TCP keepalive on.
"""

import asyncio
import os
import re
import struct
import sys
import time

import asyncssh
import bson
import grpc


async def answer(scheme, address, words):
    """Notes a request and waits as it says."""
    wait, mark = re.search(r"(?:now|after/(\d+))\?([\w-]+)", words).groups()
    address = address.removeprefix("::ffff:")
    family = "IPv6" if ":" in address else "IPv4"
    os.write(log, f"{time.time():.3f} {address} {family} {scheme}?{mark}\n".encode())
    await asyncio.sleep(int(wait or 0))


class Ssh(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False


async def ssh(process):
    await answer("ssh", process.get_extra_info("peername")[0], process.command)
    process.stdout.write("42\n")
    process.exit(0)


async def redis(reader, writer):
    """https://redis.io/docs/latest/develop/reference/protocol-spec/: arrays of bulk strings."""
    while head := await reader.readline():
        words = []
        for _ in range(int(head[1:])):
            length = int((await reader.readline())[1:])
            words.append((await reader.readexactly(length + 2))[:-2].decode())
        if words[0].upper() == "GET":
            await answer("redis", writer.get_extra_info("peername")[0], words[1])
            writer.write(b"$2\r\n42\r\n")
        else:
            writer.write(b"+OK\r\n")
    writer.close()


async def mongodb(reader, writer):
    """https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/: OP_MSG with one section."""
    op_msg, head = 2013, struct.Struct("<iiii")
    hello = {
        "isWritablePrimary": True,
        "msg": "isdbgrid",
        "maxBsonObjectSize": 1 << 24,
        "maxMessageSizeBytes": 1 << 25,
        "maxWriteBatchSize": 1,
        "minWireVersion": 0,
        "maxWireVersion": 21,
        "serviceId": bson.ObjectId(),
    }
    while start := await reader.read(head.size):
        length, request, _, operation = head.unpack(start)
        assert operation == op_msg, operation
        # Flags of four bytes, the section's kind in one, the document.
        command = bson.decode((await reader.readexactly(length - head.size))[5:])
        reply = {"ok": 1}
        if "hello" in command:
            reply |= hello
        elif "answer" in command:
            await answer("mongodb", writer.get_extra_info("peername")[0], command["answer"])
            reply["answer"] = 42
        body = bytes(5) + bson.encode(reply)
        writer.write(head.pack(head.size + len(body), 0, request, op_msg) + body)
    writer.close()


class Grpc(grpc.GenericRpcHandler):
    def service(self, call):
        # A google.pubsub.v1.PullResponse with one message, whose data are "42".
        reply = b"\x0a\x06\x12\x04\x0a\x0242" if call.method.endswith("/Pull") else b"42"

        async def method(request, context):
            # ipv4:ADDRESS:PORT or ipv6:[ADDRESS]:PORT, percent-encoded.
            address = context.peer().partition(":")[2].rpartition(":")[0]
            address = address.replace("%5B", "").replace("%5D", "")
            await answer("grpc", address, request.decode(errors="replace"))
            return reply

        return grpc.unary_unary_rpc_method_handler(method)


async def serve():
    key = asyncssh.generate_private_key("ssh-ed25519")
    await asyncssh.listen(
        port=22,
        server_factory=Ssh,
        server_host_keys=[key],
        process_factory=ssh,
        tcp_keepalive=False,
    )
    await asyncio.start_server(redis, port=6379)
    await asyncio.start_server(mongodb, port=27017)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Grpc()])
    server.add_insecure_port("[::]:50051")
    await server.start()
    print("listening", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    await asyncio.Event().wait()


log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
asyncio.run(serve())
