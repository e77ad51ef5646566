"""GANs in small runs, and the nets and numbers that their losses are checked by."""

from pathlib import Path
from typing import Any

import numpy as np
from conftest import models_of, quick, small_run
from lightning import Callback, Trainer
from torch import Tensor, nn

from datamodules.images import ImageData
from gan.adversarial import GAN

GANS = models_of(GAN)


def gan_run(name: str, *overrides: str, folder: Path | None = None) -> tuple[GAN, ImageData, Trainer]:
    """Three batches an epoch, a step of each narrow net at each, everything logged, nothing drawn."""
    small = (*quick(name), "trainer.log_every_n_steps=1", "~callbacks.plots")
    model, data, trainer = small_run(f"model={name}", *small, *overrides, folder=folder)
    assert isinstance(model, GAN)
    return model, data, trainer


class Times(nn.Module):
    """Takes the logits of a new net, which are all about 0, to where the losses are curved."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return self.factor * logits


def softplus(logits: Tensor) -> np.ndarray:
    """log(1 + exp(x)): -log D where x is minus D's logit, -log(1 - D) where x is its logit."""
    return np.logaddexp(0.0, logits.double().numpy())


class SaveAt(Callback):
    """Writes a checkpoint after a given number of batches, as a run that is stopped does."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batches:
            trainer.save_checkpoint("stopped.ckpt")
