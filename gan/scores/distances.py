"""How far apart two sets of samples are, by the distances between them, in pixels or in a judge's features.

After Q. Xu et al., "An Empirical Study on Evaluation Metrics of Generative Adversarial Networks", 2018, and
T. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

ROWS = 250  # of a distance matrix that are in memory at a time: 10 MB of a set of 10,000, which a cache can hold


class TwoSets(Metric):
    """Gathers real and generated samples, (N, ...) each, as rows of numbers."""

    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, samples: Tensor, real: bool) -> None:
        """Adds samples: images or features of them, of any shape (N, ...)."""
        (self.real if real else self.fake).append(samples.detach().flatten(1).float())

    def sets(self) -> tuple[Tensor, Tensor]:
        """All real and all generated samples, `centred`."""
        if not self.real or not self.fake:
            raise ValueError(f"{type(self).__name__}: real and generated samples are needed; update() it with both")
        return centred(dim_zero_cat(self.real), dim_zero_cat(self.fake))


def centred(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of samples, (N, D) and (M, D), about the mean of the real ones.

    Distances do not change by that, but ||a||^2 + ||b||^2 - 2ab then keeps the digits of a float32.
    """
    mean = real.mean(0)
    return real - mean, fake - mean


def squared_distances(first: Tensor, second: Tensor, rows: int = ROWS) -> Iterator[tuple[int, Tensor]]:
    """Squared Euclidean distances, (N, D) x (M, D) -> (N, M), in pieces: (number of the first row, piece).

    >>> [(start, piece.tolist()) for start, piece in squared_distances(torch.eye(2), torch.zeros(1, 2), rows=1)]
    [(0, [[1.0]]), (1, [[1.0]])]
    """
    norms = second.square().sum(1)
    for start in range(0, len(first), rows):
        part = first[start : start + rows]
        products = torch.addmm(norms, part, second.T, alpha=-2)
        yield start, products.add_(part.square().sum(1, keepdim=True)).clamp_(min=0)


def own_distances(samples: Tensor, rows: int = ROWS) -> Iterator[tuple[int, Tensor]]:
    """`squared_distances` of a set to itself, each sample's to itself infinite."""
    for start, piece in squared_distances(samples, samples, rows):
        piece.diagonal(start).fill_(math.inf)
        yield start, piece


class Within(NamedTuple):
    """What is kept of the squared distances within a set of N samples."""

    kernel_sum: Tensor  # of the kernel of `KernelMMD`, over all pairs of different samples
    nearest: Tensor  # (N, k) of each sample to its k nearest others, in ascending order


class Distances:
    """What is kept of the squared distances within and between N real and M generated samples.

    The three matrices are gone through once, in pieces, for all the metrics that can be had `of` them: for 10,000
    samples a matrix takes as long as all that is read off it.

    Args:
        real, fake: (N, D) and (M, D), `centred`.
        neighbours: k, how many nearest samples of its own set make a sample's neighbourhood for `PrecisionRecall`.
    """

    def __init__(self, real: Tensor, fake: Tensor, neighbours: int = 3) -> None:
        self.bandwidth = 2 * real.double().square().sum(1).mean()  # of centred samples, the mean of ||a - b||^2
        self.real, self.fake = self.within(real, neighbours), self.within(fake, neighbours)
        real_radii, fake_radii = self.real.nearest[:, -1], self.fake.nearest[:, -1]
        kernel_sums, real_to_fake, can_be_made = [], [], []
        self.fake_to_real = torch.full_like(fake_radii, math.inf)  # (M,) the least
        self.looks_real = torch.zeros_like(fake_radii, dtype=torch.bool)  # (M,) within the radius of some real sample
        for start, piece in squared_distances(real, fake):
            real_to_fake.append(piece.amin(1))
            self.fake_to_real = torch.minimum(self.fake_to_real, piece.amin(0))
            self.looks_real |= (piece <= real_radii[start : start + len(piece), None]).any(0)
            can_be_made.append((piece <= fake_radii).any(1))
            kernel_sums.append(self.kernel_sum(piece))
        self.real_to_fake = torch.cat(real_to_fake)  # (N,) the least
        self.can_be_made = torch.cat(can_be_made)  # (N,) within the radius of some generated sample
        self.between_sum = torch.stack(kernel_sums).sum()  # of the kernel

    def within(self, samples: Tensor, neighbours: int) -> Within:
        nearest, kernel_sums = [], []
        for _, piece in own_distances(samples):
            nearest.append(piece.topk(min(neighbours, len(samples)), largest=False).values)
            kernel_sums.append(self.kernel_sum(piece))
        return Within(torch.stack(kernel_sums).sum(), torch.cat(nearest))

    def kernel_sum(self, piece: Tensor) -> Tensor:
        """The sum of exp(-d^2 / (2 s)) over a piece, whose memory it takes."""
        return piece.mul_(-0.5 / self.bandwidth).exp_().sum(dtype=torch.double)


class KernelMMD(TwoSets):
    """Maximum mean discrepancy with a Gaussian kernel, k(a, b) = exp(-||a - b||^2 / (2 s)).

    A. Gretton et al., "A Kernel Two-Sample Test", 2012, equations 5 and 3. The bandwidth s is the mean squared distance
    between two real samples, each with itself included. `mmd` is the square root of the biased estimate, which is
    above 0 even for two sets of one distribution; `mmd_squared_unbiased` is the unbiased one of its square, about 0
    there and below 0 as often as above.

    >>> metric = KernelMMD()
    >>> metric.update(torch.tensor([[0.0], [2.0]]), real=True)
    >>> metric.update(torch.tensor([[0.0], [2.0]]), real=False)
    >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
    {'mmd': 0.0, 'mmd_squared_unbiased': -0.6321}
    """

    def compute(self) -> dict[str, Tensor]:
        return self.of(Distances(*self.sets()))

    def of(self, distances: Distances) -> dict[str, Tensor]:
        if distances.bandwidth == 0:
            raise ValueError("KernelMMD: all real samples are the same, there is no bandwidth")
        real, fake = distances.real.kernel_sum, distances.fake.kernel_sum
        n, m = len(distances.real_to_fake), len(distances.fake_to_real)
        between = distances.between_sum / (n * m)
        # the sums are without the pairs of a sample with itself, of which each is exp(0) = 1
        biased = (real + n) / n**2 + (fake + m) / m**2 - 2 * between
        unbiased = real / (n * (n - 1)) + fake / (m * (m - 1)) - 2 * between
        return {"mmd": biased.clamp(min=0).sqrt().float(), "mmd_squared_unbiased": unbiased.float()}


class Wasserstein(TwoSets):
    """The exact 1-Wasserstein (earth mover's) distance between two sets, with the Euclidean distance as the cost.

    A linear program over all pairs (`ot.emd2` of POT): seconds for 2,000 samples a side, hopeless for 10,000. It falls
    with the number of samples, so that only figures of the same number compare.

    >>> metric = Wasserstein()
    >>> metric.update(torch.tensor([[0.0], [1.0]]), real=True)
    >>> metric.update(torch.tensor([[3.0], [4.0]]), real=False)
    >>> metric.compute()
    tensor(3.)
    """

    def compute(self) -> Tensor:
        import ot  # seconds to import, as it brings scikit-learn

        real, fake = self.sets()
        cost = torch.cat([piece.sqrt() for _, piece in squared_distances(real, fake)]).double().cpu().numpy()
        return torch.tensor(float(ot.emd2([], [], cost, numItermax=10_000_000)))


class NearestNeighbour(TwoSets):
    """Leave-one-out accuracy of a classifier that takes the nearest other sample for its answer: real or generated?

    D. Lopez-Paz, M. Oquab, "Revisiting Classifier Two-Sample Tests", 2017. 0.5 is ideal: nobody can tell them apart. 1
    is the worst; below 0.5 the generated ones lie on the real ones: learned by heart, 0 where each is a copy. `real`
    and `fake` are the accuracies on either set. A tie counts as real.

    Raises:
        ValueError: the sets differ in size, which would favour the larger one.

    >>> metric = NearestNeighbour()
    >>> metric.update(torch.tensor([[0.0], [1.0]]), real=True)
    >>> metric.update(torch.tensor([[5.0], [0.2]]), real=False)
    >>> {name: value.item() for name, value in metric.compute().items()}
    {'total': 0.0, 'real': 0.0, 'fake': 0.0}
    """

    def compute(self) -> dict[str, Tensor]:
        return self.of(Distances(*self.sets()))

    def of(self, distances: Distances) -> dict[str, Tensor]:
        real, fake = len(distances.real_to_fake), len(distances.fake_to_real)
        if real != fake:
            raise ValueError(f"NearestNeighbour: {real} real and {fake} generated samples: take as many")
        of_real = (distances.real.nearest[:, 0] <= distances.real_to_fake).float().mean()
        of_fake = (distances.fake.nearest[:, 0] < distances.fake_to_real).float().mean()
        return {"total": (of_real + of_fake) / 2, "real": of_real, "fake": of_fake}


class PrecisionRecall(TwoSets):
    """Share of generated samples that look real, and of real ones that the generator can make.

    T. Kynkäänniemi et al. 2019, equations 1 and 2: a sample belongs to a set's manifold when it is no farther from some
    sample of the set than that one's k-th nearest neighbour in it.

    Args:
        neighbours: k, 3 in the paper.

    Raises:
        ValueError: `neighbours` is below 1, or a set has no more than `neighbours` samples.

    >>> metric = PrecisionRecall(neighbours=1)
    >>> metric.update(torch.tensor([[0.0], [1.0]]), real=True)
    >>> metric.update(torch.tensor([[0.5], [9.0]]), real=False)
    >>> {name: value.item() for name, value in metric.compute().items()}
    {'precision': 0.5, 'recall': 1.0}
    """

    def __init__(self, neighbours: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if neighbours < 1:
            raise ValueError(f"neighbours={neighbours}: a whole number above 0 is needed")
        self.neighbours = neighbours

    def compute(self) -> dict[str, Tensor]:
        return self.of(Distances(*self.sets(), self.neighbours))

    def of(self, distances: Distances) -> dict[str, Tensor]:
        """Of distances that were taken with as many neighbours."""
        fewer = min(len(distances.can_be_made), len(distances.looks_real))
        if fewer <= self.neighbours:
            raise ValueError(f"PrecisionRecall: {fewer} samples: more than {self.neighbours} are needed")
        return {"precision": distances.looks_real.float().mean(), "recall": distances.can_be_made.float().mean()}
