"""Pictures in one folder per class, gray or colour and of any size, in train/, val/ and test/ or in one folder."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from datamodules.bounded import MAX_BYTES, MAX_PIXELS, open_picture
from datamodules.found_set import FoundSet, Part, by_number, check_class_names, part_of, visible_entries
from datamodules.user_image import check_depth, upright

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
MAX_PICTURES = 1_000_000
GRAY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
MANY = 2_000  # pictures from which on reading shows its progress


def find_pictures(path: Path) -> FoundSet | None:
    """The pictures below a folder; None where no class folder has any.

    The header of each is read, so that a damaged one and the number of channels are known at the start.

    Raises:
        ValueError: a part lacks classes, there are too many, or a picture cannot be read.
    """
    folders = {name: classes_of(folder) for name, folder in parts_of(path).items()}
    names = by_number([name for name, (files, _) in folders.get("train", {}).items() if files])
    if not names:
        return None
    check_class_names(names)
    for part, classes in folders.items():
        if others := sorted(name for name, (files, _) in classes.items() if files and name not in names):
            raise ValueError(f"its {part} pictures have the class {others[0]}, which no training picture has")
    parts, all_files = {}, []
    for part, classes in folders.items():
        files = [file for name in names for file in classes.get(name, ([], 0))[0]]
        labels = np.repeat(np.arange(len(names)), [len(classes.get(name, ([], 0))[0]) for name in names])
        if not files:
            raise ValueError(f"its folder of {part} pictures holds none")
        parts[part] = Part(labels.astype(np.int64), partial(load_pictures, files, path))
        all_files += files
    if len(all_files) > MAX_PICTURES:
        raise ValueError(f"holds more than {MAX_PICTURES:,} pictures")
    left_out = sum(count for classes in folders.values() for _, count in classes.values())
    channels, sizes = survey(all_files, path)
    remark = f"{sizes}{f' ({left_out:,} other files left out)' if left_out else ''}"
    return FoundSet(parts, tuple(names), channels, remark)


def parts_of(path: Path) -> dict[str, Path]:
    """The folders of the parts of a set: its own, if all of its folders are called so, otherwise one of all pictures.

    Raises:
        ValueError: two folders stand for one part, or there is none to train on.
    """
    folders = [folder for folder in visible_entries(path, MAX_PICTURES) if folder.is_dir()]
    named = [(part_of(folder.name), folder) for folder in folders]
    if not named or any(part is None for part, _ in named):
        return {"train": path}
    parts = {str(part): folder for part, folder in named}
    if len(parts) < len(named) or "train" not in parts:
        names = ", ".join(f"{folder.name}/" for folder in folders)
        raise ValueError(f"has the folders {names}: train/ is needed, and val/ and test/ are allowed, once each")
    return parts


def classes_of(folder: Path) -> dict[str, tuple[list[Path], int]]:
    """The pictures of each class folder, by its name, and how many other files it holds."""
    classes = {}
    for inner in visible_entries(folder, MAX_PICTURES):
        if inner.is_dir():
            content = visible_entries(inner, MAX_PICTURES)
            pictures = [file for file in content if file.suffix.lower() in ENDINGS]
            classes[inner.name] = pictures, len(content) - len(pictures)
    return classes


def survey(files: Sequence[Path], path: Path) -> tuple[Literal[1, 3], str]:
    """How many channels pictures need, and a text on their sizes, by their headers.

    Raises:
        ValueError: one of them is no picture, or one that cannot be read rightly; names it.
    """
    sizes, is_gray = set(), True
    for file in track(files, "surveying", transient=True, disable=len(files) < MANY):
        try:
            with open_picture(file) as image:
                check_depth(image)
                sizes.add(image.size)
                is_gray = is_gray and image.mode in GRAY_MODES
        except ValueError as error:
            raise ValueError(f"{file.relative_to(path)} {error}") from error
    smallest, largest = (f"{width}x{height}" for width, height in (min(sizes), max(sizes)))
    text = f"pictures of {smallest}" if len(sizes) == 1 else f"pictures of {smallest} to {largest}"
    return (1 if is_gray else 3), f"{'gray' if is_gray else 'colour'} {text} pixels"


def load_pictures(files: Sequence[Path], path: Path, side: int, channels: int) -> Tensor:
    """The pictures, uint8 (N, C, S, S).

    Raises:
        ValueError: they take too much memory, or one of them cannot be decoded; names it.
    """
    size = len(files) * channels * side * side
    if size > MAX_BYTES:
        raise ValueError(
            f"{len(files):,} pictures of {side}x{side} pixels take {size:,} bytes, more than {MAX_BYTES:,}"
        )
    images = torch.empty(len(files), channels, side, side, dtype=torch.uint8)
    for index, file in enumerate(track(files, "reading", transient=True, disable=len(files) < MANY)):
        try:
            images[index] = load_picture(file, side, channels)
        except ValueError as error:
            raise ValueError(f"{file.relative_to(path)} {error}") from error
    return images


def load_picture(source: str | Path | BinaryIO, side: int, channels: int, max_pixels: int = MAX_PIXELS) -> Tensor:
    """A picture upright, stretched to a square, uint8 (C, S, S); what is transparent is white.

    Raises:
        ValueError: it cannot be read; without the file's name.
    """
    with open_picture(source, max_pixels=max_pixels) as file:
        image = upright(file).convert("L" if channels == 1 else "RGB")
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BILINEAR)  # averages what one pixel comes from
        pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1)
