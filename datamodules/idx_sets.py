"""Sets in MNIST's format that are found by their names and never fetched: KMNIST, EMNIST and QMNIST."""

import hashlib
import string
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import numpy as np
from torch import Tensor
from typing_extensions import Unpack

from datamodules.bounded import MAX_PIXELS, READ_ERRORS, idx_header, reason
from datamodules.contract import ArgumentError, Index
from datamodules.folder import Folder
from datamodules.found_set import FoundSet
from datamodules.idx_folder import find_idx
from datamodules.images import ImageData, ImageSettings
from datamodules.official import KNOWN

MERGED = set("cijklmopsuvwxyz")  # letters whose capitals look alike: one class with them
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


class NamedSet(Folder):
    """A set whose classes are known; its IDX files are looked for below `root`, in the folders of its name."""

    folders: ClassVar[tuple[str, ...]]  # the second as torchvision names it
    option = "root"
    prefix: str  # of the files' names

    def __init__(self, class_names: list[str], split_seed: Index, **settings: Unpack[ImageSettings]) -> None:
        super().__init__(None, class_names, 1, split_seed, **settings)

    def find(self) -> FoundSet:
        """The set of the first folder that holds it.

        Raises:
            ArgumentError: there is none, one is damaged, or another set is in its place.
        """
        try:
            return self.find_below(Path(self.root))
        except READ_ERRORS as error:
            raise ArgumentError("root", self.root, reason(error)) from None

    def find_below(self, root: Path) -> FoundSet:
        for folder in (root / name for name in self.folders):
            found = find_idx(folder, self.prefix)
            if found is None:
                continue
            if len(found.class_names) != len(self.class_names):
                count = len(found.class_names)
                raise ValueError(f"{folder} has {count} classes, {self.name} has {len(self.class_names)}")
            if not self.prefix and (other := known_set(found.parts["train"].labels)):
                raise ValueError(f"{folder} holds {other}: put {self.name} there, or into another data.root")
            self.path = str(folder)
            return found._replace(class_names=self.class_names)
        places = " or ".join(f"{root / name}/" for name in self.folders)
        raise ValueError(f"has no {self.name}: put {self.prefix}train-images-idx3-ubyte.gz and so on into {places}")

    @property
    def found_arguments(self) -> dict[str, Any]:
        """Nothing: the classes are known."""
        return {}

    def read_user_image(self, source: str | Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> Tensor:
        """As MNIST's images, light on dark: not as pictures of a folder."""
        return ImageData.read_user_image(self, source, max_pixels)


def known_set(labels: np.ndarray) -> str | None:
    """The name of the set whose training labels these are, where it is one whose files are called as KMNIST's are."""
    content = idx_header(labels.shape) + labels.astype(np.uint8).tobytes()
    digest = hashlib.sha256(content).hexdigest()
    return next((files.name for files in KNOWN if digest in files.sha256), None)


class KMNIST(NamedSet):
    """Kuzushiji-MNIST, ten cursive Japanese characters (T. Clanuwat et al. 2018): 60,000 images and 10,000 to test."""

    name = "KMNIST"
    domain = "kmnist"
    folders = ("kmnist", "KMNIST")
    prefix = ""

    def __init__(self, split_seed: Index = 0, **settings: Unpack[ImageSettings]) -> None:
        super().__init__(["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"], split_seed, **settings)


class QMNIST(NamedSet):
    """MNIST made again, with all 60,000 of the test images (C. Yadav, L. Bottou 2019)."""

    name = "QMNIST"
    domain = "mnist"
    centred_digits = True
    folders = ("qmnist", "QMNIST")
    prefix = "qmnist-"

    def __init__(self, split_seed: Index = 0, **settings: Unpack[ImageSettings]) -> None:
        super().__init__([*string.digits], split_seed, **settings)


class EMNIST(NamedSet):
    """Digits and letters in MNIST's format (G. Cohen et al. 2017).

    Args:
        split: which of its six sets: digits and mnist have 10 classes, letters 26, balanced and bymerge 47, byclass 62.
        split_seed: of the images that are drawn for validation.
        settings: see `ImageData`.

    >>> EMNIST("letters").spec, EMNIST("balanced").spec.num_classes, EMNIST("byclass").class_names[60:]
    (SampleSpec(in_channels=1, image_size=28, num_classes=26), 47, ('y', 'z'))
    """

    name = "EMNIST"
    centred_digits = True
    folders = ("emnist", "EMNIST")

    def __init__(
        self,
        split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = "balanced",
        split_seed: Index = 0,
        **settings: Unpack[ImageSettings],
    ) -> None:
        merged = [character for character in CHARACTERS if character not in MERGED]
        names = {"letters": [*string.ascii_uppercase], "byclass": [*CHARACTERS], "balanced": merged, "bymerge": merged}
        super().__init__(names.get(split, [*string.digits]), split_seed, **settings)
        self.name = f"EMNIST {split}"
        self.domain = "mnist" if split == "mnist" else f"emnist_{split}"
        self.prefix = f"emnist-{split}-"
