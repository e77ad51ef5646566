"""From what Hydra composes to the checked config of a run: with what a claim's arm and a checkpoint bring."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from tasks.annotations import fault_of
from tasks.config import ConfigError, Name, check_config, compose
from tasks.overrides import as_override
from tasks.run_records import USED_BY, WITHOUT_NET

# Tasks that read what runs have left, and by what they choose of it.
OF_RECORDS = {
    "leaderboard": "task.runs, task.model, task.data and task.tag",
    "runs": "task.runs, task.model, task.data and task.tag",
    "records": "task.add",
    "claims": "task.add",
}
CHOICES = ("model", "data", "experiment", "trainer/logger", "callbacks")


def prepare(cfg: DictConfig, hydra: DictConfig | None = None) -> DictConfig:
    """The checked config that a task is called with, from the one that Hydra composes; see `run_task`."""
    cfg = cfg.copy()
    with open_dict(cfg):
        own = cfg.pop("hydra", None)
        hydra = hydra if hydra is not None else own
        changes = typed(hydra)
        if task_name(cfg) == "claim":
            check_claim(cfg)
        if hydra is not None and cfg.task.get("arm") is not None:
            cfg, hydra, full, arm = compose_arm(cfg, hydra)
            changes = [*full, *changes, *arm]
        cfg.choices = choices_of(hydra)
        cfg.overrides = list({text.split("=")[0]: text for text in changes}.values())  # the later of a key wins
    if "~callbacks" in cfg.overrides:  # which Hydra takes for the options of that group, of which there are none
        raise ConfigError("~callbacks", "leave out one by one: ~callbacks.NAME")
    check_used(cfg)
    if task_name(cfg) in WITHOUT_NET:
        return check_config(cfg, ("task",))
    from tasks.saved_config import complete

    return complete(cfg, list(cfg.overrides))


def check_used(cfg: DictConfig) -> None:
    """Refuses what the command line sets and its task would not look at.

    Raises:
        ConfigError: names the tasks that do.
    """
    given = {text.split("=")[0] for text in cfg.overrides}
    for key, tasks in USED_BY.items():
        if key in given and cfg.get(key) and task_name(cfg) not in tasks:
            raise ConfigError(key, f"is not used by task={task_name(cfg)}, but by {', '.join(tasks)}", cfg[key])
    if task_name(cfg) in OF_RECORDS:
        for key in sorted(given):
            part = re.split(r"[./]", key)[0]
            if part in ("model", "data", "seed", "experiment", "ckpt_path", "init_from", "trainer", "callbacks"):
                advice = f", whose own options are {OF_RECORDS[task_name(cfg)]}"
                raise ConfigError(key, f"says nothing to task={task_name(cfg)}{advice}")


def check_claim(cfg: DictConfig) -> None:
    """Refuses a claim's task without a claim, without one of its arms, or with others that are no arms.

    Raises:
        ConfigError: says what to choose.
    """
    if OmegaConf.is_missing(cfg.task, "sentence"):
        raise ConfigError("task", "is that of experiment=claim/NAME, task=claims lists them", "claim")
    check_lists(cfg.task)
    if OmegaConf.is_missing(cfg.task, "arm"):
        raise ConfigError("task.arm", f"has no value: choose one of {', '.join(cfg.task.arms)}; one claim at a time")


def compose_arm(cfg: DictConfig, hydra: DictConfig) -> tuple[DictConfig, DictConfig, list[str], list[str]]:
    """The config of an arm of a claim, Hydra's own for it, what its full size changes, if asked for, and what the arm.

    Raises:
        ConfigError: there is no such arm or no such size, or the command line sets what the arm changes.
    """
    arms, arm = cfg.task.get("arms") or {}, cfg.task.arm
    if not arms:
        raise ConfigError("task.arm", "is an option of a claim, experiment=claim/NAME")
    check_arm(arm, arms)
    changes, full = list(arms[arm]), full_size(cfg.task)
    check_arms({arm: changes}, hydra.overrides.task)
    composed = compose([*map(as_override, full), *hydra.overrides.task, *map(as_override, changes)])
    with open_dict(composed):
        own = composed.pop("hydra")
    return composed, own, full, changes


def check_jobs_of_claim(sweep: DictConfig, arms: Iterable[str]) -> None:
    """Refuses a sweep over a claim for what each of its jobs, or its verdict at the end, would be refused for.

    Args:
        arms: those that the command line names, perhaps in quotes.

    Raises:
        ConfigError: says what is wrong.
    """
    from tasks.claims.verdict import check_expectations  # with scipy, which other commands need not wait for

    check_lists(sweep.task)
    check_expectations(sweep.task.get("expectations"), sweep.task.arms)
    check_expectations(sweep.task.get("requires") or [], sweep.task.arms, "requires")
    check_arms(sweep.task.arms, sweep.hydra.overrides.task)
    full_size(sweep.task)
    for arm in arms:
        check_arm(arm.strip("'\""), sweep.task.arms)


def check_lists(task: DictConfig) -> None:
    """Refuses arms or a full size of a claim that are not made of lists of overrides.

    Raises:
        ConfigError: says what is not.
    """
    for key, kind in {"arms": dict[Name, list[str]], "full": list[str]}.items():
        value = task.get(key)
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if (fault := fault_of(value, kind, may_refer=True)) is not None:
            raise ConfigError(f"task.{key}", fault, value)


def full_size(task: DictConfig) -> list[str]:
    """The overrides that `size` asks for.

    Raises:
        ConfigError: the claim has no such size.
    """
    sizes = {"small": []} | ({"full": list(task.full)} if task.get("full") else {})
    if task.size not in sizes:
        raise ConfigError("task.size", f"choose one of {', '.join(sizes)}", task.size)
    return sizes[task.size]


def check_arm(arm: Any, arms: Mapping[str, Any]) -> None:
    """
    Raises:
        ConfigError: the claim has no such arm.
    """
    if arm not in arms:
        raise ConfigError("task.arm", f"choose one of {', '.join(map(str, arms))}", arm)


def check_arms(arms: Mapping[str, Iterable[str]], overrides: Iterable[str]) -> None:
    """Refuses overrides of what the arms of a claim differ in.

    Raises:
        ConfigError: names one.
    """
    given = {text.lstrip("+~").split("=")[0] for text in overrides}
    if clash := sorted(given & {text.split("=")[0] for changes in arms.values() for text in changes}):
        raise ConfigError(clash[0], "is what the arms of this claim differ in, and cannot be set for all of them")


def typed(hydra: DictConfig | None) -> list[str]:
    """What the command line changes, as it was typed: without what `saved_config.add_choices` added."""
    if hydra is None:
        return []
    overrides = [text.removeprefix("++") for text in hydra.overrides.task]
    if any(text.startswith("ckpt_path=") for text in overrides):
        from tasks.saved_config import GROUPS, choices_of_checkpoint

        for count in range(len(GROUPS), 0, -1):
            if overrides[-count:] == choices_of_checkpoint(overrides[:-count]):
                return overrides[:-count]
    return overrides


def choices_of(hydra: DictConfig | None) -> dict[str, Any]:
    """The names of the options that make the run what it is; several of one group as they were typed: [a,b]."""
    if hydra is None:
        return dict.fromkeys(CHOICES)
    several = dict(text.split("=", 1) for text in hydra.overrides.task if "=[" in text)  # which Hydra does not list
    return {name: hydra.runtime.choices.get(name) or several.get(name) for name in CHOICES}


def task_name(cfg: DictConfig) -> str:
    return str(cfg.task._target_).rpartition(".")[2]
