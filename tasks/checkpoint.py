"""Checkpoints that are enough by themselves: the run's config travels with the weights, as plain values.

A checkpoint comes from anywhere, so it is data: it is read without unpickling objects, its config may name nothing but
the classes that runs are made of, and no path in it is followed.
"""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from classic_cnn.classifier import ImageClassifier
from tasks.build import build, build_model, build_part, describe
from tasks.config import local_paths
from tasks.published import alternatives, data_key, find_net, read_net, version_of
from tasks.untrusted import check_tensors, check_untrusted, class_of, load_pickled

FORMAT = 2  # of the config in a checkpoint; 1 had interpolations and paths


def read_checkpoint(path: str | Path, key: str = "ckpt_path") -> dict[str, Any]:
    """A checkpoint's content, tensors on the CPU; read once per process and file.

    `key` is the option that named it, for the messages.

    Raises:
        ValueError: there is no such file, it is damaged, it was not written by a run of this version, or its config
            names what is not followed.
    """
    checkpoint = read_content(path, key)
    try:
        check_untrusted(checkpoint)
    except ValueError as error:
        raise ValueError(f"{key}={path}: {error}") from error
    return checkpoint


def read_content(path: str | Path, key: str) -> dict[str, Any]:
    """The same for the weights alone: its config is not looked at."""
    net = find_net(path)
    file = net or Path(path)
    if net is None and not file.is_file():  # a device could be read without end
        raise ValueError(f"{key}={path}: no such file; {alternatives(path)}")
    try:
        return _read(str(file.resolve()), version_of(file))
    except ValueError as error:
        raise ValueError(f"{key}={path}: {error}") from error


@lru_cache(maxsize=1)
def _read(path: str, version: tuple[int, ...]) -> dict[str, Any]:
    checkpoint = read_net(Path(path)) if Path(path).is_dir() else load_pickled(path)
    if not isinstance(checkpoint, dict) or not {"config", "state_dict"} <= checkpoint.keys():
        raise ValueError("not written by run.py, it holds no config")
    if type(checkpoint.get("format")) is not int or checkpoint["format"] != FORMAT:
        raise ValueError("written by an earlier version of this project, which this one cannot read")
    check_tensors(checkpoint)
    return checkpoint


def check_sizes(cfg: DictConfig) -> None:
    """Refuses a config that builds another net than its checkpoint's weights are of, before memory is taken for it.

    Raises:
        ValueError: says which weight is of another size.
    """
    checkpoint = read_checkpoint(cfg.ckpt_path)
    if class_of(checkpoint["config"]["model"]["_target_"]) is not class_of(cfg.model._target_):
        return  # which `load_weights` tells
    with isolate_rng(), torch.device("meta"):
        model = build_model(cfg.model, build_part("data", cfg.data))
    saved = checkpoint["state_dict"]
    for name, value in model.state_dict().items():
        if name in saved and saved[name].shape != value.shape:
            sizes = f"{name} is {tuple(saved[name].shape)} there and {tuple(value.shape)} by this config"
            raise ValueError(f"ckpt_path={cfg.ckpt_path}: of a {type(model).__name__} of another size: {sizes}")


def load_weights(model: LightningModule, cfg: DictConfig) -> None:
    """Gives the model the weights of `cfg.ckpt_path`.

    Raises:
        ValueError: they are of another architecture, or of another size of this one.
    """
    checkpoint = read_checkpoint(cfg.ckpt_path)
    saved = class_of(checkpoint["config"]["model"]["_target_"])
    if saved is not type(model):
        built = type(model).__name__
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {saved.__name__}, but model= asks for a {built}: leave it out")
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip()
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: of a {type(model).__name__} of another size: {detail}") from error


def restore_data(datamodule: LightningDataModule, checkpoint: Mapping[str, Any], name: str) -> None:
    """Gives a data module what that of a checkpoint's run had learned of its training images.

    Raises:
        ValueError: it is nothing of the kind; begins with `name`.
    """
    state = checkpoint.get(data_key(checkpoint["config"]))
    if state is not None:
        try:
            datamodule.load_state_dict(state)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def load_trained(
    cfg: DictConfig, folder: Path, family: type[LightningModule], reads_data: bool = True
) -> tuple[Any, Any, Trainer, dict[str, Any]]:
    """The net of `cfg.ckpt_path` with its weights, on the trainer's device and in evaluation mode, and its data.

    Args:
        cfg: checked config.
        folder: of the run that uses it.
        family: what the net has to be, `ImageClassifier` or `GAN`.
        reads_data: False where a task only transforms images of its own: the data set is then read only if its
            transform is fitted to it.

    Returns:
        Model, data module, trainer, and the facts of the run that belong in its results.

    Raises:
        ValueError: there is no checkpoint, it cannot be used, or it holds a net of another family.
    """
    if cfg.ckpt_path is None:
        raise ValueError(f"ckpt_path is missing: name a trained {family.__name__}, ckpt_path=outputs/.../best.ckpt")
    model, datamodule, trainer = build(cfg, folder)
    if not isinstance(model, family):
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: {type(model).__name__} is not a kind of {family.__name__}")
    if family is ImageClassifier and not getattr(datamodule, "stores_samples", True):
        made = f"{cfg.choices.data}, whose images are made of several, which only task=test does"
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} of {made}")
    load_weights(model, cfg)
    restore_data(datamodule, read_checkpoint(cfg.ckpt_path), f"ckpt_path={cfg.ckpt_path}")
    if reads_data or getattr(datamodule, "transform_waits", False):
        datamodule.prepare_data()
        datamodule.setup("fit")
    facts = describe(model, datamodule, trainer)
    tell_of_other_classes(cfg, datamodule)
    return model.to(trainer.strategy.root_device).eval(), datamodule, trainer, facts


def check_finite(outputs: Tensor, path: object) -> None:
    """Refuses a net of finite weights whose outputs are not.

    Raises:
        ValueError: its run has diverged.
    """
    if not outputs.isfinite().all():
        raise ValueError(f"{path}: its outputs are not finite, its run diverged: use an earlier checkpoint")


def tell_of_other_classes(cfg: DictConfig, datamodule: LightningDataModule) -> None:
    """Says so if the net has learned other classes than those that its outputs are read as."""
    learned = build_part("data", read_checkpoint(cfg.ckpt_path)["config"]["data"])
    theirs, ours = (getattr(data, "class_names", None) for data in (learned, datamodule))
    if theirs and ours and theirs != ours:
        names = [", ".join(classes[:3]) + ", ..." for classes in (theirs, ours)]
        print(f"classes      {names[0]} were learned; the answers are read as {names[1]}")


def load(
    path: str | Path, root: str | None = None, places: Mapping[str, Any] | None = None
) -> tuple[LightningModule, LightningDataModule]:
    """The net of a run's checkpoint, in evaluation mode, and the data module that it was trained on.

    Args:
        path: of a checkpoint that `run.py` wrote.
        root: folder of the data set's files; None is DATA_ROOT of the environment, or `data`.
        places: other paths of the data set, which a checkpoint does not hold: `{"path": "own.csv"}`.

    Raises:
        ValueError: the checkpoint cannot be used.
    """
    saved = read_checkpoint(path, "path")["config"]
    config = OmegaConf.create({part: saved[part] for part in ("model", "data")})
    given = {**(places or {}), "root": root or os.environ.get("DATA_ROOT", "data")}
    for name in local_paths("data", config.data):
        if name in given:
            config.data[name] = given[name]
    config.ckpt_path = str(path)
    check_sizes(config)
    datamodule: LightningDataModule = instantiate(config.data, _convert_="all")
    model = build_model(config.model, datamodule)
    load_weights(model, config)
    restore_data(datamodule, read_checkpoint(path, "path"), f"path={path}")
    return model.eval(), datamodule
