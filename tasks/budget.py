"""What ends a training, checked before it begins."""

import inspect

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, Timer
from omegaconf import DictConfig
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tasks.config import ConfigError
from tasks.end_of_training import callbacks_of


def check_budget(trainer: DictConfig) -> None:
    """Refuses a budget of zero."""
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if trainer.get(name) == 0:
            raise ValueError(f"trainer.{name}=0: leaves nothing to train")


def check_momentum(cfg: DictConfig) -> None:
    """Refuses a momentum that was chosen for a new run and that the schedule would replace at every step.

    Raises:
        ConfigError: names the schedule that leaves it alone.
    """
    schedule, optimizer = cfg.model.get("lr_scheduler") or {}, cfg.model.get("optimizer") or {}
    cycles = str(schedule.get("_target_")).endswith(".OneCycleLR") and schedule.get("cycle_momentum") is not False
    if not cycles or cfg.ckpt_path is not None:
        return
    typed = {text.partition("=")[0] for text in cfg.overrides}
    without = str(optimizer.get("_target_")).endswith(".SGD") and not optimizer.get("momentum")
    for name in ("momentum", "betas"):
        if f"model.optimizer.{name}" in typed or (name == "momentum" and without):
            reason = "one_cycle moves it from 0.95 to 0.85 and back: use model/lr_scheduler=one_cycle_constant_momentum"
            raise ConfigError(f"model.optimizer.{name}", reason, optimizer.get(name, 0))


def check_length(model: LightningModule, trainer: Trainer) -> None:
    """Refuses a budget of no time or within a round, and a schedule that lacks a number of steps, or a validation.

    Raises:
        ConfigError: says how to give it.
    """
    if any(timer.time_remaining() == 0 for timer in callbacks_of(trainer, Timer)):
        raise ConfigError("trainer.max_time", "leaves nothing to train")
    if trainer.max_steps != -1 and trainer.max_steps % (of_round := getattr(model, "generator_steps", 1)):
        reason = f"must be a multiple of model.generator_steps={of_round}, which are not divided"
        raise ConfigError("trainer.max_steps", reason, trainer.max_steps)
    schedule = getattr(model, "lr_scheduler", None)
    planned = schedule is not None and "total_steps" in inspect.signature(schedule).parameters
    if planned and trainer.max_epochs == -1 and trainer.max_steps == -1:
        reason = "is planned for a number of steps: give trainer.max_epochs or trainer.max_steps, or choose another"
        raise ConfigError("model.lr_scheduler", reason)
    if planned and callbacks_of(trainer, GradientAccumulationScheduler):
        reason = "is planned for a number of steps, which GradientAccumulationScheduler makes smaller: choose another"
        raise ConfigError("model.lr_scheduler", f"{reason}, or use trainer.accumulate_grad_batches")
    if getattr(schedule, "func", None) is ReduceLROnPlateau and trainer.limit_val_batches == 0:
        reason = "looks at a metric of validation, which trainer.limit_val_batches=0 leaves out"
        raise ConfigError("model.lr_scheduler", reason)


def check_length_is_its_own(cfg: DictConfig, task: str) -> None:
    """Refuses a trainer's limits that would end a task before the number of steps that it is asked for.

    Raises:
        ConfigError: names one.
    """
    for key in ("fast_dev_run", "max_time"):
        if cfg.trainer.get(key):
            steps = f"task.steps={cfg.task.steps}" if "steps" in cfg.task else "its own numbers of"
            raise ConfigError(f"trainer.{key}", f"task={task} makes {steps} steps", cfg.trainer[key])
