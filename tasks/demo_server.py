"""The web server of task=demo: one page and two questions, for browsers on this machine alone.

Whatever a client sends, the server's memory, threads and time are bounded, and its answers hold no traceback.
"""

import io
import json
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tasks.demo_requests import MAX_BYTES, BoundedReader, RequestError, SampleRequest, check_png, read_sample_request

HOST = "127.0.0.1"
MAX_CONNECTIONS = 8  # at once, each in a thread
READ_SECONDS = 5.0  # for a whole request to arrive, and for its answer to be taken
LINGER_SECONDS = 0.5  # for a client to stop sending what was refused
WAIT_SECONDS = 10.0  # for the drawings before it
HEADERS = {
    # the page may contact this server only
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Classify = Callable[[bytes], dict[str, Any]]
Generate = Callable[[SampleRequest], dict[str, Any]]


class DemoServer(ThreadingHTTPServer):
    """Answers GET / with `page`, POST /classify with what `classify` makes of the PNG in its body, and POST /generate
    with what `generate` makes of the request in its body; both as JSON.

    Args:
        port: of 127.0.0.1, 0 for any that is free.
        page: HTML.
        classify: from the bytes of a PNG of at most `MAX_SIDE` pixels a side to what JSON can hold; a ValueError says
            that there is nothing to classify. It is called for one drawing at a time.
        generate: from a request for a sample to what JSON can hold, in turn with the drawings; None where there is no
            generator.

    Raises:
        OSError: the port is in use or not allowed.
    """

    daemon_threads = True
    request_queue_size = 2 * MAX_CONNECTIONS

    def __init__(self, port: int, page: bytes, classify: Classify, generate: Generate | None = None) -> None:
        self.page = page
        self.classify = classify
        self.generate = generate
        self.drawings = 0
        self.lock = threading.Lock()
        self.free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((HOST, port), DemoHandler)
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.origins = {f"http://{host}" for host in self.hosts}

    def server_bind(self) -> None:
        """Binds without the look-up of the host's name that `HTTPServer` does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection a thread of its own; one too many is closed."""
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for what is not the client's doing; a client that hangs up is not worth one."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"demo: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)

    def answer(self, path: str, content: bytes) -> dict[str, Any]:
        """The answer to a drawing or a request for a sample, after those before it; empty if nothing can be shown."""
        if path == "/generate":
            if self.generate is None:
                raise RequestError(404, "there is no generator")
            make: Callable[[], dict[str, Any]] = partial(self.generate, read_sample_request(content))
        else:
            check_png(content)
            make = partial(self.classify, content)
        if not self.lock.acquire(timeout=WAIT_SECONDS):
            raise RequestError(503, "other drawings come first")
        try:
            self.drawings += path == "/classify"
            return make()
        except ValueError:
            return {}
        finally:
            self.lock.release()


class DemoHandler(BaseHTTPRequestHandler):
    """One request of one connection."""

    server: DemoServer
    wfile: io.BytesIO
    refused = True  # also what `BaseHTTPRequestHandler` cannot parse
    server_version = "demo"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def setup(self) -> None:
        """Reads with a deadline and a limit for the whole request, where sockets only have one for each packet."""
        self.connection = self.request
        self.connection.settimeout(READ_SECONDS)
        self.rfile = io.BufferedReader(BoundedReader(self.connection, READ_SECONDS, MAX_BYTES + 2**16))
        self.wfile = io.BytesIO()

    def finish(self) -> None:
        """Sends the answer as a whole: a client that takes it byte by byte has no more time than another."""
        try:
            self.connection.settimeout(READ_SECONDS)
            self.connection.sendall(self.wfile.getvalue())
            self.connection.shutdown(socket.SHUT_WR)
            if self.refused:  # a connection closed with unread bytes is reset, and the refusal lost
                BoundedReader(self.connection, LINGER_SECONDS, MAX_BYTES).readall()
        except OSError:
            pass  # the client is gone

    def do_GET(self) -> None:
        self.respond(self.get)

    def do_POST(self) -> None:
        self.respond(self.post)

    def get(self) -> tuple[str, bytes]:
        if self.path != "/":
            raise RequestError(404, "there is only /")
        return "text/html; charset=utf-8", self.server.page

    def post(self) -> tuple[str, bytes]:
        if self.path not in ("/classify", "/generate"):
            raise RequestError(404, "there are only /classify and /generate")
        length = self.content_length()
        content = self.rfile.read(length)
        if len(content) < length:
            raise RequestError(400, "the body is shorter than its Content-Length")
        return "application/json", json.dumps(self.server.answer(self.path, content)).encode()

    def respond(self, method: Callable[[], tuple[str, bytes]]) -> None:
        """Sends what a method returns, or why there is no such answer."""
        try:
            self.check_sender()
            status, (kind, body) = 200, method()
        except RequestError as error:
            status, kind, body = error.status, "text/plain; charset=utf-8", f"{error.reason}\n".encode()
        except TimeoutError:
            status, kind, body = 408, "text/plain; charset=utf-8", b"the request did not arrive in time\n"
        except Exception:
            self.server.handle_error(self.request, self.client_address)
            status, kind, body = 500, "text/plain; charset=utf-8", b"this could not be answered\n"
        self.refused = status >= 400
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def check_sender(self) -> None:
        """Refuses other sites' pages: by name (DNS rebinding) and by origin."""
        hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            raise RequestError(403, "this server is for 127.0.0.1 and localhost")
        if any(origin.lower() not in self.server.origins for origin in origins):
            raise RequestError(403, "this server answers its own page only")

    def content_length(self) -> int:
        if "Transfer-Encoding" in self.headers:
            raise RequestError(411, "a Content-Length is needed, not a Transfer-Encoding")
        lengths = self.headers.get_all("Content-Length", [])
        if not lengths:
            raise RequestError(411, "a Content-Length is needed")
        if len(lengths) > 1 or not re.fullmatch("[0-9]{1,18}", lengths[0]):
            raise RequestError(400, "Content-Length must be one number of bytes")
        if int(lengths[0]) > MAX_BYTES:
            raise RequestError(413, f"a drawing has at most {MAX_BYTES:,} bytes")
        return int(lengths[0])

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuses what cannot be parsed, without repeating it."""
        super().send_error(code)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each stroke would hide the address."""
