"""Log-likelihood of real images under a density that is fitted to generated ones."""

import math

import torch
from torch import Tensor

from gan.scores.distances import center, require_finite, squared_distances

SIGMAS = tuple(torch.logspace(-1, 0, 10, dtype=torch.double).tolist())  # of pixels in [0, 1]


def parzen_log_likelihood(real: Tensor, fake: Tensor, validation: Tensor) -> dict[str, Tensor]:
    """The mean log-likelihood of real images under a Gaussian of width sigma around each generated one.

    The protocol of I. Goodfellow et al. 2014, section 5: sigma is the one of ten, evenly spaced in their logarithm from
    0.1 to 1, under which validation images are most likely; pixels are in [0, 1]. The paper has 10,000 generated
    images, 1,000 for validation and MNIST's test set: 225 +- 2, the error being the standard deviation of the mean. It
    is a poor measure of quality in so many dimensions, and only here for comparison with the early papers.

    Args:
        real, fake: images (N, ...) and (M, ...) in [-1, 1].
        validation: other real images (V, ...) in [-1, 1], to choose sigma by.

    Returns:
        `log_likelihood` in nats, its `standard_error` and the chosen `sigma`.
    """
    sigma = best_sigma(validation, fake)
    real, fake = center(real, fake)
    sums = log_density_sums(real, fake, (sigma,))[:, 0]
    return mean_log_likelihood(sums, sigma, len(fake), real.shape[1])


def best_sigma(validation: Tensor, fake: Tensor) -> float:
    """The one of `SIGMAS` under which validation images are most likely, all in [-1, 1]."""
    require_finite(validation=validation)
    validation, fake = center(validation, fake)
    scales = validation.shape[1] * torch.tensor(SIGMAS, dtype=torch.double, device=fake.device).log()
    means = log_density_sums(validation, fake, SIGMAS).double().mean(0) - scales
    return SIGMAS[int(means.argmax())]


def log_density_sums(images: Tensor, centers: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """The log-density of pixels in [0, 1] but for a constant, for each sigma, (N, S).

    Both sets have pixels in [-1, 1].
    """
    sums = images.new_empty(len(images), len(sigmas))
    for start, squares in squared_distances(images, centers):  # (rows, M), 4 times those of pixels in [0, 1]
        for column, sigma in enumerate(sigmas):
            sums[start : start + len(squares), column] = (squares / (-8 * sigma**2)).logsumexp(1)
    return sums


def mean_log_likelihood(sums: Tensor, sigma: float, centers: int, pixels: int) -> dict[str, Tensor]:
    """What `parzen_log_likelihood` returns, from the `log_density_sums` (N,) of real images."""
    scale = math.log(centers) + pixels / 2 * math.log(2 * math.pi * sigma**2)
    densities = sums.double() - scale
    error = densities.std() / math.sqrt(len(densities))
    return {"log_likelihood": densities.mean(), "standard_error": error, "sigma": torch.tensor(sigma)}
