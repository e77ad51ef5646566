"""Checkpoints that are enough by themselves: the run's config travels with the weights, as plain values.

A checkpoint comes from anywhere, so it is data: it is read without unpickling objects, its config may name nothing but
the classes that runs are made of, and no path in it is followed.
"""

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf

from classic_cnn.classifier import ImageClassifier
from tasks.annotations import is_local_path
from tasks.build import build, build_model, build_part, describe
from tasks.config import ConfigError, check_config, locate
from tasks.overrides import CONF
from tasks.published import alternatives, data_key, find_net, read_net, version_of
from tasks.untrusted import check_callbacks, check_tensors, check_untrusted, class_of, load_pickled

READING = ("normalize", "image_size")  # of a data set: what a net has learned to see
FORMAT = 2  # of the config in a checkpoint; 1 had interpolations and paths
MACHINE_KEYS = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}
# How far and how closely a training goes, which says nothing of what uses its net.
LENGTH_KEYS = (
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("fast_dev_run", "overfit_batches", "max_time", "profiler", "detect_anomaly"),
)
COMMAND_KEYS = ("task", "ckpt_path", "input", "init_from", "expect")  # not of the run that a checkpoint is from
RUN_KEYS = ("name", "tags", "description")  # of a run alone; one that resumes it may change them
# Whose options a checkpoint remembers; the last two count where its run goes on.
GROUPS = ("model", "data", "trainer/logger", "callbacks")


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


def add_choices(arguments: list[str]) -> list[str]:
    """The command line with the options of its checkpoint's run, so that their keys can be changed: `data.path=...`."""
    is_override = [text[:1] == "~" or ("=" in text and text[0] != "-") for text in arguments]
    last = max((place for place, found in enumerate(is_override) if found), default=-1)
    return [*arguments[: last + 1], *choices_of_checkpoint(arguments), *arguments[last + 1 :]]  # in front of options


def choices_of_checkpoint(arguments: list[str]) -> list[str]:
    paths = [text.removeprefix("ckpt_path=").strip("'\"") for text in arguments if text.startswith("ckpt_path=")]
    exists = len(paths) == 1 and (find_net(paths[0]) is not None or Path(paths[0]).is_file())
    if not exists or any(text.startswith("experiment=") for text in arguments):
        return []
    choices = read_checkpoint(paths[0])["config"].get("choices", {})
    named = {text.split("=")[0] for text in arguments}
    resumes = {text for text in arguments if text.startswith("task=")} <= {"task=train"}
    return [
        f"{group}={choices[group]}"
        for group in (GROUPS if resumes else GROUPS[:2])
        if choices.get(group) and group not in named and are_options(group, choices[group])
    ]


def are_options(group: str, choice: str) -> bool:
    """Whether a choice, of one option or of several as [a,b], is one that this version of the project has."""
    return all((CONF / group / f"{name}.yaml").is_file() for name in choice.strip("[]").split(","))


def complete(cfg: DictConfig, given: list[str]) -> DictConfig:
    """The checked config of what is run: that of `cfg.ckpt_path`'s run with what the command line changes.

    Args:
        cfg: composed by Hydra.
        given: the overrides that were typed, without those of `add_choices`.

    Raises:
        ValueError: a key or value cannot be used, or the checkpoint cannot.
    """
    if not isinstance(cfg.ckpt_path, str) or any(text.startswith("experiment=") for text in given):
        return check_config(cfg)
    saved = read_checkpoint(cfg.ckpt_path)["config"]
    composed = check_config(cfg)
    config = composed.copy()
    config.update(saved)
    restore_paths(config, composed, saved)
    config.trainer.logger = composed.trainer.logger
    resumes = str(cfg.task._target_).endswith(".train")
    if not resumes:  # the machine at hand decides, not the one that trained the net
        for key in MACHINE_KEYS:
            config.trainer[key] = composed.trainer.get(key, MACHINE_KEYS[key])
        for key in LENGTH_KEYS:
            config.trainer.pop(key, None)
            if key in composed.trainer:
                config.trainer[key] = composed.trainer[key]
    for override in OverridesParser.create().parse_overrides(given):
        key = override.key_or_group.replace("/", ".")
        if override.is_delete():
            parent, _, child = key.rpartition(".")
            node = OmegaConf.select(config, parent) if parent else config
            if isinstance(node, DictConfig):
                node.pop(child, None)
        elif key in ("model", "data", "trainer"):
            config[key], config.choices[key] = composed[key], composed.choices.get(key)
            if key == "model":
                config.callbacks = composed.callbacks
            if key == "data":
                keep_reading(config.data, saved["data"], given)
        elif key.split(".")[0] not in COMMAND_KEYS:
            OmegaConf.update(config, key, OmegaConf.select(composed, key), merge=False, force_add=True)
    for key in (*COMMAND_KEYS, *(key for key in RUN_KEYS if not resumes or key not in config)):
        config[key] = composed.get(key)
    try:
        check_callbacks(OmegaConf.to_container(config.callbacks), OmegaConf.to_container(composed.callbacks))
    except ValueError as error:
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: {error}") from error
    before = {text.split("=")[0]: text for text in read_checkpoint(cfg.ckpt_path)["overrides"]}
    kept = {key: text for key, text in before.items() if resumes or key not in RUN_KEYS}
    config.overrides = list((kept | {text.split("=")[0]: text for text in given}).values())
    config = check_config(config)
    check_sizes(config)
    return config


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


def keep_reading(data: DictConfig, saved: Mapping[str, Any], given: list[str]) -> None:
    """Lets another data set be read as the net has learned to, where the command line says nothing else."""
    _, parameters = locate("data", data._target_)
    typed = {text.split("=")[0] for text in given}
    for name in READING:
        if name in saved and name in parameters.annotations and f"data.{name}" not in typed:
            data[name] = saved[name]


def local_paths(part: str, node: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of a model or data set that are paths on this machine."""
    _, parameters = locate(part, node["_target_"])
    return (name for name, annotation in parameters.annotations.items() if is_local_path(annotation))


def restore_paths(config: DictConfig, composed: DictConfig, saved: Mapping[str, Any]) -> None:
    """Gives a checkpoint's config the paths of the present command: those that its run read are not followed."""
    for part in ("model", "data"):
        for name in local_paths(part, saved[part]):
            config[part].pop(name, None)
            if composed[part]._target_ == saved[part]["_target_"] and name in composed[part]:
                config[part][name] = composed[part][name]


def plain_config(cfg: DictConfig, datamodule: LightningDataModule | None = None) -> dict[str, Any]:
    """The part of a run's checked config that goes into its checkpoints: plain values, no paths.

    What was found in a set of a person's own, such as its classes, is added: the net is used where the set is not.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    for key in (*COMMAND_KEYS, "overrides"):
        config.pop(key, None)
    config["trainer"].pop("logger", None)
    for part in ("model", "data"):
        for name in local_paths(part, config[part]):
            config[part].pop(name, None)
    config["data"] |= getattr(datamodule, "found_arguments", {})
    return config


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


def check_as_saved(cfg: DictConfig, parts: tuple[str, ...], reason: str) -> None:
    """Refuses parts of a config, "model" or "data", that are others than those of its checkpoint, but for paths.

    Raises:
        ConfigError: names a key that was changed; begins with `reason`.
    """
    saved = read_checkpoint(cfg.ckpt_path)["config"]
    for part in parts:
        now: dict[str, Any] = OmegaConf.to_container(cfg[part], resolve=True)  # type: ignore[assignment]
        paths = {*local_paths(part, now), *local_paths(part, saved[part])}
        for key in sorted(now.keys() | saved[part].keys() - paths):
            if key not in paths and now.get(key) != saved[part].get(key):
                name, value, was = f"{part}.{key}", now.get(key), saved[part].get(key)
                if key == "_target_":
                    name, value, was = part, cfg.choices.get(part), saved["choices"].get(part)
                raise ConfigError(name, f"{reason}, {was}", value)


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
    return model.to(trainer.strategy.root_device).eval(), datamodule, trainer, facts


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
