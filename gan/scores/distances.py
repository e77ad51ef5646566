"""How far apart two sets of samples are, from the distances between them, in pixels or in a scoring net's features.

After Q. Xu et al., "An Empirical Study on Evaluation Metrics of Generative Adversarial Networks", 2018, and
T. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 3  # k of precision and recall, as their authors have it
TIE = 1e-6  # of the mean squared distance: by how much rounding can make equal ones differ
ROWS = 1000  # of a distance matrix in memory at a time: 40 MB of a set of 10,000; fewer make the products slower


def scoring_device(device: torch.device) -> torch.device:
    """Where scores are computed for tensors on a device: the CPU for MPS, which has no float64.

    >>> scoring_device(torch.device("mps")), scoring_device(torch.device("cuda", 1))
    (device(type='cpu'), device(type='cuda', index=1))
    """
    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def full_precision() -> Iterator[None]:
    """All digits of a float32 in products and convolutions, which a GPU may be told to round to ten bits (TF32).

    A copy of an image would lie at some distance from it, and be nearest to another.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def as_double(values: Tensor) -> Tensor:
    """The values in float64, on the `scoring_device`."""
    return values.to(scoring_device(values.device)).double()


def require_finite(**sets: Tensor) -> None:
    """Checks sets of samples (N, ...).

    >>> require_finite(generated=torch.tensor([[1.0], [float("nan")]]))
    Traceback (most recent call last):
    ValueError: generated samples must be finite, got 1 of 2 that are not

    Raises:
        ValueError: a set is empty, or has samples that are not finite; names the set.
    """
    for name, samples in sets.items():
        if not len(samples):
            raise ValueError(f"there are no {name} samples")
        count = int((~samples.flatten(1).isfinite().all(1)).sum())
        if count:
            raise ValueError(f"{name} samples must be finite, got {count} of {len(samples)} that are not")


def require_two(real: Tensor, fake: Tensor) -> None:
    """Checks two sets of samples (N, ...) and (M, ...).

    Raises:
        ValueError: one has fewer than two samples, of which there is no variance.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"both sets must have two samples or more, got {len(real)} real and {len(fake)} generated")


def center(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of samples, (N, ...) and (M, ...), as rows (N, D) and (M, D) minus the mean of the real ones.

    Distances do not change by that, but ||a||^2 + ||b||^2 - 2ab then keeps the digits of a float32.

    Raises:
        ValueError: a set is empty or not finite.
    """
    require_finite(real=real, generated=fake)
    if real[0].numel() != fake[0].numel():
        shapes = f"{tuple(real.shape[1:])} and {tuple(fake.shape[1:])}"
        raise ValueError(f"samples of both sets must have the same shape, got {shapes}")
    real, fake = (part.to(scoring_device(part.device)).flatten(1).float() for part in (real, fake))
    mean = real.mean(0)
    return real - mean, fake - mean


def squared_distances(first: Tensor, second: Tensor, rows: int = ROWS) -> Iterator[tuple[int, Tensor]]:
    """Squared Euclidean distances, (N, D) x (M, D) -> (N, M), in chunks: (index of the first row, chunk).

    >>> [(start, chunk.tolist()) for start, chunk in squared_distances(torch.eye(2), torch.zeros(1, 2), rows=1)]
    [(0, [[1.0]]), (1, [[1.0]])]
    """
    norms = second.square().sum(1)
    for start in range(0, len(first), rows):
        part = first[start : start + rows]
        products = torch.addmm(norms, part, second.T, alpha=-2)
        yield start, products.add_(part.square().sum(1, keepdim=True)).clamp_(min=0)


def squared_distances_within(samples: Tensor, rows: int = ROWS) -> Iterator[tuple[int, Tensor]]:
    """Squared distances within a set (N, D), each pair once, in chunks: (index of the first row, chunk).

    A chunk (R, N - start) has the distances of R samples to themselves, where they are infinite, to each other and to
    all later samples.

    >>> [(start, chunk.tolist()) for start, chunk in squared_distances_within(torch.eye(2), rows=1)]
    [(0, [[inf, 2.0]]), (1, [[inf]])]
    """
    for start in range(0, len(samples), rows):
        _, chunk = next(squared_distances(samples[start : start + rows], samples[start:], rows))
        chunk.diagonal().fill_(math.inf)
        yield start, chunk


class WithinSet(NamedTuple):
    """What is kept of the squared distances within a set of N samples."""

    kernel_sum: Tensor  # of the kernel of `kernel_mmd`, over all pairs of different samples
    nearest: Tensor  # (N, k) of each sample to its k nearest others, in ascending order


def smallest(values: Tensor, more: Tensor) -> Tensor:
    """The k smallest of each row in values (N, k) and more (N, M), in ascending order.

    >>> smallest(torch.tensor([[1.0, 5.0]]), torch.tensor([[7.0, 3.0, 9.0]]))
    tensor([[1., 3.]])
    """
    count = values.shape[1]
    candidates = more.topk(min(count, more.shape[1]), largest=False).values
    return torch.cat([values, candidates], 1).topk(count, largest=False).values


class PairwiseDistances:
    """What is kept of the squared distances within and between N real and M generated samples.

    The three distance matrices are computed once, in chunks, for all scores that follow from them: for 10,000 samples a
    matrix takes as long as everything that is computed from it.

    Args:
        real, fake: samples (N, ...) and (M, ...).
        neighbours: k, how many nearest samples of its own set make a sample's neighbourhood for `precision_recall`.
        sigma: width of the Gaussians around generated samples for `log_densities`; None = those are not computed.

    Raises:
        ValueError: a set is empty or not finite, or `neighbours` is below 1.
    """

    @torch.no_grad()
    def __init__(self, real: Tensor, fake: Tensor, neighbours: int = NEIGHBOURS, sigma: float | None = None) -> None:
        if neighbours < 1:
            raise ValueError(f"neighbours must be a positive integer, got {neighbours}")
        real, fake = center(real, fake)
        self.neighbours = neighbours
        self.bandwidth = 2 * real.double().square().sum(1).mean()  # of centered samples, the mean of ||a - b||^2
        self.rounding = TIE * self.bandwidth
        self.real, self.fake = self.within(real), self.within(fake)
        real_radii, fake_radii = self.real.nearest[:, -1], self.fake.nearest[:, -1]
        # What is kept has its memory before the loop: small tensors made in it would split the memory of freed chunks.
        self.real_to_fake = torch.empty_like(real_radii)  # (N,) to the nearest
        self.fake_to_real = torch.full_like(fake_radii, math.inf)  # (M,) to the nearest
        self.in_fake_manifold = torch.zeros_like(real_radii, dtype=torch.bool)  # (N,)
        self.in_real_manifold = torch.zeros_like(fake_radii, dtype=torch.bool)  # (M,)
        self.log_densities = real.new_zeros(0 if sigma is None else len(real))  # (N,), but for a constant
        self.between_sum = real.new_zeros((), dtype=torch.double)  # of the kernel
        for start, chunk in squared_distances(real, fake):
            rows = slice(start, start + len(chunk))
            torch.amin(chunk, 1, out=self.real_to_fake[rows])
            torch.minimum(self.fake_to_real, chunk.amin(0), out=self.fake_to_real)
            # a smallest difference is found faster than whether any comparison holds
            self.in_real_manifold |= (chunk - real_radii[rows, None]).amin(0) <= self.rounding
            self.in_fake_manifold[rows] = (chunk - fake_radii).amin(1) <= self.rounding
            if sigma is not None:
                self.log_densities[rows] = (chunk / (-2 * sigma**2)).logsumexp(1)
            self.between_sum += self.kernel_sum(chunk)

    def within(self, samples: Tensor) -> WithinSet:
        kernel_sum = samples.new_zeros((), dtype=torch.double)
        nearest = samples.new_full((len(samples), min(self.neighbours, len(samples))), math.inf)
        for start, chunk in squared_distances_within(samples):
            rows, end = len(chunk), start + len(chunk)
            nearest[start:end] = smallest(nearest[start:end], chunk)
            nearest[end:] = smallest(nearest[end:], chunk[:, rows:].T)
            kernel_sum += self.kernel_sum(chunk[:, :rows]) + 2 * self.kernel_sum(chunk[:, rows:])
        return WithinSet(kernel_sum, nearest)

    def kernel_sum(self, chunk: Tensor) -> Tensor:
        """The sum of exp(-d^2 / (2 s)) over a chunk, which is overwritten."""
        return chunk.mul_(-0.5 / self.bandwidth).exp_().sum(dtype=torch.double)

    def kernel_mmd(self) -> dict[str, Tensor]:
        """See the function `kernel_mmd`."""
        require_two(self.real_to_fake, self.fake_to_real)
        if self.bandwidth == 0:
            raise ValueError("real samples must differ from each other: the kernel has no bandwidth")
        n, m = len(self.real_to_fake), len(self.fake_to_real)
        between = self.between_sum / (n * m)
        real, fake = self.real.kernel_sum, self.fake.kernel_sum
        # the sums are without the pairs of a sample with itself, each of which is exp(0) = 1
        biased = (real + n) / n**2 + (fake + m) / m**2 - 2 * between
        unbiased = real / (n * (n - 1)) + fake / (m * (m - 1)) - 2 * between
        return {"mmd": biased.clamp(min=0).sqrt().float(), "mmd_squared_unbiased": unbiased.float()}

    def nearest_neighbour_accuracy(self) -> dict[str, Tensor]:
        """See the function `nearest_neighbour_accuracy`."""
        n, m = len(self.real_to_fake), len(self.fake_to_real)
        if n != m:
            raise ValueError(f"both sets must have the same size, got {n} real and {m} generated samples")
        real = (self.real.nearest[:, 0] <= self.real_to_fake + self.rounding).float().mean()
        fake = (self.fake.nearest[:, 0] + self.rounding < self.fake_to_real).float().mean()
        return {"total": (real + fake) / 2, "real": real, "fake": fake}

    def precision_recall(self) -> dict[str, Tensor]:
        """See the function `precision_recall`."""
        fewest = min(len(self.in_fake_manifold), len(self.in_real_manifold))
        if fewest <= self.neighbours:
            raise ValueError(f"both sets must have more than {self.neighbours} samples, got {fewest}")
        return {"precision": self.in_real_manifold.float().mean(), "recall": self.in_fake_manifold.float().mean()}

    def scores(self) -> dict[str, Tensor]:
        """All of these by the names that they have in a run's results."""
        accuracy = self.nearest_neighbour_accuracy()
        return {
            **self.kernel_mmd(),
            "nearest_neighbour_accuracy": accuracy["total"],
            "nearest_neighbour_accuracy_real": accuracy["real"],
            "nearest_neighbour_accuracy_fake": accuracy["fake"],
            **self.precision_recall(),
        }


def kernel_mmd(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Maximum mean discrepancy with a Gaussian kernel, k(a, b) = exp(-||a - b||^2 / (2 s)).

    A. Gretton et al., "A Kernel Two-Sample Test", 2012, equations 5 and 3. The bandwidth s is the mean squared distance
    between two real samples, the pairs of a sample with itself included. `mmd` is the square root of the biased
    estimate, which is above 0 even for two sets of one distribution; `mmd_squared_unbiased` is the unbiased estimate of
    its square, which is 0 on average there, and below 0 more often than above.

    >>> scores = kernel_mmd(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [2.0]]))
    >>> {name: round(value.item(), 4) for name, value in scores.items()}
    {'mmd': 0.0, 'mmd_squared_unbiased': -0.6321}
    """
    return PairwiseDistances(real, fake).kernel_mmd()


def nearest_neighbour_accuracy(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Leave-one-out accuracy of a 1-nearest-neighbour classifier between two sets of the same size.

    D. Lopez-Paz & M. Oquab, "Revisiting Classifier Two-Sample Tests", 2017. `total` is the mean of `real` and `fake`,
    the accuracies on either set: read all three, since copies of a single real image give 1 and 0, half in total. 0.5
    is ideal, as for two sets of one distribution, and 1 the worst. Below 0.5 samples lie nearer to the other set's than
    to their own: copies of all real ones give 0. A tie counts as real.

    >>> scores = nearest_neighbour_accuracy(torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [0.2]]))
    >>> {name: value.item() for name, value in scores.items()}
    {'total': 0.0, 'real': 0.0, 'fake': 0.0}
    """
    return PairwiseDistances(real, fake).nearest_neighbour_accuracy()


def precision_recall(real: Tensor, fake: Tensor, neighbours: int = NEIGHBOURS) -> dict[str, Tensor]:
    """Share of generated samples in the manifold of the real ones, and of real ones in that of the generated.

    T. Kynkäänniemi et al. 2019, equations 1 and 2: a sample belongs to a set's manifold when it is no farther from some
    sample of the set than that one's k-th nearest neighbour in it. `neighbours` is k, 3 in the paper.

    >>> scores = precision_recall(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [9.0]]), neighbours=1)
    >>> {name: value.item() for name, value in scores.items()}
    {'precision': 0.5, 'recall': 1.0}
    """
    return PairwiseDistances(real, fake, neighbours).precision_recall()


def wasserstein_distance(real: Tensor, fake: Tensor) -> Tensor:
    """The exact 1-Wasserstein (earth mover's) distance between two sets, with the Euclidean distance as the cost.

    A linear program over all pairs (`ot.emd2` of POT): seconds for 2,000 samples of each set, impractical for 10,000.
    It falls as the number of samples grows, so that only distances of the same number compare.

    >>> wasserstein_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [4.0]]))
    tensor(3.)
    """
    import ot  # takes seconds to import, as it imports scikit-learn

    real, fake = center(real, fake)
    cost = torch.cat([chunk.sqrt() for _, chunk in squared_distances(real, fake)]).double().cpu().numpy()
    return torch.tensor(float(ot.emd2([], [], cost, numItermax=10_000_000)))
