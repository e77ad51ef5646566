"""The scores as a metric of torchmetrics, which gathers two sets, batch by batch and over processes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class TwoSampleMetric(Metric):
    """Gathers real and generated samples, or features or logits of them, and computes a score of both.

    Args:
        score: a function of real samples (N, D) and generated ones (M, D): `kernel_mmd`, `nearest_neighbour_accuracy`,
            `precision_recall` or `wasserstein_distance` of `gan.scores.distances`; of features `frechet_distance` or
            `kernel_inception_distance` of `gan.scores.features`; of logits `gan.scores.classes.mode_score`.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: on `compute`, where one set is missing or not finite.

    >>> import torch
    >>> from gan.scores.distances import wasserstein_distance
    >>> metric = TwoSampleMetric(wasserstein_distance)
    >>> metric.update(torch.tensor([[0.0], [1.0]]), real=True)
    >>> metric.update(torch.tensor([[3.0], [4.0]]), real=False)
    >>> metric.compute()
    tensor(3.)
    """

    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, score: Callable[[Tensor, Tensor], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score = score
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, samples: Tensor, real: bool) -> None:
        """Adds samples of any shape (N, ...) to one of the sets."""
        (self.real if real else self.fake).append(samples.detach().flatten(1))

    def compute(self) -> Any:
        if not self.real or not self.fake:
            raise ValueError("a metric of two sets must be updated with real and with generated samples")
        return self.score(dim_zero_cat(self.real), dim_zero_cat(self.fake))
