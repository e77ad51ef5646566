"""Checkpoints that are enough by themselves: the run's config travels with the weights."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from classic_cnn.classifier import ImageClassifier, layer_of

OURS = ("classic_cnn", "rnn", "gan", "datamodules")
TRUSTED = (*OURS, "torch", "torchvision", "torchmetrics", "lightning", "kornia")
KINDS = (nn.Module, Optimizer, LRScheduler, LightningDataModule, Trainer, Callback, Logger, Strategy)  # no programs
PRESENT = ("task", "ckpt_path", "input")  # belong to the command that is given, not to the run of the checkpoint


def read(path: str | Path, key: str = "ckpt_path") -> dict[str, Any]:
    """A checkpoint's content, tensors on the CPU; plain values only, so that a stranger's file cannot run code.

    `key` is the option that named it, for the messages.

    Raises:
        ValueError: there is no such file, it is damaged, or it was not written by a run of ours.
    """
    file = Path(path)
    if not file.is_file():
        there = sorted(str(other) for other in file.parent.glob("*.ckpt"))
        raise ValueError(
            f"{key}={path}: no such file; {'there is ' + ', '.join(there) if there else 'look in outputs/'}"
        )
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: it may be any file
        raise ValueError(f"{key}={path}: damaged, or not a checkpoint") from error
    if not isinstance(checkpoint, dict) or not {"config", "state_dict"} <= checkpoint.keys():
        raise ValueError(f"{key}={path}: not written by run.py, it holds no config")
    return checkpoint


def complete(cfg: DictConfig) -> DictConfig:
    """The config of the checkpoint's run with what this command line changes; `cfg` itself without a checkpoint.

    Raises:
        ValueError: the checkpoint cannot be used, or names code outside this project and its libraries.
    """
    if cfg.ckpt_path is None:
        return cfg
    config = OmegaConf.create(read(cfg.ckpt_path)["config"])
    check_targets(config)
    for override in OverridesParser.create().parse_overrides(given_overrides()):
        key = override.key_or_group
        if key == "experiment":
            return cfg
        if key in ("model", "data", "trainer"):
            config[key], config.choices[key] = cfg[key], cfg.choices.get(key)
            if key == "model":
                config.callbacks = cfg.callbacks
        elif override.is_delete():
            parent, _, child = key.rpartition(".")
            OmegaConf.select(config, parent).pop(child, None)
        elif key not in PRESENT:
            OmegaConf.update(config, key, OmegaConf.select(cfg, key), force_add=True)
    for key in PRESENT:
        config[key] = cfg[key]
    return config


def all_overrides(cfg: DictConfig) -> list[str]:
    """What the command lines changed from the first one of this run to the present one, the later of a key winning."""
    before = read(cfg.ckpt_path).get("overrides", []) if cfg.ckpt_path is not None else []
    return list({text.split("=")[0]: text for text in [*before, *given_overrides()]}.values())


def given_overrides() -> list[str]:
    """What this command line changes, as it was typed: `data.augment=${augmentations.crop}`."""
    overrides: list[Any] = OmegaConf.to_container(HydraConfig.get().overrides.task)  # type: ignore[assignment]
    return [re.sub(r"\\([{}])", r"\1", text) for text in overrides]  # the backslashes are a sweep's


def check_targets(config: Mapping[Any, Any] | DictConfig) -> None:
    """Refuses a `_target_` that is no class of a kind that runs are made of; the task is the command line's own.

    >>> check_targets({"optimizer": {"_target_": "torch.optim.Adam"}})
    >>> check_targets({"model": [{"_target_": "torch.load"}]})
    Traceback (most recent call last):
    ValueError: the checkpoint's config names torch.load, which is not followed out of a checkpoint
    """
    content = OmegaConf.to_container(config) if isinstance(config, DictConfig) else config
    assert isinstance(content, Mapping)
    for target in targets({key: value for key, value in content.items() if key != "task"}):
        try:
            found = get_object(target) if target.split(".")[0] in TRUSTED else None
        except (ImportError, AttributeError):
            found = None
        if not (inspect.isclass(found) and issubclass(found, KINDS) and found.__module__.split(".")[0] in TRUSTED):
            raise ValueError(f"the checkpoint's config names {target}, which is not followed out of a checkpoint")


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from targets(child)


def load_weights(model: LightningModule, cfg: DictConfig) -> None:
    """Gives the model the weights of `cfg.ckpt_path`.

    Raises:
        ValueError: they are of another architecture, or of another size of this one.
    """
    checkpoint = read(cfg.ckpt_path)
    saved = checkpoint["config"]["model"]["_target_"]
    if saved != cfg.model._target_:
        holds, builds = saved.rsplit(".", 1)[-1], cfg.model._target_.rsplit(".", 1)[-1]
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: holds {holds}, the command builds {builds}: leave model= out")
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip()
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: of a {type(model).__name__} of another size: {detail}") from error


def warm_start(model: ImageClassifier) -> str:
    """Starts a net from the layers of `model.init_from`, a checkpoint; says what was taken over and what was not.

    Raises:
        ValueError: the file cannot be used or has no layer that fits.
    """
    assert model.init_from is not None
    taken = model.warm_start(read(model.init_from, "model.init_from")["state_dict"])
    new = [layer for layer in dict.fromkeys(map(layer_of, model.state_dict())) if layer not in taken]
    return f"taken over   {', '.join(taken)} from {model.init_from}\nleft random  {', '.join(new) or 'nothing'}"
