"""Labelled 28x28 images in files that other programs read too: CSV, IDX and folders of PNGs, written piece by piece."""

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from datamodules.idx import NAMES, first_existing, parse

SIDE = 28
HEADER = ",".join(["label", *(f"pixel{i}" for i in range(SIDE * SIDE))])  # of Kaggle's digit recognizer
CELLS = np.array([f"{value}," for value in range(256)], "S4")  # each number and what follows it, a byte a character
LAST_CELLS = np.array([f"{value}\n" for value in range(256)], "S4")
RAW = Path("MNIST", "raw")  # where torchvision.datasets.MNIST looks below its root


class CSVWriter:
    """One file: a line an image, the label and then its pixels row by row, 0 to 255.

    Args:
        path: the file.
        count: images that will come; not needed here, but the other formats say it first.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.file = open(path, "wb")  # noqa: SIM115  # closed by `close`
        self.file.write(f"{HEADER}\n".encode())

    def write(self, images: np.ndarray, labels: np.ndarray | None) -> None:
        """Adds images, uint8 (N, 28, 28), and their labels, uint8 (N,)."""
        assert labels is not None, "a CSV has a column of labels"
        cells = CELLS[np.column_stack([labels, images.reshape(len(images), -1)])]  # (N, 785)
        cells[:, -1] = LAST_CELLS[images[:, -1, -1]]
        characters = cells.reshape(-1).view(np.uint8)
        self.file.write(characters[characters != 0].tobytes())  # without what pads each cell to four

    def close(self) -> None:
        self.file.close()


class IDXWriter:
    """A folder that `torchvision.datasets.MNIST` takes for its root: MNIST's four files, the test set's empty."""

    def __init__(self, path: Path, count: int) -> None:
        folder = path / RAW
        folder.mkdir(parents=True)
        for name, shape in zip(NAMES, ((count, SIDE, SIDE), (count,), (0, SIDE, SIDE), (0,)), strict=True):
            (folder / name).write_bytes(idx_header(*shape))
        self.images, self.labels = (open(folder / name, "ab") for name in NAMES[:2])  # noqa: SIM115

    def write(self, images: np.ndarray, labels: np.ndarray | None) -> None:
        """Adds images, uint8 (N, 28, 28), and their labels, uint8 (N,)."""
        assert labels is not None, "IDX has a file of labels"
        self.images.write(images.tobytes())
        self.labels.write(labels.tobytes())

    def close(self) -> None:
        self.images.close()
        self.labels.close()


def idx_header(*shape: int) -> bytes:
    """What stands before the numbers of an IDX file of uint8.

    >>> parse(idx_header(2) + bytes([7, 9]))
    tensor([7, 9], dtype=torch.uint8)
    """
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


class PNGWriter:
    """A folder a class, `torchvision.datasets.ImageFolder`'s way, in it files numbered over all classes.

    Images without labels lie in one folder, numbered alike.
    """

    def __init__(self, path: Path, count: int) -> None:
        path.mkdir()
        self.path = path
        self.digits = len(str(count - 1))
        self.done = 0

    def write(self, images: np.ndarray, labels: np.ndarray | None) -> None:
        """Adds images, uint8 (N, 28, 28), and their labels, uint8 (N,), if any."""
        folders = [self.path / str(label) for label in labels] if labels is not None else [self.path] * len(images)
        for folder in set(folders):
            folder.mkdir(exist_ok=True)
        for folder, image in zip(folders, images, strict=True):
            Image.fromarray(image).save(folder / f"{self.done:0{self.digits}d}.png", compress_level=1)
            self.done += 1

    def close(self) -> None:
        """Nothing is open."""


Writer = CSVWriter | IDXWriter | PNGWriter
WRITERS: dict[str, type[CSVWriter] | type[IDXWriter] | type[PNGWriter]] = {
    "csv": CSVWriter,
    "idx": IDXWriter,
    "png": PNGWriter,
}


@contextmanager
def written(path: Path, form: str, count: int) -> Iterator[Writer]:
    """A writer whose file or folder gets its name when all of it is there; when anything fails, nothing is left."""
    temporary = path.with_name(f".{path.name}.part")
    writer: Writer | None = None
    try:
        writer = WRITERS[form](temporary, count)
        yield writer
        writer.close()
        temporary.rename(path)
    finally:
        if writer is not None:
            writer.close()
        remove(temporary)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def read_labelled(path: str | Path, key: str = "data.path", num_classes: int = 10) -> tuple[Tensor, Tensor]:
    """The images, uint8 (N, 1, 28, 28), and labels, int64 (N,), of a set in any of the three formats.

    `key` is the option that named it, for the messages.

    Raises:
        ValueError: there is no such set, or it is not what it has to be.
    """
    path = Path(path)
    try:
        if path.is_file():
            images, labels = read_csv(path)
        elif path.is_dir():
            raw = next((folder for folder in (path, path / RAW, path / "raw") if has_idx(folder)), None)
            images, labels = read_idx(raw) if raw else read_png(path)
        else:
            raise ValueError("no such file or folder: task=generate writes one")
        if len(labels) == 0:
            raise ValueError("holds no image")
        if labels.max() >= num_classes:
            raise ValueError(f"has the label {labels.max()}: they go from 0 to {num_classes - 1}")
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{key}={path}: {' '.join(str(error).split())}") from error
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with open(path, "rb") as file:
        if file.readline(2 * len(HEADER)).rstrip().decode(errors="replace") != HEADER:
            raise ValueError("not a CSV with the header label,pixel0,...,pixel783")
        first = file.read(1)
        file.seek(-len(first), 1)
        table = np.loadtxt(file, np.uint8, delimiter=",", ndmin=2) if first else np.empty((0, SIDE * SIDE + 1), "u1")
    if table.shape[1] != SIDE * SIDE + 1:
        raise ValueError(f"has {table.shape[1]} columns: a label and {SIDE * SIDE} pixels are needed")
    return table[:, 1:].reshape(-1, SIDE, SIDE), table[:, 0]


def has_idx(folder: Path) -> bool:
    return all(first_existing(folder / name, folder / f"{name}.gz") for name in NAMES[:2])


def read_idx(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the two files of the training set hold, raw or .gz."""
    arrays = []
    for name, dimensions in zip(NAMES[:2], (3, 1), strict=True):
        file = first_existing(folder / name, folder / f"{name}.gz")
        assert file is not None
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        sizes = np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4") if len(content) >= 4 + 4 * dimensions else [0]
        if content[:4] != idx_header(*[0] * dimensions)[:4] or len(content) != 4 + 4 * dimensions + np.prod(sizes):
            raise ValueError(f"{file.name} is damaged or no IDX file of bytes in {dimensions} dimensions")
        arrays.append(parse(content).numpy())
    images, labels = arrays
    if images.shape[1:] != (SIDE, SIDE) or len(images) != len(labels):
        shape = "x".join(map(str, images.shape))
        raise ValueError(f"holds {shape} images and {len(labels)} labels: Nx28x28 and N are needed")
    return images, labels


def read_png(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images of the class folders, in the order of their own names over all classes."""
    files = sorted(folder.glob("[0-9]*/*.png"), key=lambda file: (file.stem, file.parent.name))
    if not files:
        raise ValueError("neither IDX files nor PNGs in a folder a class (0/, 1/, ...)")
    images, labels = np.empty((len(files), SIDE, SIDE), np.uint8), np.empty(len(files), np.int64)
    for i, file in enumerate(files):
        try:
            with Image.open(file) as image:
                if image.size != (SIDE, SIDE) or image.mode != "L":
                    raise ValueError(f"{file.parent.name}/{file.name} is not a gray image of 28x28 pixels")
                images[i] = np.asarray(image)
        except UnidentifiedImageError as error:
            raise ValueError(f"{file.parent.name}/{file.name} is no image") from error
        labels[i] = int(file.parent.name)
    return images, labels
