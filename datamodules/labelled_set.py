"""Reading labelled 28x28 images of one's own: a CSV, IDX files or a folder of PNGs. Nothing in them is trusted."""

import codecs
import json
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from datamodules.bounded import MAX_BYTES, READ_ERRORS, first_intact, open_file, open_picture, read_idx, reason
from datamodules.formats import RAW, SIDE
from datamodules.official import NAMES

COLUMNS = SIDE * SIDE + 1
MAX_CSV_BYTES = 2 * MAX_BYTES  # at least two characters per pixel
MAX_CSV_SIDE = 128  # pixels, where a CSV may have images of any size
MAX_LINE = 16 * COLUMNS  # characters of a line: names such as pixel783, or three digits and some blanks
MAX_FILE_BYTES = 1 << 20  # of a PNG of 28x28 pixels, of the record beside a generated set


def read_labelled(path: str | Path, num_classes: int = 10, names: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """The images, uint8 (N, 1, 28, 28), and labels, int64 (N,), of a set in any of the three formats.

    Args:
        path: of the file or folder.
        num_classes: labels go from 0 to one less.
        names: of the classes. Where all are numbers, a label is the class of that name: of "1" and "2", 1 is the first.

    Raises:
        ValueError: there is no such set, or something in it is not as it has to be; one line that starts with the path.
    """
    path = Path(path)
    try:
        if not path.exists():
            path.stat()  # says why
        if path.is_dir():
            folder = next((folder for folder in (path, path / RAW, path / "raw") if has_idx(folder)), None)
            images, labels = read_idx_pair(folder) if folder else read_png(path)
        else:
            images, labels = read_csv(path)
        if len(labels) == 0:
            raise ValueError("holds no image")
        if names and all(name.isdecimal() for name in names):
            labels = places(labels, [int(name) for name in names])
        if labels.max() >= num_classes:
            raise ValueError(f"has the label {labels.max()}: they go from 0 to {num_classes - 1}")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file or folder") from None
    except READ_ERRORS as error:
        raise ValueError(f"{path}: {reason(error)}") from error
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def places(labels: np.ndarray, numbers: list[int]) -> np.ndarray:
    """The place of each label among the numbers of the classes.

    >>> places(np.array([2, 1, 2]), [1, 2, 3])
    array([1, 0, 1])

    Raises:
        ValueError: there is no such class.
    """
    found, inverse = np.unique(labels, return_inverse=True)
    if unknown := sorted({*found.tolist()} - {*numbers}):
        raise ValueError(f"has the label {unknown[0]}: the classes are {', '.join(map(str, numbers[:20]))}")
    return np.array([numbers.index(label) for label in found.tolist()])[inverse]


def read_csv(path: Path, columns: int | None = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """The images (N, S, S) and labels of a CSV: the label, then the pixels. A first line of names is skipped.

    Args:
        path: of the file.
        columns: how many there are; None takes as many as the first line has, which have to be a square and the label.
    """
    longest = MAX_LINE if columns is not None else 16 * (MAX_CSV_SIDE**2 + 1)
    with open_file(path, MAX_CSV_BYTES) as file:
        first_line = next(bounded_lines(file, longest=longest), "")
        columns = columns or count_columns(first_line)
        start = 2 if is_header(first_line, columns) else 1
        if start == 1:
            file.seek(0)
        try:
            rows = (line for line in bounded_lines(file, start, longest) if line.strip())
            first = next(rows, None)
            if first is None:
                raise ValueError("holds no image")
            table = np.loadtxt(chain([first], rows), np.uint8, delimiter=",", ndmin=2, comments=None)
        except ValueError:
            file.seek(0)
            check_lines(islice(bounded_lines(file, longest=longest), start - 1, None), start, columns)
            raise
    if table.shape[1] != columns:
        raise ValueError(f"line {start} has {table.shape[1]} columns: {columns} are needed, the label and the pixels")
    side = math.isqrt(columns - 1)
    return table[:, 1:].reshape(-1, side, side), table[:, 0]


def count_columns(line: str) -> int:
    """The columns of a CSV by its first line: the label and the pixels of a square image.

    >>> count_columns("label,1x1,1x2,2x1,2x2")
    5

    Raises:
        ValueError: there are more or fewer.
    """
    count = line.count(",") + 1
    if count < 5 or math.isqrt(count - 1) ** 2 != count - 1:
        raise ValueError(f"line 1 has {count} columns: it needs the label and the pixels of a square, 785 for 28x28")
    return count


def is_header(line: str, columns: int = COLUMNS) -> bool:
    """Whether the first line of a CSV names the columns.

    Raises:
        ValueError: it neither does, nor holds numbers.
    """
    cells = [cell.strip().strip('"') for cell in line.split(",")]
    if cells[0].lower() == "label" and len(cells) == columns:
        return True
    if not line or not all(cell.isdecimal() for cell in cells):
        raise ValueError(f"line 1 is neither the names label,pixel0,...,pixel{columns - 2} nor {columns} integers")
    return False


def bounded_lines(file: BinaryIO, number: int = 1, longest: int = MAX_LINE) -> Iterator[str]:
    """The lines of a file, of which the first has that number.

    Raises:
        ValueError: a line is too long or not text.
    """
    while line := file.readline(longest + 1):
        if len(line) > longest:
            raise ValueError(f"line {number} has more than {longest:,} characters")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)  # with which spreadsheets begin a text
        try:
            yield line.decode("ascii")
        except UnicodeDecodeError:
            raise ValueError(f"line {number} is not text") from None
        number += 1


def check_lines(lines: Iterator[str], number: int, columns: int = COLUMNS) -> None:
    """Finds the first line that is wrong.

    Raises:
        ValueError: says which line and column.
    """
    names = ["label", *(f"pixel{index}" for index in range(columns - 1))]
    for line_number, line in enumerate(lines, number):
        if not line.strip():
            continue
        cells = line.removesuffix("\n").removesuffix("\r").split(",")
        if len(cells) != columns:
            raise ValueError(
                f"line {line_number} has {len(cells)} columns: {columns} are needed, the label and the pixels"
            )
        for column, cell in zip(names, cells, strict=True):
            digits = cell.strip(" \t")  # of other blanks, NumPy allows some
            if not digits.isdecimal() or len(digits) > 3 or int(digits) > 255:
                raise ValueError(f"line {line_number}, {column}: {cell[:20]!r} is not an integer from 0 to 255")


def has_idx(folder: Path) -> bool:
    return all(idx_candidates(folder, name) for name in NAMES[:2])


def idx_candidates(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]


def read_idx_pair(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The contents of the two files of the training set, raw or .gz."""
    images, labels = (
        first_intact(idx_candidates(folder, name), partial(read_idx, dimensions=count))
        for name, count in zip(NAMES, (3, 1), strict=False)
    )
    if images.shape[1:] != (SIDE, SIDE) or len(images) != len(labels):
        shape = "x".join(map(str, images.shape))
        raise ValueError(f"holds {shape} images and {len(labels)} labels: Nx28x28 and N are needed")
    return images, labels


def read_png(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images of the class folders 0/, 1/, ..., in the order of their own names over all classes."""
    limit = MAX_BYTES // (SIDE * SIDE)
    files = list(islice(folder.glob("[0-9]*/*.png"), limit + 1))
    if not files:
        raise ValueError("holds neither IDX files nor PNGs in one folder per class (0/, 1/, ...)")
    if len(files) > limit:
        raise ValueError(f"holds more than {limit:,} images")
    files.sort(key=lambda file: (file.stem, file.parent.name))
    images, labels = np.empty((len(files), SIDE, SIDE), np.uint8), np.empty(len(files), np.int64)
    for i, file in enumerate(files):
        name = f"{file.parent.name}/{file.name}"
        if not file.parent.name.isdecimal() or len(file.parent.name) > 9:
            raise ValueError(f"{file.parent.name}/ is not the number of a class")
        labels[i] = int(file.parent.name)
        try:
            with open_file(file, MAX_FILE_BYTES) as content, open_picture(content, formats=("PNG",)) as image:
                if image.size != (SIDE, SIDE) or image.mode != "L":
                    raise ValueError(f"is not a gray image of {SIDE}x{SIDE} pixels")
                images[i] = np.asarray(image)
        except READ_ERRORS as error:
            raise ValueError(f"{name} {reason(error)}") from error
    return images, labels


def check_imitates(path: str | Path, domain: str) -> None:
    """Refuses a generated set that imitates other images than those of `domain`, such as "mnist".

    What it imitates stands in the record that `tasks.generate` writes beside it: generated.json beside generated.csv or
    the folder generated/. A set without such a record passes.

    Raises:
        ValueError: it imitates others, or its record cannot be read.
    """
    place = Path(os.path.abspath(path))
    for inner in (RAW, Path("raw"), RAW.parent):  # below a set of IDX files, which may be named by its own folder
        if place.is_dir() and place.parts[-len(inner.parts) :] == inner.parts:
            place = place.parents[len(inner.parts) - 1]
            break
    record = place.parent / f"{place.stem}.json"
    record = record.relative_to(Path.cwd()) if record.is_relative_to(Path.cwd()) else record
    try:
        with open_file(record, MAX_FILE_BYTES) as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        return
    except (*READ_ERRORS, RecursionError) as error:
        raise ValueError(f"{record}, the record of {path}, cannot be read: {reason(error)}") from error
    imitates = content.get("imitates") if isinstance(content, dict) else None
    if not isinstance(imitates, str | None):
        raise ValueError(f"{record}, the record of {path}, does not say what it imitates")
    if isinstance(imitates, str) and imitates.removesuffix("_5k") != domain:
        named = imitates or "a set of a person's own"
        raise ValueError(f"{path} imitates {named}, it cannot stand for images of {domain or 'this set'}")
