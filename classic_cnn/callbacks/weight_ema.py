"""A moving average of the weights, which generalizes better than the last ones: Polyak & Juditsky 1992."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from datamodules.contract import CheckedArguments, Share


class WarmUpAverage:
    """Averages with decay min(d, (1 + n) / (10 + n)) after n updates.

    Without the warm-up, as of `tf.train.ExponentialMovingAverage`, the first weights, which are random, would stay in
    the average for about 1 / (1 - d) updates.

    >>> average = [torch.zeros(1)]
    >>> for updates in (1, 2):
    ...     WarmUpAverage(0.999)(average, [torch.ones(1)], torch.tensor(updates))
    >>> average  # 1 - 2/11 * 3/12
    [tensor([0.9545])]
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        count = torch.as_tensor(updates, dtype=torch.float32)
        share = 1 - ((1 + count) / (10 + count)).clamp(max=self.decay)  # on the device, so that nothing waits
        for average, weight in zip(averages, weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight, share.to(average))
            else:  # counts and indices
                average.copy_(weight)


class WeightEMA(CheckedArguments, WeightAveraging):
    """Exponential moving average of weights and BatchNorm statistics, which validation and checkpoints use.

    A checkpoint also contains the weights in training, so that a run resumes exactly. This is Lightning's callback with
    corrections: the average follows the net to a GPU; after the fit it does not replace the weights of a checkpoint
    that is loaded to be measured; integers (counts, indices) are copied instead of averaged; the average warms up.

    Args:
        decay: weight of the average so far in each step's new one: it spans about 1 / (1 - decay) steps; smaller in the
            first steps, see `WarmUpAverage`.

    >>> WeightEMA(decay=0.99).arguments
    {'decay': 0.99}
    """

    def __init__(self, decay: Share = 0.999) -> None:
        super().__init__(multi_avg_fn=WarmUpAverage(decay))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average_model is not None:  # a fit that goes on, not a checkpoint that is measured
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._average_model = None
