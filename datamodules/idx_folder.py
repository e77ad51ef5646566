"""IDX files under the names of MNIST, EMNIST or QMNIST, in a folder of a person's own."""

import itertools
import re
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.bounded import MAX_BYTES, first_intact, read_idx
from datamodules.found_set import (
    FoundSet,
    Part,
    check_class_names,
    check_pairs,
    gray_images,
    labels_of_numbers,
    part_of,
    visible_entries,
)

# train-images-idx3-ubyte, emnist-letters-test-labels-idx1-ubyte.gz, qmnist-train-labels-idx2-int
FILE = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test|val)-(?P<kind>images|labels)[-.]idx(?P<form>\d-ubyte|2-int)")
PLACES = ("", "raw", "MNIST/raw", "gzip", "raw/gzip")  # below the folder that is named
MAX_FILES = 10_000  # in a folder
MAX_LABEL_BYTES = MAX_BYTES // 32  # 33 million labels; as int64 in memory they take eight times as much
MAX_NAMED = 5  # of the sets or files that a message is about


def find_idx(path: Path, prefix: str | None = None) -> FoundSet | None:
    """The images of IDX files in a folder; None where there are none.

    EMNIST's are stored with rows and columns exchanged, and are turned; of QMNIST's labels the class is taken.

    Args:
        path: the folder, or one that has it as raw/ or MNIST/raw/.
        prefix: of the files' names, where there are several sets: "emnist-letters-".

    Raises:
        ValueError: there are several sets, one is incomplete or has a part twice, or a file is damaged.
    """
    for place in PLACES:
        sets = files_by_set(path / place)
        if prefix is not None:
            sets = {name: files for name, files in sets.items() if name == prefix}
        if len(sets) > 1:
            names = ", ".join(f"{name}*" for name in sorted(sets)[:MAX_NAMED])
            raise ValueError(f"holds several sets, {names}: keep one of them")
        if sets:
            [(name, files)] = sets.items()
            return read_set(path / place, files, is_transposed=name.lower().startswith("emnist"))
    return None


def files_by_set(folder: Path) -> dict[str, dict[tuple[str, str], list[Path]]]:
    """Files whose names are those of IDX files, by what precedes the part's name, then by part and kind."""
    sets: dict[str, dict[tuple[str, str], list[Path]]] = {}
    for file in visible_entries(folder, MAX_FILES) if folder.is_dir() else ():
        match = FILE.fullmatch(file.name.removesuffix(".gz"))
        if match and file.is_file():
            key = str(part_of(match["part"])), match["kind"]
            sets.setdefault(match["set"], {}).setdefault(key, []).append(file)
    return sets


def read_set(folder: Path, files: dict[tuple[str, str], list[Path]], is_transposed: bool) -> FoundSet:
    """The parts of a set.

    Raises:
        ValueError: a file is missing, damaged or there under two names, or they do not belong together.
    """
    parts = dict.fromkeys(["train", *(part for part, _ in files)])
    for pair in itertools.product(parts, ("images", "labels")):
        if pair not in files:
            raise ValueError(f"lacks the file of {' '.join(pair)}")
    for (part, kind), named in files.items():
        if len(same := sorted({file.name.removesuffix(".gz") for file in named})) > 1:
            raise ValueError(f"holds several files of {part} {kind}, {', '.join(same[:MAX_NAMED])}: keep one of them")
    pictures, numbers = {}, {}
    for part in parts:
        images = first_intact(files[part, "images"], partial(read_idx, dimensions=3))
        labels = first_intact(files[part, "labels"], read_labels)
        if part != "train" and len(images) == len(labels) == 0:
            continue  # as task=generate writes them
        check_pairs(part, images, labels)
        pictures[part], numbers[part] = images.swapaxes(1, 2) if is_transposed else images, labels
    indices, names = labels_of_numbers(numbers)
    check_class_names(names)
    found = {part: Part(indices[part], partial(gray_images, pictures[part])) for part in pictures}
    height, width = pictures["train"].shape[1:]
    if any(images.shape[1:] != (height, width) for images in pictures.values()):
        raise ValueError("its parts have images of different sizes")
    return FoundSet(found, names, 1, f"gray images of {width}x{height} pixels")


def read_labels(file: Path) -> np.ndarray:
    """The classes (N,) of a file of labels."""
    if "idx2-int" not in file.name:
        return read_idx(file, 1, MAX_LABEL_BYTES)
    rows = read_idx(file, 2, MAX_LABEL_BYTES, dtype=">i4")  # class, number of the writer, ...
    if rows.shape[1] == 0:
        raise ValueError("has rows without numbers: the first of each has to be the class")
    return rows[:, 0].astype(np.int64)
