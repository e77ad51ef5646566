"""Runs a task that reads results alone: it has no net and no data, and does not wait for the import of PyTorch."""

import inspect
import time
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from tasks import folders
from tasks.results import write_results

OWN_KEYS = ("task", "hydra")  # what the command line can change of such a run


def run_light_task(cfg: DictConfig, hydra: DictConfig) -> None:
    """Calls the task of a composed config with a folder of its own, and records what came of it there.

    Args:
        cfg: as Hydra composes it.
        hydra: Hydra's own config.

    Raises:
        ValueError: an option is unknown, has no use here or cannot be used.
    """
    overrides = list(hydra.overrides.task)
    task = get_method(cfg.task._target_)
    name = task.__name__
    settings: dict[str, Any] = {str(key): value for key, value in cfg.task.items() if key != "_target_"}
    check_overrides(name, overrides)
    check_settings(name, settings, inspect.signature(task))
    in_sweep = hydra.mode == RunMode.MULTIRUN
    folder = Path(hydra.runtime.output_dir) if in_sweep else folders.new_folder(Path("outputs", name))
    folder = folder.absolute()
    record = {"status": "finished", "task": name, "overrides": overrides, "folder": str(folder)}
    record["started"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        record |= task(cfg, folder, **settings)
    except ValueError:
        if not in_sweep and not any(folder.iterdir()):
            folder.rmdir()
        raise
    folders.write_config(OmegaConf.create({"task": cfg.task, "overrides": overrides}), folder)
    write_results(folder, record)


def check_overrides(name: str, overrides: list[str]) -> None:
    for text in overrides:
        key = text.lstrip("+~").partition("=")[0]
        if key.split(".")[0].split("/")[0] not in OWN_KEYS:
            raise ValueError(f"{text}: task={name} has no net and no data, leave it out")


def check_settings(name: str, settings: dict[str, Any], signature: inspect.Signature) -> None:
    """Refuses options that the task does not have, and values that are not of the annotated class."""
    known = {key: parameter for key, parameter in signature.parameters.items() if key not in ("cfg", "folder")}
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"task.{key}: {name} has no such key: choose one of {', '.join(known)}")
        if not isinstance(value, known[key].annotation):
            raise ValueError(f"task.{key}={value}: should be a valid {known[key].annotation.__name__}")
    for key in known:
        if key not in settings:
            raise ValueError(f"task.{key}: has no value")
