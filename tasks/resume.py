"""What a resumed run may change: the machine, the budget and what watches it; not what it computes."""

import re
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from lightning import LightningDataModule
from omegaconf import DictConfig, OmegaConf
from pydantic import Field, with_config
from typing_extensions import TypedDict

from datamodules.contract import STRICT, Index, NonNegative
from tasks.annotations import fault_of, is_local_path
from tasks.config import as_typed, locate
from tasks.machine import Line
from tasks.messages import command
from tasks.published import find_net
from tasks.results import leaves
from tasks.run_records import is_number
from tasks.untrusted import MAX_COUNT

# Of the trainer's keys, those that decide what is computed. The others are the machine's, the budget's or the logs'.
FIXED_TRAINER_KEYS = (
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches"),
    *("overfit_batches", "val_check_interval", "check_val_every_n_epoch", "use_distributed_sampler", "barebones"),
    *("enable_checkpointing", "fast_dev_run", "devices", "num_nodes", "limit_val_batches"),
)
FIXED_CALLBACKS = ("checkpoint", "last", "ema", "early_stopping")
# The same by their classes, whatever their keys are.
FIXED_CLASSES = ("ModelCheckpoint", "EarlyStopping", "WeightEMA", "GradientAccumulationScheduler")


@with_config(STRICT)
class Clock(TypedDict):
    """What `tasks.callbacks.TrainingClock` keeps in a checkpoint."""

    seconds: NonNegative
    cpu_seconds: NotRequired[NonNegative]  # not in checkpoints of before
    images: Index
    epochs: Index
    metrics: dict[str, Any]
    commits: NotRequired[Annotated[list[Line], Field(min_length=1)]]


NEEDED = {
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}


def check_resume(checkpoint: Mapping[str, Any], cfg: DictConfig) -> None:
    """Refuses to resume a run otherwise than it was begun.

    A resumed run ends as the uninterrupted one would have, so what decides its weights is fixed: the model, the data,
    the seed and a few of the trainer's keys. To go on with other settings is a new run, which starts from the weights.

    Raises:
        ValueError: a key was changed that may not be, the budget is spent, or the checkpoint lacks what is needed.
    """
    damaged = [name for name, kind in NEEDED.items() if not isinstance(checkpoint.get(name), kind)]
    if checkpoint.get("training_clock") is not None and fault_of(checkpoint["training_clock"], Clock) is not None:
        damaged.append("training_clock")
    if "pytorch-lightning_version" not in checkpoint and find_net(cfg.ckpt_path):
        reason = f"a published net holds weights alone; for a new run from them: {new_run(cfg)}"
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: cannot be resumed, {reason}")
    is_translated = not re.match(r"([2-9]|\d\d)\.\d", str(checkpoint.get("pytorch-lightning_version")))
    if not damaged and is_translated:  # by Lightning, which would bring back paths that have been left out
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: cannot be resumed, it is not of Lightning 2 or later")
    if damaged := damaged or incomplete(checkpoint):
        raise ValueError(
            f"ckpt_path={cfg.ckpt_path}: cannot be resumed, its {damaged[0]} is missing or damaged; "
            f"for a new run from its weights: {new_run(cfg)}"
        )
    before: dict[str, Any] = {"trainer": {}, "callbacks": {}} | checkpoint["config"]
    now: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    for key, was, value in changes(before, now):
        raise ValueError(
            f"{key}={value}: a resumed run keeps {key}={was}; for a new run from its weights: {new_run(cfg)}"
        )
    check_budget_left(checkpoint, cfg)


def incomplete(checkpoint: Mapping[str, Any]) -> list[str]:
    """The parts of a checkpoint without which Lightning would go on as if they had never been.

    Plain gradient descent alone keeps nothing of a parameter; of one that is not trained no optimizer does.
    """
    model, callbacks = checkpoint["config"]["model"], checkpoint["config"].get("callbacks", {})
    found = [name for name in ("epoch", "global_step") if not 0 <= checkpoint[name] < MAX_COUNT]
    states = checkpoint["optimizer_states"]
    optimizers = ["optimizer", "discriminator_optimizer"] if "discriminator_optimizer" in model else ["optimizer"]
    if checkpoint["global_step"] and model.get("optimizer"):
        settings = [model.get(key) or model["optimizer"] for key in optimizers]
        if len(states) != len(settings) or not all(map(is_whole, states, settings)):
            found.append("optimizer_states")
    classes = Counter(str((node or {}).get("_target_")).rpartition(".")[2] for node in callbacks.values())
    kept = Counter(str(key).partition("{")[0] for key in checkpoint["callbacks"])  # ModelCheckpoint{'monitor': ...}
    if any(kept[name] < classes[name] for name in ("ModelCheckpoint", "EarlyStopping")):
        found.append("callbacks")
    return found


def is_whole(state: Any, settings: Mapping[str, Any]) -> bool:
    """Whether an optimizer's state holds what it has of its parameters after a step."""
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return False
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        return False
    if not all(is_number(group.get("lr"), 0) for group in groups):
        return False
    keeps_nothing = str(settings.get("_target_")).endswith(".SGD") and not settings.get("momentum")
    return keeps_nothing or (bool(state["state"]) and all(map(is_kept, state["state"].values())))


def is_kept(moments: Any) -> bool:
    """Whether an optimizer's state of one parameter holds anything."""
    return isinstance(moments, dict) and len(moments) > 0


def new_run(cfg: DictConfig) -> str:
    """The command that starts a new run, with the same settings, from the weights of a checkpoint."""
    names = [f"{group}={cfg.choices[group]}" for group in ("model", "data") if cfg.choices.get(group)]
    chosen = {text.split("=")[0] for text in names}
    others = [text for text in cfg.overrides if text.split("=")[0] not in {*chosen, "ckpt_path", "init_from"}]
    return command(*names, *others, f"init_from={cfg.ckpt_path}")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The fixed keys whose values differ: key, value in the checkpoint, value now."""
    paths = {
        f"{part}.{name}"
        for part in ("model", "data")
        for name, annotation in locate(part, before[part]["_target_"])[1].annotations.items()
        if is_local_path(annotation)
    }
    old, new = leaves(fixed(before)), leaves(fixed(now))
    differing = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key) and key not in paths]
    return [(key, as_typed(old.get(key)), as_typed(new.get(key))) for key in differing]


def fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a config that a resumed run keeps."""
    trainer = {key: value for key, value in config["trainer"].items() if key in FIXED_TRAINER_KEYS}
    kept = {key: value for key, value in config["callbacks"].items() if key in FIXED_CALLBACKS or is_fixed(value)}
    callbacks = {key: without_patience(value) for key, value in kept.items()}
    return {name: config.get(name) for name in ("model", "data", "seed")} | {"trainer": trainer, "callbacks": callbacks}


def is_fixed(callback: Any) -> bool:
    """Whether a callback decides the weights of a run, or which of them are kept."""
    target = callback.get("_target_") if isinstance(callback, Mapping) else None
    return str(target).rpartition(".")[2] in FIXED_CLASSES


def without_patience(callback: Any) -> Any:
    """A callback without the one key of early stopping that may change: a longer budget."""
    is_early_stopping = isinstance(callback, Mapping) and str(callback.get("_target_")).endswith(".EarlyStopping")
    return {key: value for key, value in callback.items() if key != "patience"} if is_early_stopping else callback


def check_budget_left(checkpoint: Mapping[str, Any], cfg: DictConfig) -> None:
    """Refuses a budget that is below what was done, or beyond the end of a schedule that was planned for another."""
    before, now = checkpoint["config"].get("trainer", {}), cfg.trainer
    begun, steps = checkpoint["epoch"] + 1, checkpoint["global_step"]
    complete = finished_epochs(checkpoint)
    epochs = now.get("max_epochs")
    if epochs is not None and 0 <= epochs < complete:
        raise ValueError(f"trainer.max_epochs={epochs}: this run has finished {complete} epochs already")
    if 0 <= now.get("max_steps", -1) < steps:
        raise ValueError(f"trainer.max_steps={now.max_steps}: this run has made {steps} steps already")
    is_esn = str(checkpoint["config"]["model"].get("_target_")).endswith(".EchoStateNetwork")
    if is_esn and steps and "ridge_sums" not in checkpoint and not 0 <= (-1 if epochs is None else epochs) <= complete:
        raise ValueError(
            f"trainer.max_epochs={epochs}: an echo state network learns from sums over the images, which no checkpoint "
            f"of a finished run holds: start a new run with trainer.max_epochs={epochs}"
        )
    for key in ("max_epochs", "max_steps"):
        planned = any(is_planned(state, before.get(key)) for state in checkpoint["lr_schedulers"])
        if planned and before.get(key) != now.get(key):
            raise ValueError(
                f"trainer.{key}={now.get(key)}: the learning rate of this run was planned for trainer.{key}="
                f"{before.get(key)} ({begun} epochs begun); for a new schedule from its weights: {new_run(cfg)}"
            )


def is_planned(schedule: Any, budget: int | None) -> bool:
    """Whether a learning rate's schedule, or one of those that it is made of, ends where a run's budget does.

    >>> is_planned({"T_max": 10}, 10), is_planned({"T_max": 20}, 10), is_planned({"step_size": 10}, 10)
    (True, False, False)
    >>> is_planned({"total_steps": 5500}, 10), is_planned({"_schedulers": [{"total_iters": 10}]}, 10)
    (True, True)
    """
    if not isinstance(schedule, dict):
        return False
    parts = schedule.get("_schedulers")
    ends = [schedule[key] for key in ("T_max", "total_iters") if schedule.get(key) is not None]
    return (
        "total_steps" in schedule
        or budget in ends
        or any(is_planned(part, budget) for part in (parts if isinstance(parts, list) else ()))
    )


def finished_epochs(checkpoint: Mapping[str, Any]) -> int:
    """Epochs that a checkpoint's run had completed."""
    try:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        within = batches["current"]["completed"] > 0 and not batches["is_last_batch"]
        return int(progress["processed"]) - int(within and progress["processed"] > progress["completed"])
    except (KeyError, TypeError) as error:
        raise ValueError("ckpt_path: cannot be resumed, its loops are damaged") from error


def fingerprint(datamodule: LightningDataModule) -> dict[str, int]:
    """By which the training images of a run are known again: their number and the CRC-32 of their pixels and labels."""
    split = getattr(datamodule, "train_split", None)
    if split is None:
        return {}
    checksum = 0
    for part in split:
        checksum = zlib.crc32(part.contiguous().numpy(), checksum)
    return {"images": len(split.labels), "crc32": checksum}


def check_training_set(now: dict[str, int], checkpoint: Mapping[str, Any], path: str) -> None:
    """Refuses to resume a run on other training images than it was begun with, whose places are not in its checkpoint.

    Raises:
        ValueError: says how many there were.
    """
    before = checkpoint.get("training_set")  # not in checkpoints of before
    if before is not None and before != now:
        count = before.get("images") if isinstance(before, dict) else None
        counts = f"{count:,} there" if isinstance(count, int) else "unknown there"
        raise ValueError(
            f"ckpt_path={path}: of a run on other training images ({counts}, {now.get('images', 0):,} now): give the "
            "paths that it had, such as data.root, data.path or data.extra_train_path"
        )
