"""What a net is given in a fit, batch by batch."""

from collections.abc import Callable
from typing import Any

import torch
from conftest import small_run
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.images import ImageData


class Batches(Callback):
    """The batches that a net is given, epoch by epoch, and those of the validations."""

    def __init__(self) -> None:
        self.train: list[list[tuple[Tensor, Tensor]]] = []
        self.val: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train.append([])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.train[-1].append(batch)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        self.val.append(batch)

    def images(self, epoch: int) -> Tensor:
        return torch.cat([images for images, _ in self.train[epoch]])

    def labels(self, epoch: int) -> Tensor:
        return torch.cat([labels for _, labels in self.train[epoch]])


def seen_in_a_fit(
    *overrides: str, change: Callable[[ImageData], None] = lambda data: None
) -> tuple[ImageData, Batches]:
    model, data, trainer = small_run("~callbacks.plots", "trainer.max_epochs=2", *overrides)
    change(data)
    batches = Batches()
    trainer.callbacks.append(batches)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    return data, batches
