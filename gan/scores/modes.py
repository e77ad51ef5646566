"""How many modes a generator has found: of a ring of Gaussians, and of the 1,000 triples of digits in Stacked MNIST."""

from typing import Any

import torch
from torch import Tensor

from datamodules.contract import Index
from gan.scores.classes import count_triples, mode_coverage
from gan.scores.distances import require_finite, scoring_device
from gan.scores.evaluation import Evaluation, SampleCount, fixed_seed_samples
from gan.scores.scoring_net import BATCH, ScoringNet

MIN_SAMPLES = 20  # of high quality, for a mode of the ring to count
HIGH_QUALITY = 3.0  # standard deviations from the centre of a Gaussian


class RingModes(Evaluation):
    """Modes of `datamodules.ring.Ring` that a GAN has found: modes, modes_kl and high_quality, after val/ or test/.

    As A. Srivastava et al., "VEEGAN", 2017, section 4.1: of 2,500 samples, those of high quality lie within three
    standard deviations of the nearest Gaussian's centre. Deviations from the paper: a Gaussian counts as found from 20
    such samples on, not from the first, which may have got there by chance. Read the share of high quality beside the
    modes: where Gaussians are as wide as `sigma` 0.1, points spread evenly over the square around the ring put about 33
    near each of eight, a share of 0.11. The latents are the same each time.

    Args: see `Evaluation`.
    """

    def __init__(self, every_n_epochs: Index = 5, count: SampleCount = 2500, final_count: SampleCount = 2500) -> None:
        super().__init__(every_n_epochs, count, final_count)

    def check(self, model: Any, data: Any) -> None:
        if not hasattr(data, "centres"):
            raise ValueError(f"RingModes counts the modes of a ring of Gaussians, not those of {data.name}")

    def compute_scores(self, model: Any, data: Any, stage: str, final: bool) -> dict[str, float]:
        count = self.final_count if final else self.count
        within = f"{MIN_SAMPLES} within {HIGH_QUALITY:g} standard deviations"
        self.description = f"of {count:,} samples, where a mode needs {within}"
        return ring_scores(fixed_seed_samples(model, count), data.centres, data.sigma) | {"count": float(count)}

    def progress_line(self, scores: dict[str, float]) -> str:
        return f"{scores['modes']:.0f} modes, {100 * scores['high_quality']:.1f} % of high quality"


def ring_scores(points: Tensor, centres: Tensor, sigma: float) -> dict[str, float]:
    """Modes found by points (N, 2), KL(their frequencies || uniform) in nats and the share of points of high quality.

    The frequencies are those of the points of high quality; without any, the KL is that of a single mode, the worst.

    >>> ring_scores(torch.tensor([[0.0, 1.0]] * 30 + [[0.0, 9.0]] * 10), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.1)
    {'modes': 1.0, 'modes_kl': 0.6931471824645996, 'high_quality': 0.75}
    """
    require_finite(generated=points)
    distances, nearest = torch.cdist(points.float().cpu(), centres).min(1)
    good = distances <= HIGH_QUALITY * sigma
    counts = nearest[good].bincount(minlength=len(centres)).float()
    frequencies = counts / counts.sum() if good.any() else torch.eye(len(centres))[0]
    return {
        "modes": (counts >= MIN_SAMPLES).sum().float().item(),
        "modes_kl": torch.xlogy(frequencies, frequencies * len(centres)).sum().item(),
        "high_quality": good.float().mean().item(),
    }


class StackedModes(Evaluation):
    """Modes of `datamodules.stacked_mnist.StackedMNIST` that a GAN has found: modes of 1,000, and modes_kl.

    A scoring net reads each channel, whose most probable digit counts. More samples find more modes: papers take
    26,000, as in a final evaluation; while it trains there are fewer.

    Args: see `Evaluation`.
    """

    def __init__(self, every_n_epochs: Index = 5, count: SampleCount = 2600, final_count: SampleCount = 26_000) -> None:
        super().__init__(every_n_epochs, count, final_count)
        self.scoring_net = ScoringNet("mnist")

    def check(self, model: Any, data: Any) -> None:
        if data.sample_shape != (3, 28, 28):
            raise ValueError(f"StackedModes counts the modes of Stacked MNIST, not those of {data.name}")

    def compute_scores(self, model: Any, data: Any, stage: str, final: bool) -> dict[str, float]:
        count = self.final_count if final else self.count
        device = scoring_device(model.device)
        counts = torch.zeros(1000, dtype=torch.long, device=device)
        net = self.scoring_net.to(device)
        for images in fixed_seed_samples(model, count).to(device).split(BATCH):
            channels = images.flatten(0, 1).unsqueeze(1)  # (3 N, 1, 28, 28)
            counts += count_triples(net.logits(net(channels)).unflatten(0, (-1, 3)))
        net.cpu()
        self.description = f"of {count:,} samples by {net}, without a threshold"
        return {name: value.item() for name, value in mode_coverage(counts).items()} | {"count": float(count)}

    def progress_line(self, scores: dict[str, float]) -> str:
        return f"{scores['modes']:.0f} of 1,000 modes, KL {scores['modes_kl']:.3f}"
