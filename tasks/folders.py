"""Where runs are kept: one folder per run, which no other run and no second process writes into."""

import itertools
import os
import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from tasks.overrides import BEGUN
from tasks.results import atomic_writer

LONGEST_NAME = 120  # characters; file systems allow 255
CONFIG, OVERRIDES = Path(".hydra", "config.yaml"), Path(".hydra", "overrides.yaml")  # where Hydra's users look for them


made: set[Path] = set()  # folders of runs that this process made; another that is empty is a person's


def new_folder(parent: Path, *labels: str | None) -> Path:
    """Makes and returns parent/<date_time>[_<labels>], with a number behind the time when that second has one."""
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        folder = parent / folder_name(now if number == 1 else f"{now}-{number}", *labels)
        try:
            folder.mkdir(parents=True)
            made.add(folder.absolute())
            return folder
        except FileExistsError:
            if not parent.is_dir():
                raise
    raise AssertionError("unreachable")


def folder_name(*parts: str | None) -> str:
    """The parts that there are, in characters that `ckpt_path=` accepts.

    >>> folder_name("003", "lenet", None, "data/augment=crop")
    '003_lenet_data_augment-crop'
    """
    text = "_".join(part.replace("=", "-") for part in parts if part)
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:LONGEST_NAME]


def check_literal(folder: Path) -> None:
    """Refuses a folder whose name TensorBoard's logger would change: it would write elsewhere.

    >>> check_literal(Path("/runs/$HOME"))
    Traceback (most recent call last):
    ValueError: /runs/$HOME: loggers would put a value in place of $..., name another folder

    Raises:
        ValueError: its name has a variable of the shell.
    """
    path = str(folder.absolute())
    if os.path.expandvars(path) != path:
        raise ValueError(f"{folder}: loggers would put a value in place of $..., name another folder")


def run_of_checkpoint(path: str | Path) -> Path | None:
    """The folder of the run that a checkpoint lies in, None for one that lies elsewhere.

    Raises:
        ValueError: a link leads out of that folder, which a resumed run would write through.
    """
    place = Path(path).resolve().parent
    for folder in {parent.parent for parent in (place, Path(path).parent.resolve()) if is_of_run(parent)}:
        check_links(folder)
    return place.parent if is_of_run(place) else None


def check_links(folder: Path) -> None:
    """Refuses a run's folder with a link out of it, which a run that goes on there would write through.

    Raises:
        ValueError: names the link.
    """
    inside = os.path.realpath(folder)
    for link in folder.rglob("*"):
        if link.is_symlink() and not Path(os.path.realpath(link)).is_relative_to(inside):
            raise ValueError(f"{link}: a link out of the run's folder, which is not written through: remove it")


def is_of_run(checkpoints: Path) -> bool:
    return checkpoints.name == "checkpoints" and (checkpoints.parent / CONFIG).is_file()


def write_config(cfg: DictConfig, folder: Path) -> None:
    """Writes what is run, and what the command line changed, into the run's folder."""
    (folder / CONFIG).parent.mkdir(exist_ok=True)
    with atomic_writer(folder / CONFIG) as file:
        file.write(OmegaConf.to_yaml(cfg))
    with atomic_writer(folder / OVERRIDES) as file:
        file.write(OmegaConf.to_yaml(cfg.overrides))


def config_files(folder: Path) -> dict[Path, bytes]:
    """The two files of a run's config, as they are."""
    return {folder / name: (folder / name).read_bytes() for name in (CONFIG, OVERRIDES) if (folder / name).is_file()}


def restore_config(folder: Path, content: Mapping[Path, bytes]) -> None:
    """Writes the files that `config_files` has read, if they have changed."""
    if config_files(folder) != content:
        for path, before in content.items():
            with atomic_writer(path, "wb") as file:
                file.write(before)


def remove_unused(folder: Path) -> bool:
    """Removes the folder of a run that was refused before it wrote anything but its config; says whether it did."""
    own = {folder / CONFIG, folder / OVERRIDES, folder / ".lock"}
    if any(path.is_symlink() or not (path.is_dir() or path in own) for path in folder.rglob("*")):
        return False
    for file in own:
        file.unlink(missing_ok=True)
    for empty in [*sorted(folder.rglob("*"), reverse=True), *([folder] if folder.absolute() in made else [])]:
        empty.rmdir()
    return True


def is_new(folder: Path) -> bool:
    """Whether an empty folder was made since this process read its command line: by Hydra, which makes `hydra.run.dir`.

    A file system's clock may be some milliseconds behind.
    """
    return not folder.is_symlink() and folder.stat().st_mtime > BEGUN - 0.05 and not any(folder.iterdir())


def lock(folder: Path) -> FileLock:
    """Reserves a run's folder for this process, until it ends or releases the lock.

    Raises:
        ValueError: another process has it.
    """
    held = FileLock(folder / ".lock")
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{folder}: another process is writing into this run, wait for it or stop it") from error
    return held


def is_locked(folder: Path) -> bool:
    """Whether a process is writing into a run's folder."""
    try:
        lock(folder).release()
        return False
    except ValueError:
        return True


def short(path: str | Path) -> str:
    """A path as a user types it: relative to the current folder where it lies below.

    >>> short(Path.cwd() / "outputs")
    'outputs'
    """
    path = Path(path)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def dashboard(folder: str | Path) -> str:
    """The command that shows what is logged below a folder, for a run in outputs/ beside all other runs.

    >>> dashboard("outputs/2026-11-29/10-00-00"), dashboard("/tmp/my runs")
    ('tensorboard --logdir outputs', "tensorboard --logdir '/tmp/my runs'")
    """
    path, outputs = Path(os.path.abspath(folder)), Path("outputs").absolute()  # without `..`
    return f"tensorboard --logdir {shlex.quote(short(outputs if path.is_relative_to(outputs) else path))}"
