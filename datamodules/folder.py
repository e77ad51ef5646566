"""A data set of a person's own: pictures in class folders, IDX files or CSVs, of any size and number of classes."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from typing_extensions import Unpack

from datamodules.bounded import MAX_PIXELS, READ_ERRORS, reason
from datamodules.contract import ArgumentError, Index, LocalPath
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
from datamodules.idx_folder import MAX_FILES, MAX_NAMED, find_idx
from datamodules.images import ImageData, ImageSettings
from datamodules.labelled_set import read_csv
from datamodules.picture_folders import find_pictures, load_picture

ClassNames = Annotated[list[str], Field(min_length=2)]


class Folder(ImageData):
    """Images of one's own. Classes, channels and parts are found in `path`; what the set lacks of a split is drawn.

    A folder has pictures in one folder per class, in one file or folder or in train/, val/ and test/; or IDX files with
    the names of MNIST's, EMNIST's or QMNIST's; or CSVs called train, val and test. A single CSV will do, too. Without
    validation images, 10 % of the training images of each class are drawn for it, and as many for a test if there are
    neither. Pictures are stretched to squares of `image_size` pixels.

    Args:
        path: the folder or the CSV.
        class_names: those that the net knows, which the set must have; None takes those of the set. A checkpoint brings
            them along, so that a net can be used where the set is not.
        in_channels: 1 reads all images as gray ones, 3 as colour; None finds out.
        split_seed: of the images that are drawn; apart from `seed`, so that runs of several seeds can be compared.
        settings: see `ImageData`.

    Raises:
        ValueError: an argument is missing or out of its range, or there is no such set.
    """

    name = "own set"
    option: ClassVar[str] = "path"  # which says where it is

    def __init__(
        self,
        path: LocalPath | None = None,
        class_names: ClassNames | None = None,
        in_channels: Literal[1, 3] | None = None,
        split_seed: Index = 0,
        **settings: Unpack[ImageSettings],
    ) -> None:
        super().__init__(**settings)
        self.path = path
        self.split_seed = split_seed
        self.found: FoundSet | None = None
        names, channels = class_names, in_channels
        if names is None or channels is None:
            self.found = found = self.find()
            names, channels = names or [*found.class_names], channels or found.in_channels
        self.class_names, self.in_channels = tuple(names), channels
        try:
            check_class_names(self.class_names)
        except ValueError as error:
            raise ArgumentError("class_names", class_names, str(error)) from None

    @property
    def found_arguments(self) -> dict[str, Any]:
        """What was found in the set and a net has to know to be used without it."""
        return {"class_names": list(self.class_names), "in_channels": self.in_channels}

    def find(self) -> FoundSet:
        """The set at `path`.

        Raises:
            ArgumentError: there is none, or something in it is not as it has to be.
        """
        if self.path is None:
            raise ArgumentError("path", None, "is needed: a folder of class folders or IDX files, or a CSV")
        try:
            return find_set(Path(self.path))
        except FileNotFoundError:
            raise ArgumentError("path", self.path, "is no file or folder") from None
        except READ_ERRORS as error:
            raise ArgumentError("path", self.path, reason(error)) from None  # whose causes are looked through

    def read(self) -> None:
        try:
            found = self.found or self.find()
            self.found = None  # the splits hold the images from here on
            if found.class_names != self.class_names:
                theirs, ours = (", ".join(names[:20]) for names in (found.class_names, self.class_names))
                raise ValueError(f"has the classes {theirs}, the net those of another set: {ours}")
            draws = self.num_folds is None  # which divides all images itself
            splits, drawn = found.read(self.image_size, self.in_channels, self.split_seed if draws else None)
        except ArgumentError:
            raise
        except READ_ERRORS as error:
            raise ValueError(f"data.{self.option}={getattr(self, self.option)}: {reason(error)}") from error
        self.train_split, self.val_split, self.test_split = splits["train"], splits.get("val"), splits.get("test")
        side = f"{self.image_size}x{self.image_size}"
        resized = "" if f" of {side} pixels" in found.remark else f"resized to {side}"
        remarks = (found.remark, resized, f"{len(self.class_names)} classes", drawn)
        self.source = f"{self.path}: {', '.join(filter(None, remarks))}"

    def read_user_image(self, source: str | Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> Tensor:
        """As the pictures of the set are read, uint8 (C, S, S)."""
        try:
            return load_picture(source, self.image_size, self.in_channels, max_pixels)
        except ValueError as error:
            name = f"{source}: " if isinstance(source, str | Path) else "the image "
            raise ValueError(f"{name}{error}") from error


def find_set(path: Path) -> FoundSet:
    """The set of a folder or CSV.

    Raises:
        ValueError: it is none, or damaged.
        OSError: it does not exist or cannot be read.
    """
    path.stat()  # raises if there is no such path
    if not path.is_dir():
        return read_csvs({"train": path})
    found = find_idx(path) or find_pictures(path)
    if found is not None:
        return found
    parts = csvs_in(path)
    if "train" not in parts:
        raise ValueError("holds no class folders with pictures, no IDX files of MNIST's names and no train.csv")
    return read_csvs(parts)


def csvs_in(folder: Path) -> dict[str, Path]:
    """The CSVs of a folder that have the name of a part, alone or behind that of the set: train.csv, mnist_test.csv.

    Raises:
        ValueError: there are several of one part, or those of several sets.
    """
    found = []
    for file in visible_entries(folder, MAX_FILES):
        name, _, end = file.stem.lower().rpartition("_")
        if file.suffix.lower() == ".csv" and (part := part_of(end)):
            found.append((name, part, file))
    if len({name for name, _, _ in found}) > 1 or len({part for _, part, _ in found}) < len(found):
        names = ", ".join(file.name for _, _, file in found[:MAX_NAMED])
        raise ValueError(f"holds {names}: keep the CSVs of one set, with one each for train, val and test")
    return {part: file for _, part, file in found}


def read_csvs(files: dict[str, Path]) -> FoundSet:
    """The sets of CSVs with one image per line: the label, then the pixels of a square.

    Raises:
        ValueError: a line is not as it has to be; names the file, the line and the column.
    """
    pictures, numbers = {}, {}
    for part, file in files.items():
        try:
            pictures[part], numbers[part] = read_csv(file, columns=None)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}" if len(files) > 1 else str(error)) from None
        check_pairs(part, pictures[part], numbers[part])
    indices, names = labels_of_numbers(numbers)
    check_class_names(names)
    parts = {part: Part(indices[part], partial(gray_images, pictures[part])) for part in files}
    side = pictures["train"].shape[-1]
    if any(images.shape[-1] != side for images in pictures.values()):
        raise ValueError("its CSVs have images of different sizes")
    return FoundSet(parts, names, 1, f"gray images of {side}x{side} pixels")
