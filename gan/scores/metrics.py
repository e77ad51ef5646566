"""The scores as torchmetrics: they gather two sets, batch by batch and over processes, and compute a score of both."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gan.scores import classes, distances, features, parzen


class TwoSampleMetric(Metric):
    """Gathers real and generated samples, or features or logits of them; a subclass says what is computed of both.

    Raises:
        ValueError: on `compute`, where one set is missing or not finite.
    """

    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, samples: Tensor, real: bool) -> None:
        """Adds samples of any shape (N, ...) to one of the sets."""
        (self.real if real else self.fake).append(samples.detach().flatten(1))

    def compute(self) -> Any:
        if not self.real or not self.fake:
            raise ValueError(f"{type(self).__name__} must be updated with real and with generated samples")
        return self.score(dim_zero_cat(self.real), dim_zero_cat(self.fake))

    def score(self, real: Tensor, fake: Tensor) -> Any:
        raise NotImplementedError


class KernelMMD(TwoSampleMetric):
    """See `gan.scores.distances.kernel_mmd`."""

    def score(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return distances.kernel_mmd(real, fake)


class NearestNeighbourAccuracy(TwoSampleMetric):
    """See `gan.scores.distances.nearest_neighbour_accuracy`."""

    def score(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return distances.nearest_neighbour_accuracy(real, fake)


class PrecisionRecall(TwoSampleMetric):
    """See `gan.scores.distances.precision_recall`.

    Args:
        neighbours: k, 3 in the paper.
    """

    def __init__(self, neighbours: int = distances.NEIGHBOURS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if neighbours < 1:
            raise ValueError(f"neighbours must be a positive integer, got {neighbours}")
        self.neighbours = neighbours

    def score(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return distances.precision_recall(real, fake, self.neighbours)


class WassersteinDistance(TwoSampleMetric):
    """See `gan.scores.distances.wasserstein_distance`."""

    def score(self, real: Tensor, fake: Tensor) -> Tensor:
        return distances.wasserstein_distance(real, fake)


class FrechetDistance(TwoSampleMetric):
    """Of features, see `gan.scores.features.frechet_distance`."""

    def score(self, real: Tensor, fake: Tensor) -> Tensor:
        return features.frechet_distance(real, fake)


class KernelInceptionDistance(TwoSampleMetric):
    """Of features, see `gan.scores.features.kernel_inception_distance`."""

    def score(self, real: Tensor, fake: Tensor) -> Tensor:
        return features.kernel_inception_distance(real, fake)


class ModeScore(TwoSampleMetric):
    """Of logits, see `gan.scores.classes.mode_score`."""

    def score(self, real: Tensor, fake: Tensor) -> Tensor:
        return classes.mode_score(real, fake)


class ParzenLogLikelihood(TwoSampleMetric):
    """Of images in [-1, 1], see `gan.scores.parzen.parzen_log_likelihood`.

    Args:
        validation: other real images (V, ...) in [-1, 1], to choose sigma by.
    """

    validation: Tensor

    def __init__(self, validation: Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("validation", validation, persistent=False)

    def score(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return parzen.parzen_log_likelihood(real, fake, self.validation)


class ModesCovered(Metric):
    """How many of the 1,000 triples of digits in Stacked MNIST are generated; most papers count 26,000 samples.

    See `gan.scores.classes.mode_coverage`. Without `confidence` the most probable digit of each channel counts; with it
    only images count of which each digit has at least that probability, and the names of both scores say so.

    Args:
        confidence: smallest probability of a digit that counts, in [0, 1].

    >>> metric = ModesCovered()
    >>> metric.update(torch.eye(10)[:2].unsqueeze(1).expand(-1, 3, -1))  # 000 and 111
    >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
    {'modes': 2.0, 'modes_kl': 6.215}
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, confidence: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= confidence <= 1:
            raise ValueError(f"confidence must be in [0, 1], got {confidence}")
        self.confidence = confidence
        self.add_state("counts", torch.zeros(1000, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Adds the logits of the three channels of each generated image, (N, 3, 10)."""
        self.counts += classes.count_triples(logits.detach(), self.confidence)

    def compute(self) -> dict[str, Tensor]:
        suffix = f"_above_{self.confidence:g}" if self.confidence else ""
        return {f"{name}{suffix}": value for name, value in classes.mode_coverage(self.counts).items()}
