"""A moving average of the generator's weights.

Y. Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", 2019.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

CALIBRATION_BATCHES, CALIBRATION_BATCH = 10, 500


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


class AveragedGenerator(AveragedModel):
    """An exponential moving average of a generator's weights, with batch statistics of its own.

    Args:
        generator: the net whose weights are averaged by `update_parameters`.
        decay: weight of the old average at each update, in [0, 1]; smaller in the first updates, see `WarmUpAverage`.
    """

    def __init__(self, generator: nn.Module, decay: float) -> None:
        super().__init__(generator, multi_avg_fn=WarmUpAverage(decay))
        self.requires_grad_(False)
        self.calibrated = (-1, 0)  # after how many updates the batch statistics were computed, from how many batches
        self.register_load_state_dict_post_hook(_forget_calibration)

    def recalibrate_batch_norm(self, latents: Callable[[int], Tensor], batches: int = CALIBRATION_BATCHES) -> None:
        """Computes the statistics of batch normalization for the averaged weights, once per average.

        The copied ones belong to the last weights (P. Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018,
        section 3.2). The random state is left as it was.

        Args:
            latents: draws that many latents.
            batches: of 500 latents that the statistics come from, at least.
        """
        updates = int(self.n_averaged)
        if self.calibrated[0] == updates and self.calibrated[1] >= batches:
            return
        with isolate_rng():
            torch.manual_seed(0)
            # a conditional net takes the classes in turn
            update_bn((latents(CALIBRATION_BATCH) for _ in range(batches)), self)
        self.calibrated = updates, batches


def _forget_calibration(model: AveragedGenerator, _: Any) -> None:
    """The loaded weights may have come without their statistics."""
    model.calibrated = -1, 0
