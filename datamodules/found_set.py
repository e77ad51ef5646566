"""What a set of a person's own consists of, known before its pictures are decoded, and the split that it may lack."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.in_memory import Split

# What people call the parts of a set, in the names of folders and files.
PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing", "t10k"),
}
MAX_CLASSES = 1_000
MAX_CLASS_NAME = 60  # characters
HELD_OUT = 0.1  # of the images of each class, for validation and for test, where a split is drawn


class Part(NamedTuple):
    """The images of one part of a set.

    Attributes:
        labels: int64 (N,), indices of the set's class names.
        load: from a side in pixels and a number of channels to the images, uint8 (N, C, H, W); the side is that of
            pictures, which are resized as they are read.
    """

    labels: np.ndarray
    load: Callable[[int, int], Tensor]


class FoundSet(NamedTuple):
    """A set as it was found: its parts ("train", and "val" and "test" if there are such), its classes, its channels.

    Attributes:
        parts: by name.
        class_names: in the order of the labels.
        in_channels: 1 if all images are gray, otherwise 3.
        remark: what a person should know: the sizes of the pictures, files that are no pictures.
    """

    parts: dict[str, Part]
    class_names: tuple[str, ...]
    in_channels: Literal[1, 3]
    remark: str = ""

    def read(self, side: int, channels: int, split_seed: int | None) -> tuple[dict[str, Split], str]:
        """The splits by name, and how those that the set lacks were drawn; without a seed none is.

        Raises:
            ValueError: an image cannot be read, or a class has too few to draw a split.
        """
        splits = {
            name: Split(part.load(side, channels), torch.from_numpy(part.labels)) for name, part in self.parts.items()
        }
        missing = [name for name in ("val", "test") if name not in splits]
        if missing == ["test"] or split_seed is None:
            return splits, ""
        splits |= draw_splits(splits["train"], missing, self.class_names, split_seed)
        drawn = f"{HELD_OUT:.0%} of each class, at least one, drawn for {' and for '.join(missing)}"
        return splits, drawn if missing else ""


def draw_splits(whole: Split, missing: Sequence[str], class_names: Sequence[str], seed: int) -> dict[str, Split]:
    """Takes a part of each class out of the training images for every split that is missing.

    >>> drawn = draw_splits(Split(torch.arange(30).view(-1, 1, 1, 1), torch.arange(30) % 3), ["val"], "abc", 0)
    >>> [(name, len(split.labels)) for name, split in drawn.items()]
    [('train', 27), ('val', 3)]

    Raises:
        ValueError: a class has too few images.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen: dict[str, list[Tensor]] = {name: [] for name in ("train", *missing)}
    for label, name in enumerate(class_names):
        members = torch.nonzero(whole.labels == label).flatten()
        if len(members) <= len(missing):
            raise ValueError(
                f"the class {name} has {len(members)} images: {len(missing) + 1} are needed to draw "
                f"{' and '.join(missing)} images from, or a folder for each part (train/, val/, test/)"
            )
        members = members[torch.randperm(len(members), generator=generator)]
        count = max(1, round(HELD_OUT * len(members)))
        for part in missing:
            chosen[part].append(members[:count])
            members = members[count:]
        chosen["train"].append(members)
    indices = {name: torch.cat(members).sort().values for name, members in chosen.items()}
    return {name: Split(whole.images[index], whole.labels[index]) for name, index in indices.items()}


def part_of(name: str) -> str | None:
    """The part of a set that a folder's name stands for.

    >>> part_of("Training"), part_of("trains")
    ('train', None)
    """
    return next((part for part, names in PART_NAMES.items() if name.lower() in names), None)


def by_number(names: Sequence[str]) -> list[str]:
    """Class names in their order: as numbers where all of them are.

    >>> by_number(["10", "9"]), by_number(["b", "10", "9"])
    (['9', '10'], ['10', '9', 'b'])
    """
    return sorted(names, key=lambda name: (int(name), name)) if all(map(str.isdecimal, names)) else sorted(names)


def check_class_names(names: Sequence[str]) -> None:
    """Refuses names that a config or a plot would interpret.

    Raises:
        ValueError: says which name, or that there are too few or too many.
    """
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"has {len(names)} classes: 2 to {MAX_CLASSES:,} are needed")
    for name in names:
        if not name.isprintable() or len(name) > MAX_CLASS_NAME or set(name) & set("${}\\") or name == "???":
            raise ValueError(
                f"the class {name[:MAX_CLASS_NAME]!r}: a name has up to {MAX_CLASS_NAME} characters, without $, {{, }} "
                "or \\"
            )


def labels_of_numbers(parts: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Indices of classes from labels that are any numbers, and the classes' names: those of the training images.

    >>> labels_of_numbers({"train": np.array([1, 3, 1]), "test": np.array([3])})
    ({'train': array([0, 1, 0]), 'test': array([1])}, ('1', '3'))

    Raises:
        ValueError: another part has a class that the training images do not have.
    """
    known = np.unique(parts["train"])
    for name, labels in parts.items():
        if len(others := np.setdiff1d(labels, known)):
            raise ValueError(f"its {name} images have the label {others[0]}, which no training image has")
    indices = {name: np.searchsorted(known, labels).astype(np.int64) for name, labels in parts.items()}
    return indices, tuple(map(str, known.tolist()))


def gray_images(images: np.ndarray, side: int, channels: int) -> Tensor:
    """Gray images (N, H, W) that are in memory already, as a part's `load` gives them: uint8 (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1).expand(-1, channels, -1, -1).contiguous()


def check_pairs(name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Refuses images and labels of different numbers, and a part without any.

    Raises:
        ValueError: says which part.
    """
    if len(images) != len(labels) or len(labels) == 0 or 0 in images.shape:
        shape = "x".join(map(str, images.shape))
        raise ValueError(f"holds {shape} {name} images and {len(labels)} labels: as many of both are needed")


def visible_entries(folder: Path, limit: int) -> list[Path]:
    """What lies in a folder, sorted by name, but for names that begin with a dot.

    Raises:
        OSError: the folder cannot be read.
        ValueError: it holds more than `limit` files and folders.
    """
    found = []
    for path in folder.iterdir():
        if not path.name.startswith("."):
            found.append(path)
            if len(found) > limit:
                raise ValueError(f"{folder.name}/ holds more than {limit:,} files and folders")
    return sorted(found)
