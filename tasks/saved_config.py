"""The config that a checkpoint keeps of its run, and the one that a command makes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning import LightningDataModule
from omegaconf import DictConfig, OmegaConf

from tasks.checkpoint import check_sizes, read_checkpoint
from tasks.config import ConfigError, check_config, local_paths, locate
from tasks.overrides import CONF
from tasks.published import find_net
from tasks.untrusted import check_callbacks

READING = ("normalize", "image_size")  # of a data set: what a net has learned to see
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


def keep_reading(data: DictConfig, saved: Mapping[str, Any], given: list[str]) -> None:
    """Lets another data set be read as the net has learned to, where the command line says nothing else."""
    _, parameters = locate("data", data._target_)
    typed = {text.split("=")[0] for text in given}
    for name in READING:
        if name in saved and name in parameters.annotations and f"data.{name}" not in typed:
            data[name] = saved[name]


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
