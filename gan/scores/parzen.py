"""Log-likelihood of real images under a density that is fitted to generated ones."""

import math

import torch
from torch import Tensor

from gan.scores.distances import center, require_finite, squared_distances

SIGMAS = tuple(torch.logspace(-1, 0, 10, dtype=torch.double).tolist())


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
    require_finite(validation=validation)
    mean = real.flatten(1).float().mean(0)
    real, fake = center(real, fake)
    means = log_densities((validation.flatten(1).float() - mean).to(fake.device), fake, SIGMAS).mean(0)
    sigma = SIGMAS[int(means.argmax())]
    densities = log_densities(real, fake, (sigma,))[:, 0]
    error = densities.std() / math.sqrt(len(densities))
    return {"log_likelihood": densities.mean(), "standard_error": error, "sigma": torch.tensor(sigma)}


def log_densities(images: Tensor, centers: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """The log-density of pixels in [0, 1] at images (N, D) for each sigma, (N, S); both sets have pixels in [-1, 1]."""
    chunks = []
    for _, chunk in squared_distances(images, centers):
        squares = chunk / 4  # (rows, M), of pixels in [0, 1]
        chunks.append(torch.stack([(squares / (-2 * sigma**2)).logsumexp(1) for sigma in sigmas], 1).double())
    scale = [math.log(len(centers)) + images.shape[1] / 2 * math.log(2 * math.pi * sigma**2) for sigma in sigmas]
    return torch.cat(chunks) - torch.tensor(scale, dtype=torch.double, device=images.device)
