"""How far apart two sets of features (N, F) and (M, F) of a scoring net are, as distributions: FID and KID."""

import torch
from torch import Tensor

from gan.scores.distances import as_double, require_finite, require_two, scoring_device


def frechet_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Frechet distance of two Gaussians fitted to the features, ||m - n||^2 + Tr(C + D - 2 (C D)^(1/2)).

    M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
    equation 6: the FID, in units of the scoring net's features. In float64.

    >>> frechet_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]]))
    tensor(9., dtype=torch.float64)
    """
    require_two(real, fake)
    require_finite(real=real, generated=fake)
    real, fake = as_double(real), as_double(fake)
    real_root, fake_root = matrix_root(covariance(real)), matrix_root(covariance(fake))
    trace_of_root = torch.linalg.svdvals(real_root @ fake_root).sum()  # Tr (C D)^(1/2)
    traces = real_root.square().sum() + fake_root.square().sum()
    return ((real.mean(0) - fake.mean(0)).square().sum() + traces - 2 * trace_of_root).clamp(min=0)


def frechet_distances(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """`fid`, the Frechet distance, and `fid_relative`, divided by the trace of the real features' covariance.

    The second has no unit: 1 is as far as the mean squared distance of a real image from the mean of all. It compares
    data sets, whose scoring nets have features of different scales.

    >>> frechet_distances(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]]))["fid_relative"]
    tensor(4.5000, dtype=torch.float64)
    """
    fid = frechet_distance(real, fake)
    return {"fid": fid, "fid_relative": fid / covariance(as_double(real)).trace()}


def covariance(features: Tensor) -> Tensor:
    """The unbiased covariance (F, F) of features (N, F)."""
    centered = features - features.mean(0)
    return centered.T @ centered / (len(features) - 1)


def matrix_root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric positive semi-definite matrix.

    >>> matrix_root(torch.tensor([[4.0, 0.0], [0.0, 9.0]]))
    tensor([[2., 0.],
            [0., 3.]])
    """
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def kernel_inception_distance(
    real: Tensor, fake: Tensor, subsets: int = 100, subset_size: int = 1000, generator: torch.Generator | None = None
) -> Tensor:
    """KID: the unbiased squared MMD with the kernel (a b / F + 1)^3, averaged over random subsets of both sets.

    M. Binkowski et al., "Demystifying MMD GANs", 2018, section 4. 100 subsets: with 10 the error that drawing them adds
    is three times larger.

    Args:
        real, fake: features (N, F) and (M, F).
        subsets: how many.
        subset_size: samples of each set in a subset, fewer where there are fewer.
        generator: draws the subsets; None: a new one with seed 0.

    >>> same = torch.eye(3).repeat(4, 1)
    >>> round(kernel_inception_distance(same, same).item(), 3)
    -0.166
    """
    require_two(real, fake)
    require_finite(real=real, generated=fake)
    real, fake = (part.to(scoring_device(part.device)) for part in (real, fake))
    generator = generator or torch.Generator().manual_seed(0)
    size = min(subset_size, len(real), len(fake))
    distances = real.new_empty(subsets)
    for subset in range(subsets):
        x, y = (part[torch.randperm(len(part), generator=generator)[:size].to(part.device)] for part in (real, fake))
        xx, yy, xy = ((a @ b.T / real.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = sum((k.sum(-1) - k.diagonal()).sum() for k in (xx, yy))
        distances[subset] = within / (size * (size - 1)) - 2 * xy.sum() / size**2
    return distances.mean()
