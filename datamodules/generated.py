"""A set that a GAN made, to train on; validation and test stay the real data set's."""

from typing import Any

from datamodules.formats import read_labelled
from datamodules.images import Split
from datamodules.mnist import MNIST, FashionMNIST

REAL: dict[str, type[MNIST]] = {"mnist": MNIST, "fashion_mnist": FashionMNIST}


class Generated(MNIST):
    """Training images out of a file or folder of `task=generate`, validation and test images of a real set.

    Args:
        path: a CSV, a folder with IDX files or one with a folder of PNGs a class.
        real: the set that the generator has learnt from, "mnist" or "fashion_mnist".
        settings: see `ImageData`.

    Raises:
        ValueError: there is no path, or no such set.
    """

    def __init__(self, path: str | None = None, real: str = "mnist", **settings: Any) -> None:
        if path is None:
            raise ValueError("data.path=null: name the set to train on, such as one that task=generate has written")
        if real not in REAL:
            raise ValueError(f"data.real={real}: choose one of {', '.join(REAL)}")
        super().__init__(**settings)
        self.path = path
        of = REAL[real]
        self.name = f"generated images, real {of.name}"
        self.files, self.class_names, self.centred_digits = of.files, of.class_names, of.centred_digits

    def read(self) -> None:
        super().read()
        self.train_split = Split(*read_labelled(self.path, "data.path"))
        self.source = f"training images from {self.path}, the others, {self.source}"

    def describe(self) -> str:
        return super().describe().replace("checksum ok", "checksum of the real ones ok")
