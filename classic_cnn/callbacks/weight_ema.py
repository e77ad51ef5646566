"""A moving average of the weights, which generalizes better than the last ones: Polyak & Juditsky 1992."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightEMA(WeightAveraging):
    """Exponential moving average of weights and BatchNorm statistics; validation and checkpoints take it for the net.

    A checkpoint keeps the weights in training beside it, so that a run resumes exactly. Lightning's callback but for
    three things: its average stays on the CPU when the net goes to a GPU; after the fit it puts the weights in training
    or the last average in the place of the checkpoint that is to be measured; whole numbers come out rounded down.

    Args:
        decay: weight of the average so far in each step's new one: it spans about 1 / (1 - decay) steps.

    Raises:
        ValueError: `decay` is not in [0, 1].
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"callbacks.ema.decay={decay}: a number from 0 to 1 is needed")
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
