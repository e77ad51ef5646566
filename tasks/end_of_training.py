"""Where Lightning leaves a state of the training out of a checkpoint, or counts it otherwise than it is resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class SaveAtEnd(Callback):
    """Has the end of the training written, into `last` and where the latest is kept, if ModelCheckpoint leaves it out.

    That is where `max_steps` or `max_time` end within an epoch, where no validation follows the last batch, or a
    checkpoint is due after another number of steps or epochs, and after an epoch in which only a discriminator learned,
    which `global_step` does not count.
    """

    def __init__(self, last: Path) -> None:
        self.last = last
        self.begun_with = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun_with = batches(trainer)
        self.on_train_epoch_start(trainer, pl_module)  # a run that is resumed within an epoch does not start one

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in callbacks_of(trainer, ModelCheckpoint):
            callback._last_global_step_saved = -1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_missing = not self.last.exists()
        if trainer.fast_dev_run or (batches(trainer) == self.begun_with and not is_missing):  # type: ignore[attr-defined]
            return
        latest = [*filter(keeps_latest, callbacks_of(trainer, ModelCheckpoint))]
        stale = {one.best_model_path for one in latest if one._last_global_step_saved != trainer.global_step}
        if is_missing or is_within_epoch(trainer):
            stale = {str(self.last), *(one.best_model_path for one in latest)}
        with counted_as_within(trainer):
            for path in sorted(filter(None, stale)):
                trainer.save_checkpoint(path)


Kind = TypeVar("Kind", bound=Callback)


def callbacks_of(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    """The trainer's callbacks of a kind."""
    return [one for one in trainer.callbacks if isinstance(one, kind)]  # type: ignore[attr-defined]


def keeps_latest(callback: ModelCheckpoint) -> bool:
    """Whether a callback compares nothing and writes one file, over and over."""
    return callback.monitor is None and callback.save_top_k == 1 and "{" not in (callback.filename or "{")


def batches(trainer: Trainer) -> int:
    """The batches of a run so far, in all epochs."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def is_within_epoch(trainer: Trainer) -> bool:
    return not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


@contextmanager
def counted_as_within(trainer: Trainer) -> Iterator[None]:
    """For a checkpoint at the end of a training: its last epoch is counted as ModelCheckpoint finds it.

    Lightning has counted it as completed, also where a budget has cut it short, and would not train the rest of it.
    """
    epochs = trainer.fit_loop.epoch_progress
    counters: list[Any] = [epochs.current, epochs.total]
    before = [(counter.processed, counter.completed) for counter in counters]
    for counter in counters:
        counter.completed -= 1
        counter.processed -= is_within_epoch(trainer)
    try:
        yield
    finally:
        for counter, (processed, completed) in zip(counters, before, strict=True):
            counter.processed, counter.completed = processed, completed


class WholeSteps(Callback):
    """Has a budget of time end behind a step, not between two batches whose gradients are accumulated for one.

    The last of the callbacks, behind Lightning's timer, which asks again after the next batch.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        left = [timer.time_remaining() for timer in callbacks_of(trainer, Timer)]
        is_over = any(seconds is not None and seconds <= 0 for seconds in left)
        if is_over and (batch_idx + 1) % trainer.accumulate_grad_batches and is_within_epoch(trainer):
            trainer.should_stop = False


class PlateauStep(Callback):
    """Makes up for the step of a schedule that looks at a metric, which is behind the checkpoint of its epoch."""

    def __init__(self) -> None:
        self.finished = 0  # epochs, of the checkpoint that is resumed
        self.metrics: dict[str, float] = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        at_end = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
        self.finished = checkpoint["epoch"] + 1 if at_end else 0
        self.metrics = (checkpoint.get("training_clock") or {}).get("metrics") or {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for config in trainer.lr_scheduler_configs:
            schedule = config.scheduler
            if not isinstance(schedule, ReduceLROnPlateau) or not pl_module.automatic_optimization:
                continue
            if schedule.last_epoch < self.finished and config.monitor in self.metrics:
                schedule.step(self.metrics[config.monitor])
