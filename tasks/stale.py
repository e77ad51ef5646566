"""Whether a published command still composes to what was run, and what it would take."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tasks.config import as_typed, compose
from tasks.messages import command
from tasks.overrides import as_override
from tasks.prepare import prepare
from tasks.results import leaves
from tasks.saved_config import plain_config

SHOWN = ("progress_bar", "learning_rate", "plots")  # callbacks that compute nothing of a run
NOT_COMPARED = ("trainer", "callbacks", "choices", "seed", "name", "tags", "description", "compile")
BUDGET = ("max_epochs", "max_steps", "max_time", "limit_train_batches", "accumulate_grad_batches", "gradient_clip_val")


def composed(overrides: Iterable[str]) -> DictConfig:
    """What a command composes to now."""
    return prepare(compose([*map(as_override, overrides)]))


def changes_of_recipe(overrides: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The overrides that a command needs beside its own to compose to a config of its recipe as it was then.

    Raises:
        ValueError: none do, for the recipe has other keys now.
    """
    cfg = compose([*map(as_override, overrides)])
    now, then = leaves(compared(plain_config(prepare(cfg.copy())))), leaves(compared(config))
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
