"""Writing labelled 28x28 images in the formats that other programs read: CSV, IDX and folders of PNGs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.bounded import idx_header
from datamodules.official import NAMES

SIDE = 28
HEADER = ",".join(["label", *(f"pixel{i}" for i in range(SIDE * SIDE))])  # of Kaggle's digit recognizer
CELLS = np.array([f"{value}," for value in range(256)], "S4")  # each number and its separator
LAST_CELLS = np.array([f"{value}\n" for value in range(256)], "S4")
RAW = Path("MNIST", "raw")  # where torchvision.datasets.MNIST looks below its root


class CSVWriter:
    """One file with one line per image: the label, then the pixels row by row, 0 to 255.

    Args:
        path: the file.
        count: images that will be written; the other formats need to know it first.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.file = open(path, "wb")  # noqa: SIM115  # closed by `close`
        self.file.write(f"{HEADER}\n".encode())

    def write(self, images: np.ndarray, labels: np.ndarray | None) -> None:
        """Adds images, uint8 (N, 28, 28), and their labels (N,), from 0 to 255."""
        assert labels is not None, "a CSV has a column of labels"
        cells = CELLS[np.column_stack([labels, images.reshape(len(images), -1)])]  # (N, 785)
        cells[:, -1] = LAST_CELLS[images[:, -1, -1]]
        characters = cells.reshape(-1).view(np.uint8)
        self.file.write(characters[characters != 0].tobytes())  # without what pads each cell to four

    def close(self) -> None:
        self.file.close()


class IDXWriter:
    """A folder that `torchvision.datasets.MNIST` takes as its root: MNIST's four files, those of the test set empty."""

    def __init__(self, path: Path, count: int) -> None:
        folder = path / RAW
        folder.mkdir(parents=True)
        for name, shape in zip(NAMES, ((count, SIDE, SIDE), (count,), (0, SIDE, SIDE), (0,)), strict=True):
            (folder / name).write_bytes(idx_header(shape))
        self.images, self.labels = (open(folder / name, "ab") for name in NAMES[:2])  # noqa: SIM115

    def write(self, images: np.ndarray, labels: np.ndarray | None) -> None:
        """Adds images, uint8 (N, 28, 28), and their labels (N,), from 0 to 255."""
        assert labels is not None, "IDX has a file of labels"
        self.images.write(images.tobytes())
        self.labels.write(labels.astype(np.uint8).tobytes())

    def close(self) -> None:
        try:
            self.images.close()
        finally:  # even if the disk has no room for the rest of the images
            self.labels.close()


class PNGWriter:
    """One folder per class, as `torchvision.datasets.ImageFolder` reads them, with files numbered over all classes.

    Images without labels are written into the folder itself.
    """

    def __init__(self, path: Path, count: int) -> None:
        path.mkdir()
        self.path = path
        self.digits = len(str(count - 1))
        self.done = 0

    def write(self, images: np.ndarray, labels: np.ndarray | None) -> None:
        """Adds images, uint8 (N, 28, 28), and their labels (N,), if any."""
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
def image_set_writer(path: Path, form: str, count: int) -> Iterator[Writer]:
    """A writer whose file or folder gets its name once it is complete; if anything fails, nothing is left behind.

    Raises:
        ValueError: something of that name exists already.
        OSError: it cannot be written (the disk is full, say); names the path.
    """
    if path.exists():
        raise ValueError(f"{path} exists already")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    writer: Writer | None = None
    try:
        writer = WRITERS[form](temporary, count)
        yield writer
        writer.close()
        temporary.rename(path)
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(temporary):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    finally:
        with suppress(OSError):  # what has not been written yet finds no room here either
            if writer is not None:
                writer.close()
        remove(temporary)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
