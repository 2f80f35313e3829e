#!/usr/bin/python3
"""A resolver that never answers an AAAA question: drop-aaaa.py ADDRESS UPSTREAM LOG

Such resolvers exist, and make each lookup of a name wait for the whole resolver timeout. Questions of
other types are passed on to UPSTREAM; what is dropped is noted in LOG, in dnsmasq's words. UDP only: no
answer in the lab is long enough for TCP. Prints "listening" and closes standard output once it can be asked.
"""

import os
import socket
import sys

AAAA = 28

address, upstream, log_file = sys.argv[1:]
log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
front.bind((address, 53))
print("listening", flush=True)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

while True:
    question, client = front.recvfrom(65535)
    # RFC 1035, 4.1: a header of 12 octets, then the name as labels, each behind its length, up to an
    # empty one; then the type. (What is malformed is dropped as well.)
    labels, at = [], 12
    while at < len(question) and question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]])
        at += 1 + question[at]
    kind = int.from_bytes(question[at + 1 : at + 3], "big")
    if kind == AAAA:
        name = b".".join(labels).decode("ascii", "replace")
        os.write(log, f"dropped: query[AAAA] {name} from {client[0]}\n".encode())
        continue
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind((address, 0))
        back.settimeout(1)
        try:
            back.sendto(question, (upstream, 53))
            front.sendto(back.recv(65535), client)
        except TimeoutError:
            pass
