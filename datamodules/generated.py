"""A set that a GAN made, to train on; the validation and test images are a real data set's."""

from typing import Literal

from typing_extensions import Unpack

from datamodules.contract import ArgumentError, LocalPath
from datamodules.images import ImageSettings
from datamodules.in_memory import Split
from datamodules.labelled_set import check_imitates, read_labelled
from datamodules.mnist import MNIST, FashionMNIST

REAL: dict[str, type[MNIST]] = {"mnist": MNIST, "fashion_mnist": FashionMNIST}


class Generated(MNIST):
    """Training images from a file or folder that `task=generate` wrote, validation and test images of a real set.

    A classifier trained on it has seen no real image, but which of its epochs counts as the best one is chosen on
    5,000 real validation images.

    Args:
        path: a CSV, a folder with IDX files or one with one folder of PNGs per class.
        real: the set that the generator has imitated.
        settings: see `ImageData`.

    Raises:
        ValueError: an argument is missing or out of its range. On reading: there is no such set, or it imitates
            another one than `real`.
    """

    def __init__(
        self,
        path: LocalPath | None = None,
        real: Literal["mnist", "fashion_mnist"] = "mnist",
        **settings: Unpack[ImageSettings],
    ) -> None:
        super().__init__(**settings)
        if self.num_folds is not None:
            raise ArgumentError("num_folds", self.num_folds, "would put real images among the generated ones")
        self.path = path
        original = REAL[real]
        self.name = f"generated images, real {original.name}"
        self.files, self.domain = original.files, original.domain
        self.class_names, self.centred_digits = original.class_names, original.centred_digits

    def given_path(self) -> str:
        """The path; a net that was trained on the set is used without it, on other images."""
        if self.path is None:
            raise ValueError("data.path=null: is needed: a set to train on, such as one that task=generate wrote")
        return self.path

    def prepare_data(self) -> None:
        check_imitates(self.given_path(), self.domain)  # before anything is fetched
        super().prepare_data()

    def read(self) -> None:
        path = self.given_path()
        check_imitates(path, self.domain)
        train_split = Split(*read_labelled(path, len(self.class_names)))
        super().read()
        self.train_split = train_split
        self.source = f"{self.path} (train) and, real ones for validation and test, from {self.source}"
