"""Where runs are kept: a folder a run, never one that is there already."""

import itertools
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

LONGEST_NAME = 120  # characters; file systems allow 255


def run_folder(choices: DictConfig, overrides: ListConfig, task: str, ckpt_path: str | None) -> str:
    """A new folder outputs/<model>/<data>/<date_time>; a run that goes on from a checkpoint stays in its folder."""
    names = dict(choices)
    if ckpt_path is not None:
        from tasks.checkpoint import read  # torch is needed only here

        chosen = {text.split("=")[0] for text in overrides}
        names |= {group: name for group, name in read(ckpt_path)["config"]["choices"].items() if group not in chosen}
        run = Path(ckpt_path).resolve().parent.parent
        if task == "tasks.train.train" and (run / ".hydra").is_dir():
            return str(run)
    if task == "tasks.leaderboard.leaderboard":
        return new_folder(Path("outputs", "leaderboard"))
    return new_folder(Path("outputs", names["model"], names["data"]))


def sweep_folder() -> str:
    """A new folder outputs/sweeps/<date_time>."""
    return new_folder(Path("outputs", "sweeps"))


made: list[Path] = []  # by this process


def remove_empty() -> None:
    """Takes away what `new_folder` made for a command that failed before it began."""
    for folder in made:
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {"multirun.yaml"}:
            shutil.rmtree(folder)


def new_folder(parent: Path) -> str:
    """Makes and returns parent/<date_time>, with a number behind it when that second has one already."""
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        folder = parent / (now if number == 1 else f"{now}-{number}")
        try:
            folder.mkdir(parents=True)
            made.append(folder)
            return str(folder)
        except FileExistsError:
            continue
    raise AssertionError("unreachable")


def job_folder(number: int, overrides: ListConfig) -> str:
    """A job's folder in its sweep: its number and what it changes, in characters that `ckpt_path=` accepts.

    >>> job_folder(3, ["model=lenet", "seed=1", "data.augment=${augmentations.crop}"])
    '003_model-lenet_seed-1_data.augment-_augmentations.crop_'
    """
    # as typed, with its ${...}
    typed: Any = OmegaConf.to_container(overrides) if isinstance(overrides, ListConfig) else overrides
    changes = [text.replace("=", "-") for text in typed if not text.startswith("ckpt_path=")]
    return f"{number:03d}_{re.sub(r'[^A-Za-z0-9_.-]+', '_', '_'.join(changes))}"[:LONGEST_NAME]
