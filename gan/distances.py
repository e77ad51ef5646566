"""How far apart two sets of samples are, by the distances between them, in pixels or in a judge's features.

After Q. Xu et al., "An Empirical Study on Evaluation Metrics of Generative Adversarial Networks", 2018, and
T. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

ROWS = 1000  # of a distance matrix that are in memory at a time: 40 MB of a set of 10,000


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
        """All real and all generated samples, (N, D) and (M, D), about the mean of the real ones.

        Distances do not change by that, but ||a||^2 + ||b||^2 - 2ab then keeps the digits of a float32.
        """
        if not self.real or not self.fake:
            raise ValueError(f"{type(self).__name__}: real and generated samples are needed; update() it with both")
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
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
        real, fake = self.sets()
        bandwidth = 2 * real.double().square().sum(1).mean().item()  # of centred samples, the mean of ||a - b||^2
        if bandwidth == 0:
            raise ValueError("KernelMMD: all real samples are the same, there is no bandwidth")

        def kernel_sum(pieces: Iterator[tuple[int, Tensor]]) -> Tensor:
            sums = [piece.mul_(-0.5 / bandwidth).exp_().sum(dtype=torch.double) for _, piece in pieces]
            return torch.stack(sums).sum()

        n, m = len(real), len(fake)
        real_sum, fake_sum = kernel_sum(own_distances(real)), kernel_sum(own_distances(fake))
        cross = kernel_sum(squared_distances(real, fake)) / (n * m)
        # these are without the pairs of a sample with itself, of which each is exp(0) = 1
        biased = (real_sum + n) / n**2 + (fake_sum + m) / m**2 - 2 * cross
        unbiased = real_sum / (n * (n - 1)) + fake_sum / (m * (m - 1)) - 2 * cross
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
        real, fake = self.sets()
        if len(real) != len(fake):
            raise ValueError(f"NearestNeighbour: {len(real)} real and {len(fake)} generated samples: take as many")
        real_to_real, fake_to_fake = (
            torch.cat([piece.amin(1) for _, piece in own_distances(samples)]) for samples in (real, fake)
        )
        real_to_fake, fake_to_real = torch.empty_like(real_to_real), torch.full_like(fake_to_fake, math.inf)
        for start, piece in squared_distances(real, fake):
            real_to_fake[start : start + len(piece)] = piece.amin(1)
            fake_to_real = torch.minimum(fake_to_real, piece.amin(0))
        of_real = (real_to_real <= real_to_fake).float().mean()
        of_fake = (fake_to_fake < fake_to_real).float().mean()
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

    def radii(self, samples: Tensor) -> Tensor:
        """The squared distance of each sample to its k-th nearest neighbour, (N,)."""
        if len(samples) <= self.neighbours:
            raise ValueError(f"PrecisionRecall: {len(samples)} samples: more than {self.neighbours} are needed")
        nearest = (piece.topk(self.neighbours, largest=False).values for _, piece in own_distances(samples))
        return torch.cat([values[:, -1] for values in nearest])

    def compute(self) -> dict[str, Tensor]:
        real, fake = self.sets()
        real_radii, fake_radii = self.radii(real), self.radii(fake)
        looks_real = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
        can_be_made = []
        for start, piece in squared_distances(real, fake):
            looks_real |= (piece <= real_radii[start : start + len(piece), None]).any(0)
            can_be_made.append((piece <= fake_radii).any(1))
        return {"precision": looks_real.float().mean(), "recall": torch.cat(can_be_made).float().mean()}
