#!/usr/bin/python3
"""The lab's HTTP server: server.py PORT LOG [CERTIFICATE]

GET /now      answers at once.
GET /after/N  answers after N seconds; until then no packet flows.

POST /v1/chat/completions, /v1/responses, /v1/messages  answer as OpenAI's and Anthropic's API do. There
are two models, "now" and "after/N": the second thinks for N seconds.

POST /model/MODEL/invoke, ANY/v1beta/models/MODEL:generateContent  answer as Amazon Bedrock's and Gemini's
API do; the model is part of the path.

With a CERTIFICATE (PEM, with its key) it speaks TLS.

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
import ssl
import sys
import time
import urllib.parse

# What the SDKs ask for in a reply, and no more.
REPLIES = {
    "/v1/chat/completions": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "lab",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "42"}}
        ],
    },
    "/v1/responses": {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": "lab",
        "status": "completed",
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "42", "annotations": []}],
            }
        ],
    },
    "/v1/messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "lab",
        "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "42"}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    "invoke": {"answer": 42},
    "generateContent": {"candidates": [{"content": {"role": "model", "parts": [{"text": "42"}]}}]},
}


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
        address, family = self.note()
        answer = {"answer": 42, "client": address, "family": family}
        self.answer_after(self.path.partition("?")[0], lambda waited: answer | {"waited": waited})

    def do_POST(self):
        self.note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urllib.parse.unquote(self.path)
        if in_path := re.fullmatch(r".*/models?/([^?:]+).*[/:](invoke|generateContent)", path):
            model, method = in_path.groups()
        else:
            model, method = json.loads(body).get("model"), path.partition("?")[0]
        reply = REPLIES.get(method)
        self.answer_after(reply and f"/{model}", lambda _: reply)

    def note(self):
        """Writes the request's line and returns the client's address and family."""
        address = self.client_address[0]
        family = "IPv6"
        if address.startswith("::ffff:"):
            address = address.removeprefix("::ffff:")
            family = "IPv4"
        # One write on a descriptor in append mode: lines of several threads do not mix.
        path = urllib.parse.unquote(self.path)
        os.write(log, f"{time.time():.3f} {address} {family} {path}\n".encode())
        return address, family

    def answer_after(self, wait, answer):
        """Waits as "/now" or "/after/N" says, and answers."""
        found = re.fullmatch(r"/now|/after/(\d{1,5})", wait or "")
        if not found:
            self.send_error(404)
            return
        waited = int(found[1] or 0)
        time.sleep(waited)
        body = json.dumps(answer(waited)).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """The log has its line already."""


port, log_file, *certificate = sys.argv[1:]
log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
with Server(("::", int(port)), Handler) as server:
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        # The handshake is for the connection's own thread: one slow client must not hold up the others.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    print("listening", flush=True)
    # Not sys.stdout.close(): descriptor 1 would be the next connection's, and stray output its data.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    server.serve_forever()
