"""A moving average of the weights, which generalizes better than the last ones: Polyak & Juditsky 1992."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from datamodules.contract import CheckedArguments, Share


class WeightEMA(CheckedArguments, WeightAveraging):
    """Exponential moving average of weights and BatchNorm statistics, which validation and checkpoints use.

    A checkpoint also contains the weights in training, so that a run resumes exactly. This is Lightning's callback with
    three corrections: the average follows the net to a GPU; after the fit it does not replace the weights of a
    checkpoint that is loaded to be measured; integers (counts, indices) are copied instead of averaged.

    Args:
        decay: weight of the average so far in each step's new one: it spans about 1 / (1 - decay) steps.

    >>> WeightEMA(decay=0.99).arguments
    {'decay': 0.99}
    """

    def __init__(self, decay: Share = 0.999) -> None:
        average_floats = get_ema_multi_avg_fn(decay)

        def average(averages: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
            if averages[0].is_floating_point():
                average_floats(averages, current, updates)
            else:  # counts and indices
                for old, new in zip(averages, current, strict=True):
                    old.copy_(new)

        super().__init__(multi_avg_fn=average)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average_model is not None:  # a fit that goes on, not a checkpoint that is measured
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._average_model = None
