"""The callback that times `python run.py` from inside, for the benchmarks."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from benchmarks.measure import tell


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
