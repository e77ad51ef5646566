"""A checkpoint of a stranger is data: what it may hold, checked on the very object that is used afterwards."""

import inspect
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning import Callback, LightningDataModule, LightningModule
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datamodules.contract import CheckedArguments
from tasks.config import HYDRA_KEYS

# Only these names are looked up when a checkpoint's config holds them, and only these kinds of classes are built.
TRUSTED_NAMES = re.compile(
    r"(classic_cnn|rnn|gan|datamodules)(\.\w+)+|torch\.optim(\.lr_scheduler)?\.\w+|kornia\.augmentation\.\w+|"
    r"lightning\.Trainer|lightning\.pytorch\.callbacks\.\w+"
)
TRUSTED_TYPES = (LightningModule, LightningDataModule, CheckedArguments, nn.Module, Optimizer, LRScheduler)
TRUSTED_CALLBACKS = {
    *("ModelCheckpoint", "EarlyStopping", "LearningRateMonitor", "RichProgressBar", "TQDMProgressBar", "Timer"),
    *("DeviceStatsMonitor", "StochasticWeightAveraging", "GradientAccumulationScheduler", "RichModelSummary"),
}
PATHS = {"default_root_dir", "plugins"}  # arguments of a Trainer that are never taken out of a checkpoint
MAX_DEPTH = 20  # levels of a config


def check_untrusted(checkpoint: Mapping[str, Any]) -> None:
    """Refuses a checkpoint whose config or weights are anything but plain data about trusted classes.

    Raises:
        ValueError: says what was found.
    """
    config, weights = checkpoint["config"], checkpoint["state_dict"]
    check_plain(config)
    check_plain(checkpoint.get("overrides"))
    if not isinstance(config, dict) or not all(
        isinstance(config.get(part), dict) for part in ("model", "data", "trainer")
    ):
        raise ValueError("its config is not that of a run")
    if not isinstance(checkpoint.get("overrides"), list) or not isinstance(config.get("callbacks"), dict):
        raise ValueError("its config is not that of a run")
    for name, choice in config.get("choices", {}).items():
        if choice is not None and not re.fullmatch(r"[\w-]+(/[\w-]+)?", str(choice)):
            raise ValueError(f"its config calls the {name} {choice!r}, which is not a name")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError("its weights are not tensors")
    for part, kinds in (("model", LightningModule), ("data", LightningDataModule)):
        check_targets(config[part])
        if not issubclass(class_of(config[part].get("_target_")), kinds):
            raise ValueError(f"its config names no {part}")
    check_targets(config["trainer"])
    parts = [value for value in config["trainer"].values() if isinstance(value, dict)]
    if (
        class_of(config["trainer"].get("_target_")) is not lightning.Trainer
        or parts
        or PATHS & config["trainer"].keys()
    ):
        raise ValueError("its config's trainer is not lightning.Trainer with plain arguments")
    for callback in config["callbacks"].values():
        if callback is not None:
            check_targets(callback)


def check_plain(value: Any, depth: int = 0) -> None:
    """Refuses what is not a number, string, list or dictionary, and strings that OmegaConf would interpret."""
    if depth > MAX_DEPTH:
        raise ValueError("its config is nested too deeply")
    if type(value) in (dict, list):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            check_plain(inner, depth + 1)
    elif type(value) not in (str, int, float, bool, type(None)):
        raise ValueError(f"its config holds a {type(value).__name__}, which is not a plain value")
    elif isinstance(value, str) and ("${" in value or value == "???"):
        raise ValueError(f"its config holds the interpolation {value!r}, which is not followed")


def check_targets(node: Any) -> None:
    """Refuses a `_target_` anywhere in a node that is not a class of the kinds that runs are made of.

    >>> check_targets({"optimizer": {"_target_": "torch.optim.Adam"}})
    >>> check_targets({"model": [{"_target_": "torch.load"}]})
    Traceback (most recent call last):
    ValueError: its config names torch.load, which is not followed out of a checkpoint
    """
    if isinstance(node, dict):
        if "_target_" in node:
            class_of(node["_target_"])
        for key in node:
            if not isinstance(key, str) or (key.startswith("_") and key not in HYDRA_KEYS):
                raise ValueError(f"its config has the key {key!r}, which is not followed out of a checkpoint")
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        check_targets(inner)


def class_of(target: Any) -> type:
    """The class that a trusted `_target_` names, itself or by its `published` form.

    Raises:
        ValueError: it names anything else.
    """
    found = None
    if isinstance(target, str) and TRUSTED_NAMES.fullmatch(target):
        try:
            found = pkgutil.resolve_name(target)
        except Exception:
            found = None
    if inspect.ismethod(found) and found.__name__ == "published":
        found = found.__self__
    if inspect.isclass(found) and found.__module__.split(".")[0] == str(target).split(".")[0]:
        is_ours = found.__module__.split(".")[0] != "lightning"
        is_callback = issubclass(found, Callback) and (is_ours or found.__name__ in TRUSTED_CALLBACKS)
        if found is lightning.Trainer or is_callback or issubclass(found, TRUSTED_TYPES):
            return found
    raise ValueError(f"its config names {target}, which is not followed out of a checkpoint")
