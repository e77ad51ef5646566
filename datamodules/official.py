"""The official files of MNIST and Fashion-MNIST: which they are and where on this machine they are looked for.

Every file is known by the SHA-256 of its decompressed content, so a damaged file, a truncated one or another data set
in its place is never trained on. Nothing here writes; `datamodules.download` fetches what is missing.
"""

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from torch import Tensor

from datamodules.bounded import READ_ERRORS, idx_header, open_file, read_idx, reason

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DIMENSIONS = (3, 1, 3, 1)
MAX_OFFICIAL_BYTES = 64 << 20  # the largest of the files has 47 million bytes


class OfficialFiles(NamedTuple):
    """A data set of four IDX files, in the order of `NAMES`."""

    name: str
    torchvision_class: type[
        torchvision.datasets.MNIST
    ]  # knows the mirrors and names the folder in torchvision's layout
    folder: str  # below the data root, and the name of the data set's config
    sha256: tuple[str, str, str, str]  # of the decompressed files
    system_folder: Path | None = None  # where a package of the operating system puts them


class Official(NamedTuple):
    """What the four files hold: images uint8 (N, 1, 28, 28), labels int64 (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    folder: Path  # where they were found


class DataNotFoundError(ValueError):
    """No intact copy of a data set's files was found.

    Attributes:
        files: which they are.
        root: the folder below which they were looked for.
        problems: what was found instead or tried, a clause each.
        others: files that bear an official file's name but are damaged or another set's.
    """

    def __init__(
        self, files: OfficialFiles, root: Path, problems: Sequence[str], others: Sequence[Path] = (), advice: str = ""
    ) -> None:
        where = "; ".join(problems) or ("no such files" if root.is_dir() else "no such folder")
        command = f"python run.py task=fetch data={files.folder} data.root={shlex.quote(str(root))}"
        beside = f" (into {files.folder}-official, beside the other files)" if others else ""
        super().__init__(
            f"{files.name} was not found in {root}: {where}: {advice or f'fetch it{beside} with: {command}'}"
        )
        self.files = files
        self.root = root
        self.problems = list(problems)
        self.others = list(others)


DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

MNIST_FILES = OfficialFiles(
    name="MNIST",
    torchvision_class=torchvision.datasets.MNIST,
    folder="mnist",
    sha256=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

FASHION_MNIST = OfficialFiles(
    name="Fashion-MNIST",
    torchvision_class=torchvision.datasets.FashionMNIST,
    folder="fashion_mnist",
    sha256=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    system_folder=DEBIAN_FOLDER,
)

KNOWN = (MNIST_FILES, FASHION_MNIST)


def load(files: OfficialFiles, root: Path) -> Official:
    """The contents of the four files from the first folder that has all of them intact. Only reads.

    Raises:
        DataNotFoundError: there is no such folder.
    """
    problems: list[str] = []
    others: list[Path] = []
    for folder in search_folders(files, root):
        arrays, missing = [], []
        damaged = len(others)
        for name, dimensions, sha256 in zip(NAMES, DIMENSIONS, files.sha256, strict=True):
            array, faults = read_verified(candidates(folder, name), dimensions, sha256)
            if array is not None:
                arrays.append(array)
            elif faults:
                others += faults
                problems += [f"{path} {fault}" for path, fault in faults.items()]
            else:
                missing.append(name)
        if len(arrays) == len(NAMES):
            train_images, train_labels, test_images, test_labels = (torch.from_numpy(array) for array in arrays)
            return Official(
                train_images.unsqueeze(1), train_labels.long(), test_images.unsqueeze(1), test_labels.long(), folder
            )
        if missing and arrays and len(others) == damaged:
            problems.append(f"{folder} lacks {', '.join(missing)}")
    raise DataNotFoundError(files, root, problems, others)


def search_folders(files: OfficialFiles, root: Path) -> list[Path]:
    folders = [*own_folders(files, root), root / files.torchvision_class.__name__ / "raw", root]
    return [*folders, *([files.system_folder] if files.system_folder else [])]


def own_folders(files: OfficialFiles, root: Path) -> list[Path]:
    """The folders that files are fetched into: the second where the first holds other files of the same names."""
    return [root / files.folder, root / f"{files.folder}-official"]


def candidates(folder: Path, name: str) -> list[Path]:
    """What may be the file of that name: it may be compressed. Links that lead nowhere count as files."""
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_symlink() or path.exists()]


def read_verified(paths: Sequence[Path], dimensions: int, sha256: str) -> tuple[np.ndarray | None, dict[Path, str]]:
    """The array of the first of `paths` that has the checksum, and what is wrong with those before it."""
    faults: dict[Path, str] = {}
    for path in paths:
        try:
            array = read_idx(path, dimensions, MAX_OFFICIAL_BYTES)
        except READ_ERRORS as error:
            faults[path] = f"cannot be used, it {known_archive(path) or reason(error)}"
            continue
        digest = hashlib.sha256(idx_header(array.shape))
        digest.update(array.data)
        if digest.hexdigest() == sha256:
            return array, faults
        known = next((f"is {files.name}'s" for files in KNOWN if digest.hexdigest() in files.sha256), None)
        faults[path] = known or known_archive(path) or "is damaged or another data set's"
    return None, faults


def known_archive(path: Path) -> str | None:
    """Says which set a .gz file belongs to, by the checksums that torchvision knows."""
    try:
        with open_file(path, MAX_OFFICIAL_BYTES) as file:
            digest = hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
    except READ_ERRORS:
        return None
    for name in ("KMNIST", "QMNIST"):
        resources = getattr(getattr(torchvision.datasets, name), "resources", ())
        if digest in str(resources):
            return f"is {name}'s"
    return None
