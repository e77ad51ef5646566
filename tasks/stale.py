"""Whether a published command still composes to what was run, and what it would take."""

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tasks.config import as_typed, compose
from tasks.messages import command
from tasks.overrides import CONF, as_override
from tasks.prepare import prepare
from tasks.results import leaves
from tasks.saved_config import plain_config

SHOWN = ("progress_bar", "learning_rate", "plots")  # callbacks that compute nothing of a run
NOT_COMPARED = ("trainer", "callbacks", "choices", "seed", "name", "tags", "description", "compile")
BUDGET = ("max_epochs", "max_steps", "max_time", "limit_train_batches", "accumulate_grad_batches", "gradient_clip_val")


def composed(overrides: Iterable[str]) -> DictConfig:
    """What a command of a record composes to now.

    Raises:
        ValueError: see `followed`; other errors of Hydra and OmegaConf, where it does not compose.
    """
    return prepare(followed(overrides))


def followed(overrides: Iterable[str]) -> DictConfig:
    """What a command of a record composes to before it is checked, which imports the classes that it names.

    Raises:
        ValueError: it chooses a task or sets an option of Hydra, or names a class that no file of conf/ names: a
            record is data, which may come from anyone.
    """
    for text in overrides:
        if re.split(r"[./=@]", text.lstrip("+~"))[0] in ("task", "hydra"):
            raise ValueError(f"{text}: is not followed out of a record, which is one of a training")
    cfg = compose([*map(as_override, overrides)])
    parts = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    for name in targets(OmegaConf.to_container(parts, resolve=True)):  # an interpolation can make one of other texts
        if not isinstance(name, str) or name not in known_targets():
            raise ValueError(f"{name}: is not followed out of a record, for no file of conf/ names that class")
    return cfg


def targets(node: Any) -> Iterator[Any]:
    """Every `_target_` in a plain config."""
    if isinstance(node, dict) and "_target_" in node:
        yield node["_target_"]
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from targets(inner)


@functools.cache
def known_targets() -> frozenset[str]:
    """The classes and functions that the files of conf/ name."""
    found = (re.findall(r"_target_: *([\w.]+)", file.read_text()) for file in CONF.rglob("*.yaml"))
    return frozenset(name for names in found for name in names)


def changes_of_recipe(overrides: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The overrides that a command needs beside its own to compose to a config of its recipe as it was then.

    Raises:
        ValueError: none do, for the recipe has other keys now, or see `followed`.
    """
    cfg = followed(overrides)
    now, then = leaves(compared(plain_config(prepare(cfg.copy())))), leaves(compared(config))
    for key in then.keys() - now.keys():
        if parts := [other for other in now if other.startswith(f"{key}.")]:  # a mapping in the place of a null
            now = {other: value for other, value in now.items() if other not in parts} | {key: ...}
    if lost := then.keys() ^ now.keys():
        raise ValueError(f"the recipe of {command(*overrides)} has changed in {min(lost)}: run it again")
    named = {text.lstrip("+").partition("=")[0] for text in overrides}
    changed = [key for key in then if then[key] != now[key] and key not in named and not is_derived(cfg, key)]
    return [f"{key}={as_typed(then[key])}" for key in changed]


def is_derived(cfg: DictConfig, key: str) -> bool:
    """Whether a value is that of another key.

    >>> is_derived(OmegaConf.create({"a": {"b": 1, "c": "${a.b}"}}), "a.c")
    True
    """
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent)
    return isinstance(node, DictConfig) and OmegaConf.is_interpolation(node, name)


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that decides what is computed, but for the seed."""
    parts: dict[str, Any] = {key: value for key, value in config.items() if key not in NOT_COMPARED}
    parts["data"] = {key: value for key, value in parts["data"].items() if key != "seed"}
    callbacks, trainer = (config.get(part) or {} for part in ("callbacks", "trainer"))
    parts["callbacks"] = {key: value for key, value in callbacks.items() if key not in SHOWN and value is not None}
    parts["trainer"] = {key: trainer.get(key) for key in ("precision", *BUDGET)}
    content: dict[str, Any] = json.loads(json.dumps(parts))  # a tuple is a list there
    return content
