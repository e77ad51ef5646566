"""A moving average of the weights, which generalizes better than the last ones: Polyak & Juditsky 1992."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from datamodules.contract import CheckedArguments, Share
from gan.averaged_generator import WarmUpAverage


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
