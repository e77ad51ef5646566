"""What every training run has besides its model: its config in the checkpoints, a clock, and ways to stop."""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from datamodules.contract import DivergenceError
from tasks.machine import commit
from tasks.process import configure_process


class ConfigInCheckpoint(Callback):
    """Puts the run's config into its checkpoints and its log, in TensorBoard as a text.

    Args:
        config: plain values, see `tasks.saved_config.plain_config`.
        overrides: what the command lines of the run changed.
        text: the config as YAML, for people.
        training_set: by which a resumed run knows its training images again.
    """

    def __init__(
        self, config: dict[str, Any], overrides: list[str], text: str, training_set: Mapping[str, int]
    ) -> None:
        self.content: dict[str, Any] = {
            "format": 2,
            "config": config,
            "overrides": overrides,
            "training_set": dict(training_set),
        }
        self.text = text

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint |= self.content

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("config", f"```yaml\n{self.text}\n```")
            else:
                logger.log_hyperparams(self.content["config"])


class LogEachEpoch(Callback):
    """Lets a run have a line of its log where its epochs, or all of it, have fewer steps than lie between two lines."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        of_step = getattr(pl_module, "discriminator_steps", trainer.accumulate_grad_batches)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        steps = (trainer.num_training_batches / of_step, trainer.max_steps)  # infinite for some data; -1
        if fewer := [max(1, int(count)) for count in steps if 0 < count < every]:
            trainer.log_every_n_steps = min(fewer)  # type: ignore[attr-defined]


class ProcessSettings(Callback):
    """Makes the settings of this process in those that ddp_spawn starts, as soon as it arrives there."""

    def __reduce__(self) -> tuple[Callable[[], Callback], tuple[()]]:
        return settings_of_process, ()


def settings_of_process() -> ProcessSettings:
    configure_process()
    return ProcessSettings()


class TrainingClock(Callback):
    """Measures seconds and images of training, without validation, and keeps the metrics of a checkpoint.

    Seconds are by the clock, and of the processor: what this process's threads have worked, whatever else runs beside.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.images = 0
        self.metrics: dict[str, float] = {}  # a run that is resumed after its last epoch has no others
        self.epochs = 0
        self.commits = [commit()]  # by which it was trained, in their order
        self.started_at = 0.0
        self.cpu_started_at = 0.0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        metrics = numbers(trainer.callback_metrics)  # when all has ended that adds to them
        counts = {"images": self.images, "epochs": self.epochs}
        seconds = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        checkpoint["training_clock"] = {**seconds, **counts, "metrics": metrics, "commits": self.commits}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.restore(checkpoint)

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Goes on from the counts of a checkpoint, if it has them."""
        if state := checkpoint.get("training_clock"):
            self.seconds, self.images, self.epochs = (state[key] for key in ("seconds", "images", "epochs"))
            self.cpu_seconds = state.get("cpu_seconds", 0.0)  # not in checkpoints of before
            self.commits = list(dict.fromkeys([*state.get("commits", []), commit()]))
            metrics = state["metrics"].items()
            self.metrics = {name: float(value) for name, value in metrics if "/" in name and isinstance(value, float)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.go_on()  # a run that is resumed within an epoch does not start one

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.go_on()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.go_on()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch[1]) * trainer.world_size

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause(trainer)
        self.epochs = trainer.current_epoch + 1

    def go_on(self) -> None:
        self.started_at, self.cpu_started_at = time.perf_counter(), time.process_time()

    def pause(self, trainer: Trainer) -> None:
        if not trainer.sanity_checking and self.started_at:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - self.started_at
            self.cpu_seconds += time.process_time() - self.cpu_started_at
            self.started_at = 0.0

    def cost(self) -> dict[str, Any]:
        """Epochs, seconds of training and images per second, for the results."""
        return {
            **({"commits": self.commits} if len(self.commits) > 1 else {}),
            "epochs": self.epochs,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "images_per_second": self.images / self.seconds if self.seconds else 0.0,
        }


class StopOnSignal(Callback):
    """Turns Ctrl-C and SIGTERM into the end of the current batch and a checkpoint from which the run resumes exactly.

    Args:
        last: the checkpoint that is written; None where a run keeps none.
        clock: is paused before the checkpoint is written.
    """

    def __init__(self, last: Path | None, clock: TrainingClock) -> None:
        self.last = last
        self.clock = clock
        self.received: int | None = None  # the number of the signal
        self.started = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = True

        def stop(number: int, frame: FrameType | None) -> None:
            if self.received is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.received = number
            with suppress(OSError):  # print() may be at work, and whoever reads may have been stopped, too
                os.write(1, b"\nStopping after this batch; press Ctrl-C again to stop at once\n")

        for number in (signal.SIGINT, signal.SIGTERM):  # Lightning restores the earlier handlers when the fit ends
            signal.signal(number, stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches == 0 and done % (trainer.val_check_batch or math.inf):
            # accumulated gradients and half-done validations are not saved: they are finished first
            self.stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop_if_asked(trainer)

    def stop_if_asked(self, trainer: Trainer) -> None:
        if self.received is not None:  # Lightning heeds it when this batch or epoch is complete
            trainer._signal_connector._sigterm_notifier_fn(signal.SIGTERM, None)  # type: ignore[arg-type]

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException) and self.last is not None:
            self.clock.pause(trainer)
            epochs = trainer.fit_loop.epoch_progress
            if epochs.current.completed == epochs.current.ready:  # a finished epoch is saved as ModelCheckpoint does
                epochs.current.completed -= 1
                epochs.total.completed -= 1
            trainer.save_checkpoint(self.last)


class StopAtNonFinite(Callback):
    """Ends a run whose losses are no longer finite, at the next step that is logged or the end of the epoch."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and trainer.global_step % every == 0:
            self.check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.check(trainer)

    def check(self, trainer: Trainer) -> None:
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/") and not bool(torch.isfinite(value).all()):
                raise DivergenceError(name, trainer.global_step)


def numbers(metrics: dict[str, torch.Tensor]) -> dict[str, float]:
    """Metrics as plain numbers, without the learning rate."""
    return {name: float(value) for name, value in metrics.items() if "/" in name}
