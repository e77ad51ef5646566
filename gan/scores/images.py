"""All scores of a set of generated images against a set of real ones, in a scoring net's features and in pixels."""

import torch
from torch import Tensor

from gan.scores.classes import inception_score, mode_score
from gan.scores.distances import PairwiseDistances, wasserstein_distance
from gan.scores.features import frechet_distances, kernel_inception_distance
from gan.scores.parzen import best_sigma, mean_log_likelihood
from gan.scores.progress import Report, silent
from gan.scores.scoring_net import ScoringNet

WASSERSTEIN_COUNT = 2000  # images of each set that the exact distance is computed for


def image_scores(
    net: ScoringNet,
    real: Tensor,
    fake: Tensor,
    validation: Tensor | None = None,
    pixels: bool = True,
    report: Report = silent,
) -> dict[str, float]:
    """The scores of generated images (M, 1, 28, 28) against real ones (N, 1, 28, 28), both in [-1, 1], by name.

    `fid`, `fid_relative`, `kid`, `inception_score` and `mode_score`, and `mmd`, `wasserstein_2000` (its name says of
    how many images of each set), `nearest_neighbour_accuracy`, `precision` and `recall` are computed from the scoring
    net's features; those that begin with `pixel_` from pixels. With validation images also Parzen's log-likelihood.
    `pixels=False` leaves out both, which take more than half of the time.

    Raises:
        ValueError: images are not finite.
    """
    report("features")
    real_features, fake_features = net.features_of_all(real), net.features_of_all(fake)
    scores = class_scores(net.logits(real_features), net.logits(fake_features))
    scores |= feature_scores(real_features, fake_features)
    report("distances between features")
    scores |= distance_scores(real_features, fake_features)
    if not pixels:
        return scores
    report("distances between pixels")
    if validation is None:
        return scores | pixel_scores(real, fake, PairwiseDistances(real, fake))
    sigma = best_sigma(validation, fake)
    distances = PairwiseDistances(real, fake, sigma=2 * sigma)  # sigma is of pixels in [0, 1]
    parzen = mean_log_likelihood(distances.log_densities, sigma, len(fake), real[0].numel())
    scores |= pixel_scores(real, fake, distances)
    return scores | {f"parzen_{name}": value.item() for name, value in parzen.items()}


def pixel_scores(real: Tensor, fake: Tensor, distances: PairwiseDistances) -> dict[str, float]:
    """`distance_scores` of images, from the distances between their pixels."""
    return {f"pixel_{name}": value for name, value in distance_scores(real, fake, distances).items()}


def class_scores(real_logits: Tensor, fake_logits: Tensor) -> dict[str, float]:
    """Inception Score, of all images at once, and Mode Score."""
    return {
        "inception_score": inception_score(fake_logits).item(),
        "mode_score": mode_score(real_logits, fake_logits).item(),
    }


def feature_scores(real: Tensor, fake: Tensor) -> dict[str, float]:
    """FID, FID relative to the trace of the real features' covariance, and KID."""
    generator = torch.Generator().manual_seed(0)
    torch.randperm(len(fake), generator=generator)  # so that KID's subsets are those of all published scores
    kid = kernel_inception_distance(real, fake, generator=generator)
    return {name: value.item() for name, value in {**frechet_distances(real, fake), "kid": kid}.items()}


def distance_scores(real: Tensor, fake: Tensor, distances: PairwiseDistances | None = None) -> dict[str, float]:
    """The scores of `gan.scores.distances`; the Wasserstein distance is of as many images as its name says.

    Args:
        real, fake: samples (N, ...) of each set.
        distances: between them, where they are known.
    """
    # drawn at random: of images that are made in turn for each class, every fifth would be of two classes of ten
    subset = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:WASSERSTEIN_COUNT].to(real.device)
    distances = distances or PairwiseDistances(real, fake)
    wasserstein = wasserstein_distance(real[subset], fake[subset])
    scores = {f"wasserstein_{len(subset)}": wasserstein, **distances.scores()}
    return {name: value.item() for name, value in scores.items()}


def subsample(images: Tensor, count: int) -> Tensor:
    """`count` images at even intervals, or all where there are fewer: of a sorted set, some of each class.

    >>> subsample(torch.arange(10), 4)
    tensor([0, 2, 5, 7])
    """
    count = min(count, len(images))
    return images[torch.arange(count) * len(images) // count]
