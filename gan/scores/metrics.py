"""Scores of generated images by what a judge says of their classes, and by a density fitted to them."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gan.scores.distances import TwoSets, squared_distances


class ModeScore(Metric):
    """exp(E KL(p(y|x) || p(y)) - KL(p(y) || p*(y))), x generated, p* the mean of the judge's p(y|x) over real images.

    The first term is the Inception Score's; the second is 0 when the classes are as frequent as among real images. It
    is the form of Q. Xu et al. 2018. T. Che et al., "Mode Regularized Generative Adversarial Networks", 2017,
    print E KL(p(y|x) || p*(y)) for the first term, which makes the second one cancel: the Inception Score again.
    Neither splits the samples into groups. The best is the number of classes, the least is below 1.

    Args:
        num_classes: K, how many scores the judge gives an image.

    >>> metric = ModeScore(num_classes=2)
    >>> metric.update(torch.tensor([[99.0, 0.0], [0.0, 99.0]]), real=True)
    >>> metric.update(torch.tensor([[99.0, 0.0], [0.0, 99.0]]), real=False)
    >>> metric.compute()
    tensor(2.)
    """

    full_state_update = False
    real: Tensor
    fake: Tensor
    negative_entropy: Tensor
    count: Tensor

    def __init__(self, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("real", "fake"):  # the sums of p(y|x)
            self.add_state(name, torch.zeros(num_classes, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("negative_entropy", torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")

    def update(self, logits: Tensor, real: bool) -> None:
        """Adds the judge's logits (N, K) of real or of generated images."""
        logits = logits.detach().double()
        probabilities = logits.softmax(1)
        if real:
            self.real += probabilities.sum(0)
        else:
            self.fake += probabilities.sum(0)
            self.negative_entropy += (probabilities * logits.log_softmax(1)).sum()
            self.count += len(logits)

    def compute(self) -> Tensor:
        if self.count == 0 or self.real.sum() == 0:
            raise ValueError("ModeScore: real and generated samples are needed; update() it with both")
        fake, real = self.fake / self.fake.sum(), self.real / self.real.sum()
        mean_divergence = self.negative_entropy / self.count - torch.xlogy(fake, fake).sum()
        return (mean_divergence - F.kl_div(real.log(), fake, reduction="sum")).exp().float()


class ModesCovered(Metric):
    """Of the 1,000 triples of digits in Stacked MNIST, how many are generated, and KL(their frequencies || uniform).

    L. Metz et al., "Unrolled Generative Adversarial Networks", 2016, section 3.3.1; most papers count 26,000 samples.
    The judge's most probable digit of each channel counts, without a threshold. With `confidence` above 0 only images
    count of which each digit has at least that probability, and the names of both figures say so.

    Args:
        confidence: the least probability of a digit that counts, in [0, 1].

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
            raise ValueError(f"confidence={confidence}: a number from 0 to 1 is needed")
        self.confidence = confidence
        self.add_state("counts", torch.zeros(1000, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Adds the judge's logits of the three channels of each generated image, (N, 3, 10)."""
        confidence, digits = logits.detach().softmax(2).max(2)  # (N, 3)
        digits = digits[(confidence >= self.confidence).all(1)]
        self.counts += (digits @ digits.new_tensor([100, 10, 1])).bincount(minlength=1000)

    def compute(self) -> dict[str, Tensor]:
        suffix = f"_above_{self.confidence:g}" if self.confidence else ""
        frequencies = self.counts.double() / self.counts.sum()
        divergence = torch.xlogy(frequencies, frequencies * len(frequencies)).sum()
        return {f"modes{suffix}": (self.counts > 0).sum().float(), f"modes_kl{suffix}": divergence.float()}


class ParzenLogLikelihood(TwoSets):
    """The mean log-likelihood of real images under a Gaussian of width sigma around each generated one.

    The protocol of I. Goodfellow et al. 2014, section 5: sigma is the one of ten, evenly spaced in their logarithm from
    0.1 to 1, that makes validation images likeliest; pixels are in [0, 1]. The paper has 10,000 generated images, 1,000
    for validation and MNIST's test set: 225 +- 2, the error being the standard deviation of the mean. It is a poor
    measure of quality in so many dimensions, and here for comparison with the early papers alone.

    Args:
        validation: images (N, 1, 28, 28) in [-1, 1] to choose sigma by, none of which is measured later.
    """

    sigmas = tuple(torch.logspace(-1, 0, 10, dtype=torch.double).tolist())
    validation: Tensor

    def __init__(self, validation: Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("validation", validation.flatten(1).float(), persistent=False)

    def compute(self) -> dict[str, Tensor]:
        """`log_likelihood` in nats, its `standard_error` and the `sigma` that was chosen."""
        real, fake = self.sets()
        mean = dim_zero_cat(self.real).mean(0)
        by_sigma = log_densities(self.validation - mean, fake, self.sigmas).mean(0)
        sigma = self.sigmas[int(by_sigma.argmax())]
        densities = log_densities(real, fake, (sigma,))[:, 0]
        error = densities.std() / math.sqrt(len(densities))
        return {"log_likelihood": densities.mean(), "standard_error": error, "sigma": torch.tensor(sigma)}


def log_densities(images: Tensor, centres: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """The log-density of pixels in [0, 1] at images (N, D) for each sigma, (N, S); both sets have pixels in [-1, 1]."""
    pieces = []
    for _, piece in squared_distances(images, centres):
        squares = piece / 4  # (rows, M), of pixels in [0, 1]
        pieces.append(torch.stack([(squares / (-2 * sigma**2)).logsumexp(1) for sigma in sigmas], 1).double())
    scale = [math.log(len(centres)) + images.shape[1] / 2 * math.log(2 * math.pi * sigma**2) for sigma in sigmas]
    return torch.cat(pieces) - torch.tensor(scale, dtype=torch.double, device=images.device)
