#!/usr/bin/python3
"""The lab's HTTP server: server.py PORT LOG

GET /now      answers at once.
GET /after/N  answers after N seconds; until then no packet flows.

What follows a "?" is ignored, so that a test can mark its requests. When a request has arrived, and
before it is answered, a line goes to LOG: time, client address, IPv4 or IPv6, path. Prints "listening"
and closes standard output once connections are accepted.

It never switches TCP keepalive on, and closes each connection after one answer (HTTP/1.0): whatever keeps
a connection alive in the lab is the client's doing.
"""

import http.server
import json
import os
import re
import socket
import socketserver
import sys
import time


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 1024

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's own: that one looks up the host's name, and there is no resolver here.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request, client_address):
        """A client that goes away while it waits is nothing to report."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        address = self.client_address[0]
        family = "IPv6"
        if address.startswith("::ffff:"):
            address = address.removeprefix("::ffff:")
            family = "IPv4"
        # One write on a descriptor in append mode: lines of several threads do not mix.
        os.write(log, f"{time.time():.3f} {address} {family} {self.path}\n".encode())

        found = re.fullmatch(r"/now|/after/(\d{1,5})", self.path.partition("?")[0])
        if not found:
            self.send_error(404)
            return
        waited = int(found[1] or 0)
        time.sleep(waited)
        answer = {"answer": 42, "waited": waited, "client": address, "family": family}
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """The log has its line already."""


port, log_file = sys.argv[1:]
log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
with Server(("::", int(port)), Handler) as server:
    print("listening", flush=True)
    # Not sys.stdout.close(): descriptor 1 would be the next connection's, and stray output its data.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    server.serve_forever()
