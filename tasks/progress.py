"""The progress of a run on the console: one line at 80 columns; in a log file, one line per epoch."""

import time
from typing import Any

import rich
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from datamodules.contract import CheckedArguments, Index

SHORT = {"accuracy": "acc", "generator_loss": "G_loss", "discriminator_loss": "D_loss"}
WIDE = 100  # characters; a narrower terminal shows no speed


class ProgressLine(CheckedArguments, RichProgressBar):
    """Shows in one line the batches of an epoch or the steps of a run with `max_steps`, the time left and the metrics.

    A narrow terminal shows fewer metrics. Where there is no terminal, in a log file say, a line with all of them is
    printed after each epoch.

    Args:
        refresh_rate: updates per second; 0 = nothing is shown.

    >>> ProgressLine(refresh_rate=0).is_enabled
    False
    """

    def __init__(self, refresh_rate: Index = 10) -> None:
        super().__init__(refresh_rate)
        self.updated_at = 0.0
        self.epoch = 0  # the number, from 1, of the epoch that no line was printed of yet; 0 for none
        self.started_at = 0.0  # that epoch
        self.seconds = 0.0  # that it took

    @property
    def is_enabled(self) -> bool:
        console = rich.get_console()
        return super().is_enabled and (console.is_terminal or console.is_jupyter)

    @property
    def total_train_batches(self) -> int | float:
        return super().total_train_batches if self.trainer.max_steps == -1 else self.trainer.estimated_stepping_batches

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_steps != -1:
            return "Step"
        return f"Epoch {current_epoch + 1}{of_epochs(self.trainer)}"

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        time_left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
        is_wide = rich.get_console().width >= WIDE
        columns = [TextColumn("{task.description}"), BarColumn(20 if is_wide else 8), MofNCompleteColumn(), time_left]
        return [*columns, SpeedColumn()] if is_wide else columns

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.fit_loop.restarted_mid_epoch:  # then no epoch starts
            self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_epoch(trainer)  # the one before, whose means are known now
        self.epoch, self.started_at = trainer.current_epoch + 1, time.perf_counter()
        if trainer.max_steps == -1 or self.train_progress_bar_id is None:
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self.is_disabled or (now - self.updated_at < 1 / self.refresh_rate and not trainer.is_last_batch):
            return  # reading metrics would make a GPU wait
        self.updated_at = now
        done = batch_idx if trainer.max_steps == -1 else trainer.global_step - 1
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.started_at
        super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._update_metrics(trainer, pl_module)
        if trainer.max_steps != -1:
            self._update(self.train_progress_bar_id, trainer.global_step)
        self._print_epoch(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        if trainer.state.fn != "fit":
            self._stop_progress()  # what follows, an evaluation of a GAN, shows progress of its own

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_progress()

    def _print_epoch(self, trainer: Trainer) -> None:
        """In a log file, a line about the epoch that has ended."""
        if self.epoch and super().is_enabled and not self.is_enabled:
            metrics = "  ".join(f"{name} {value:.4g}" for name, value in short_metrics(trainer.progress_bar_metrics))
            print(f"epoch {self.epoch}{of_epochs(trainer)}  {metrics}  {self.seconds:.1f} s", flush=True)
        self.epoch = 0

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """As many of the metrics as fit, under short names."""
        shown: dict[str, Any] = {}
        width = rich.get_console().width
        room = width - (62 if width >= WIDE else 41)  # with the largest numbers that the other columns may show
        for name, value in short_metrics(trainer.progress_bar_metrics):
            room -= len(f" {name}: {value:.3f}")
            if room >= 0:
                shown[name] = value
        return shown


class SpeedColumn(ProgressColumn):
    """Batches or steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g}/s" if task.speed else "", style="progress.data.speed")


def of_epochs(trainer: Trainer) -> str:
    """How many epochs there are to be, nothing where steps or minutes decide."""
    return f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) and trainer.max_steps == -1 else ""


def short_metrics(metrics: Any) -> list[tuple[str, float]]:
    """Metrics under short names, those of training first and the loss on validation images last.

    >>> short_metrics({"val/loss": 0.2, "val/accuracy": 0.97, "train/accuracy": 0.98, "train/loss": 0.1})
    [('loss', 0.1), ('acc', 0.98), ('val_acc', 0.97), ('val_loss', 0.2)]
    """
    named = []
    for key, value in metrics.items():
        stage, _, name = key.rpartition("/")
        in_training = stage in ("train", "")
        short = SHORT.get(name, name)
        order = (not in_training, ("loss" in name) != in_training)
        named.append((order, short if in_training else f"{stage}_{short}", float(value)))
    return [(name, value) for _, name, value in sorted(named, key=lambda item: item[0])]
