"""task=demo's server against hostile clients over real sockets: bounded bytes, pixels, time and threads."""

import io
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tasks import demo_server
from tasks.checkpoint import load
from tasks.demo import Net, classify
from tasks.demo_requests import MAX_BYTES, MAX_REQUEST_BYTES
from tasks.demo_server import MAX_CONNECTIONS, DemoServer


def png(width: int = 28, height: int = 28) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "png")
    return file.getvalue()


def lying_png(width: int, height: int) -> bytes:
    """A small file whose header claims another size."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return png()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png()[33:]


class Classifier:
    """Stands for a net: counts the drawings that reach it, and how many at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.seconds = 0.0
        self.error: Exception | None = None

    def __call__(self, drawing: bytes) -> dict[str, Any]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.sizes.append(len(drawing))
        time.sleep(self.seconds)
        self.at_once -= 1
        if self.error:
            raise self.error
        return {"classes": ["0"]}


@pytest.fixture
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture
def server(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoServer]:
    monkeypatch.setattr(demo_server, "READ_SECONDS", 1.0)
    server = DemoServer(0, b"<p>page", classifier)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with server:
        yield server
        server.shutdown()
    thread.join()


def connect(server: DemoServer) -> socket.socket:
    return socket.create_connection((demo_server.HOST, server.server_port), timeout=20)


def ask(server: DemoServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Sends bytes as they are; the status (0 where there is no answer), the headers and the body of the answer."""
    with connect(server) as client:
        client.sendall(request)
        return answer(client)


def answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    content = b""
    while part := client.recv(2**16):
        content += part
    if not content.startswith(b"HTTP/"):
        return 0, {}, content
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def post(server: DemoServer, body: bytes, *headers: str, host: str = "", path: str = "/classify") -> bytes:
    """A request; with `headers` these in place of its Content-Length."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{server.server_port}'}"]
    return "\r\n".join([*lines, *(headers or [f"Content-Length: {len(body)}"]), "\r\n"]).encode() + body


def test_page_and_drawings_are_answered_with_headers_that_close_the_page_off(server: DemoServer) -> None:
    for host in ("127.0.0.1", "localhost"):
        page = f"GET / HTTP/1.1\r\nHost: {host}:{server.server_port}\r\n\r\n".encode()
        status, headers, body = ask(server, page)
        assert (status, body) == (200, b"<p>page")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        origin = f"Origin: http://{host}:{server.server_port}"
        status, headers, body = ask(server, post(server, png(), f"Content-Length: {len(png())}", origin))
        assert (status, json.loads(body)) == (200, {"classes": ["0"]})
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert server.drawings == 2


LENGTHS = {
    "-1": 400, "abc": 400, "": 400, "1e3": 400, "+5": 400, "0x10": 400, "10, 10": 400, "\u00b2": 400,
    str(MAX_BYTES + 1): 413, "9" * 18: 413, "9" * 30: 400,
}  # fmt: skip


@pytest.mark.parametrize("length", LENGTHS)
def test_length_that_is_no_number_or_too_large_is_refused(
    length: str, server: DemoServer, classifier: Classifier
) -> None:
    started = time.monotonic()
    status, _, body = ask(server, post(server, png(), f"Content-Length: {length}"))
    assert status == LENGTHS[length]
    assert body.count(b"\n") == 1
    assert time.monotonic() - started < 3
    assert classifier.sizes == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Accept: */*",), 411),
        (("Transfer-Encoding: chunked",), 411),
        (("Transfer-Encoding: chunked", "Content-Length: 5"), 411),
        (("Content-Length: 5", "Content-Length: 6"), 400),
        (("Content-Length: 5", "Origin: http://example.org"), 403),
        (("Content-Length: 5", "Origin: null"), 403),
        (("Content-Length: 5", "Host: example.org"), 403),  # a second one
    ],
)
def test_request_of_another_kind_or_site_is_refused(
    headers: tuple[str, ...], status: int, server: DemoServer, classifier: Classifier
) -> None:
    assert ask(server, post(server, b"5\r\nhello\r\n0\r\n\r\n", *headers))[0] == status
    assert classifier.sizes == []


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.example.org:80", "[::1]:80"])
def test_host_of_another_name_is_refused(host: str, server: DemoServer) -> None:
    assert ask(server, post(server, png(), host=host))[0] == 403
    assert ask(server, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0] == 403


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", {403}),
        (b"GET /../demo.py HTTP/1.1\r\nHost: HOST\r\n\r\n", {404}),
        (b"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx", {404}),
        (b"DELETE / HTTP/1.1\r\nHost: HOST\r\n\r\n", {501}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 500 + b"\n\n", {400, 0}),  # TLS
        (b"GET / HTTP/9.9\r\nHost: HOST\r\n\r\n", {0, 505}),
        (b"GET / HTTP/x\r\nHost: HOST\r\n\r\n", {0, 400}),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: HOST\r\n\r\n", {414}),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n" + b"X: y\r\n" * 500 + b"\r\n", {431}),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", {431}),
        (b"", {0}),
        (b"\r\n\r\n", {0, 400}),
    ],
)
def test_request_that_is_none_gets_a_short_answer(request_: bytes, statuses: set[int], server: DemoServer) -> None:
    address = f"127.0.0.1:{server.server_port}".encode()
    with connect(server) as client:
        client.sendall(request_.replace(b"HOST", address))
        client.shutdown(socket.SHUT_WR)
        status, _, body = answer(client)
    assert status in statuses
    assert b"Traceback" not in body
    assert len(body) < 200
    assert_still_answers(server)


@pytest.mark.parametrize(
    ("drawing", "status"),
    [
        (lying_png(100_000, 100_000), 413),
        (lying_png(13_000, 13_000), 413),
        (lying_png(1_025, 1), 413),
        (lying_png(0, 5), 413),
        (png()[:20], 415),
        (b"GIF89a" + bytes(100), 415),
        (b"", 415),
        (bytes(MAX_BYTES), 415),
    ],
)
def test_image_that_is_no_png_or_too_large_is_not_decoded(
    drawing: bytes, status: int, server: DemoServer, classifier: Classifier
) -> None:
    assert ask(server, post(server, drawing))[0] == status
    assert classifier.sizes == []


def test_body_that_ends_early_is_refused(server: DemoServer, classifier: Classifier) -> None:
    with connect(server) as client:
        client.sendall(post(server, png(), "Content-Length: 5000"))
        client.shutdown(socket.SHUT_WR)
        assert answer(client)[0] == 400
    assert classifier.sizes == []


@pytest.mark.parametrize("piece", [b"", b"P", b"POST /classify HTTP/1.1\r\n"])
def test_slow_client_has_its_time_for_the_whole_request(piece: bytes, server: DemoServer) -> None:
    started = time.monotonic()
    with connect(server) as client:
        client.sendall(piece)
        try:
            while time.monotonic() - started < 10:
                client.sendall(b"a" if piece else b"")  # each byte would start the clock of a socket again
                client.settimeout(0.1)
                try:
                    if client.recv(1000) == b"":
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
    assert time.monotonic() - started < 4  # 1 s, and what a busy machine adds
    assert_still_answers(server)


def test_slow_body_is_answered_with_408(server: DemoServer) -> None:
    with connect(server) as client:
        client.sendall(post(server, png()[:30], "Content-Length: 5000"))
        assert answer(client)[0] == 408


def test_drawings_are_classified_one_at_a_time_and_connections_are_bounded(
    server: DemoServer, classifier: Classifier
) -> None:
    classifier.seconds = 0.05
    before = threading.active_count()
    most = 0
    clients, answers = [], []
    for _ in range(3 * MAX_CONNECTIONS):
        client = connect(server)
        clients.append(client)
        try:
            client.sendall(post(server, png()))
            most = max(most, threading.active_count())
        except OSError:
            pass
    for client in clients:
        with client:
            try:
                answers.append(answer(client)[0])
            except ConnectionResetError:
                answers.append(0)
    assert set(answers) <= {0, 200}
    assert answers.count(200) >= MAX_CONNECTIONS
    assert most <= before + MAX_CONNECTIONS
    assert classifier.most_at_once == 1
    assert_still_answers(server)


def test_fault_of_the_classifier_is_one_line_on_either_side(
    server: DemoServer, classifier: Classifier, capfd: pytest.CaptureFixture[str]
) -> None:
    classifier.error = RuntimeError("secret\npath")
    status, _, body = ask(server, post(server, png()))
    assert status == 500
    assert b"secret" not in body
    assert capfd.readouterr().err == "demo: RuntimeError: secret path\n"
    classifier.error = ValueError("nothing on it")
    assert ask(server, post(server, png()))[::2] == (200, b"{}")


def test_outputs_that_are_not_finite_are_no_answer() -> None:
    model, data = load("published/lenet_mnist")
    for weight in model.parameters():
        weight.data *= 1e30
    drawing = Image.new("L", (28, 28))
    drawing.paste(255, (12, 4, 16, 24))
    drawing.save(file := io.BytesIO(), "png")
    with pytest.raises(FloatingPointError, match="LeNet5 are not finite"):
        classify({"LeNet5": Net(model, data, 1)}, file.getvalue())


def test_client_that_hangs_up_leaves_no_word(server: DemoServer, capfd: pytest.CaptureFixture[str]) -> None:
    for request in (b"GET", post(server, png()[:40], "Content-Length: 100"), post(server, png())):
        client = connect(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # it resets the connection
        client.sendall(request)
        client.close()
    assert_still_answers(server)
    assert capfd.readouterr() == ("", "")


def test_request_for_a_sample_is_answered_and_what_is_none_is_refused(server: DemoServer) -> None:
    good = {"label": 3, "seed": 5, "position": 0.25}
    assert ask(server, post(server, json.dumps(good).encode(), path="/generate"))[0] == 404  # there is no generator
    server.generate = lambda wish: {"wish": wish.model_dump()}
    status, _, body = ask(server, post(server, json.dumps(good).encode(), path="/generate"))
    assert (status, json.loads(body)) == (200, {"wish": good})
    wrong: list[dict[str, Any]] = [
        *({**good, "label": label} for label in (-1, 1_000, 2.5, True, "3", None, 10**30)),
        *({**good, "seed": seed} for seed in (-1, 2**31, 0.5)),
        *({**good, "position": position} for position in (-0.1, 1.1, "0.5", float("nan"), float("inf"), [0.5])),
        {**good, "more": 1},
        {"label": 3},
    ]
    for content in (*(json.dumps(wish).encode() for wish in wrong), b"", b"[" * 900, b"null", png(), b"\xff{}"):
        status, _, body = ask(server, post(server, content, path="/generate"))
        assert status == 400, content
        assert body.count(b"\n") == 1
    assert ask(server, post(server, b" " * (MAX_REQUEST_BYTES + 1), path="/generate"))[0] == 413
    assert server.drawings == 0
    assert_still_answers(server)


def assert_still_answers(server: DemoServer) -> None:
    for _ in range(50):  # while the threads of others end
        try:
            status, _, body = ask(server, post(server, png()))
        except ConnectionResetError:
            status = 0
        if status == 200:
            assert re.match(rb"\{", body)
            return
        time.sleep(0.1)
    raise AssertionError("the server no longer answers")
