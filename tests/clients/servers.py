"""Servers that HTTP and PostgreSQL leave to others: servers.py LOG

SSH (port 22) asks for no password, and takes a command of one word. Redis (6379) takes it as the key of a GET,
MongoDB (27017) as the value of a command `answer`, gRPC (50051) anywhere in the message of any method, FTP (21) as
the name of a file, SMTP (25) as the client's own name, Kafka (9092) as the client's id, HTTP (8080), which keeps
its connections, as the path, SQL Server (1433) anywhere in a batch. The word is "now?MARK" or "after/N?MARK": the
answer comes at once or after N seconds, and the request is noted in LOG as tests/lab/server.py does. Prints
"listening" and closes standard output once connections are accepted. None switches TCP keepalive on.
"""

import asyncio
import contextlib
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


def closing(serve):
    """A server that closes the connection at the end. A client that goes away is nothing to report."""

    async def serve_and_close(reader, writer):
        gone = ConnectionError, asyncio.IncompleteReadError
        with contextlib.suppress(*gone), contextlib.closing(writer):
            await serve(reader, writer)

    return serve_and_close


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


async def ftp(reader, writer):
    """RFC 959, and EPSV (RFC 2428). The file flows all the while that the control connection is silent."""
    address = writer.get_extra_info("peername")[0]
    listener, connected = None, asyncio.Queue()

    def say(words):
        writer.write(f"{words}\r\n".encode())

    say("220 lab")
    while line := (await reader.readline()).decode():
        command, _, argument = line.strip().partition(" ")
        if command in ("PASV", "EPSV"):
            local = writer.get_extra_info("sockname")[0]
            listener = await asyncio.start_server(lambda *ends: connected.put_nowait(ends[1]), local, 0)
            port = listener.sockets[0].getsockname()[1]
            host = ",".join(local.split("."))
            ways = {
                "PASV": f"227 ok ({host},{port >> 8},{port & 255})",
                "EPSV": f"229 ok (|||{port}|)",
            }
            say(ways[command])
        elif command == "RETR":
            say("150 ok")
            data = await connected.get()
            answered = asyncio.ensure_future(answer("ftp", address, argument))
            while not (await asyncio.wait([answered], timeout=1))[0]:
                data.write(b" ")
            data.write(b"42\n")
            data.close()
            listener.close()
            say("226 ok")
        else:
            say("230 ok")


async def smtp(reader, writer):
    """RFC 5321. A host's name can have dots alone: after.7.MARK."""
    writer.write(b"220 lab\r\n")
    while line := (await reader.readline()).decode():
        command, _, argument = line.strip().partition(" ")
        if command == "EHLO":
            *wait, mark = argument.split(".")
            await answer("smtp", writer.get_extra_info("peername")[0], f"{'/'.join(wait)}?{mark}")
        writer.write(b"250 42\r\n")


async def kafka(reader, writer):
    """https://kafka.apache.org/protocol: Metadata, version 0. It tells of a topic with the name 42."""
    noted = False
    while size := await reader.read(4):
        request = await reader.readexactly(int.from_bytes(size))
        correlation, length = request[4:8], int.from_bytes(request[8:10])
        if not noted:
            client = request[10 : 10 + length].decode()
            await answer("kafka", writer.get_extra_info("peername")[0], client)
            noted = True
        topic = struct.pack(">ihh2si", 1, 0, 2, b"42", 0)
        reply = correlation + struct.pack(">i", 0) + topic
        writer.write(struct.pack(">i", len(reply)) + reply)


async def tds(reader, writer):
    """[MS-TDS], version 7.1: every batch has a row with 42 for an answer."""
    login, head = 16, struct.Struct(">BBHHBx")

    def text(words):
        return bytes([len(words)]) + words.encode("utf-16-le")

    welcome = b"\x01\x71\x00\x00\x01" + text("lab") + bytes(4)
    collation = b"\xe3" + struct.pack("<HBB", 8, 7, 5) + b"\x09\x04\xd0\x00\x34\x00"
    done = b"\xfd" + struct.pack("<HHI", 0x10, 0xC1, 1)
    # A column of four bytes without a name.
    row = b"\x81" + struct.pack("<HHHB", 1, 0, 0, 56) + text("") + b"\xd1" + struct.pack("<i", 42)
    while start := await reader.read(head.size):
        kind, _, length, *_ = head.unpack(start)
        batch = (await reader.readexactly(length - head.size)).decode("utf-16-le", "replace")
        if "?" in batch and kind != login:
            await answer("tds", writer.get_extra_info("peername")[0], batch)
        acknowledged = b"\xad" + struct.pack("<H", len(welcome)) + welcome + collation
        body = (acknowledged if kind == login else row) + done
        writer.write(head.pack(4, 1, head.size + len(body), 0, 1) + body)


async def http(reader, writer):
    """HTTP/1.1: the connection stays open for the next request. Only a request with a mark is noted."""
    while line := (await reader.readline()).decode():
        while await reader.readline() != b"\r\n":
            pass
        if "?" in line:
            await answer("http", writer.get_extra_info("peername")[0], line)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n42\n")


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
    ports = {21: ftp, 25: smtp, 1433: tds, 6379: redis, 8080: http, 9092: kafka, 27017: mongodb}
    for port, protocol in ports.items():
        await asyncio.start_server(closing(protocol), port=port)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Grpc()])
    server.add_insecure_port("[::]:50051")
    await server.start()
    print("listening", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    await asyncio.Event().wait()


log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
asyncio.run(serve())
