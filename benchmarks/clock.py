"""The callbacks that time `python run.py` from inside, for the benchmarks."""

import statistics
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from benchmarks.measure import tell
from tasks.benchmark import finish_work


class Clock(Callback):
    """Tells the processor time of an epoch: training, validation and checkpoints, from the second step on."""

    def __init__(self) -> None:
        self.start: float | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.start is None:
            self.start = time.process_time()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self.start is not None:
            tell(epoch=time.process_time() - self.start)


class Epochs(Callback):
    """Tells the median seconds by the clock of a training epoch but the first, without validation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finish_work(pl_module)
        self.start = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.start is not None:
            finish_work(pl_module)
            self.seconds.append(time.perf_counter() - self.start)
            self.start = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        tell(epoch=statistics.median(self.seconds[1:]))


class AccuracyClock(Callback):
    """Tells what it took to reach each validation's accuracy, and the test accuracy at the end.

    A point of `curve` is (processor time of training so far, that of the process since its start, accuracy).
    """

    def __init__(self) -> None:
        self.training = 0.0
        self.start: float | None = None
        self.curve: list[tuple[float, float, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.process_time()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.start is not None:
            self.training += time.process_time() - self.start

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.start is not None:
            accuracy = float(trainer.callback_metrics["val/accuracy"])
            self.curve.append((self.training, time.process_time(), accuracy))
            self.start = time.process_time()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        tell(curve=self.curve, test=float(trainer.callback_metrics["test/accuracy"]))
