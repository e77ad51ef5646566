"""How many modes a generator has found: of a ring of Gaussians, and of the 1,000 triples of digits in Stacked MNIST."""

from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from gan.adversarial import GAN
from gan.callbacks.sample_plots import GANFigures
from gan.scores.evaluation import BATCH, Evaluation
from gan.scores.metrics import ModesCovered
from gan.scores.scoring_net import Judge

LEAST = 20  # samples of high quality that make a mode of the ring count
HIGH_QUALITY = 3.0  # standard deviations from the centre of a Gaussian
REACH = 1.5  # half the side of the picture, in radii of the ring


class RingModes(Evaluation):
    """The modes of `data=ring` that a GAN has found: samples/modes, samples/modes_kl and samples/high_quality.

    As A. Srivastava et al., "VEEGAN", 2017, section 4.1: of 2,500 samples, of high quality is one that lies within
    three standard deviations of the nearest Gaussian's centre. Differs from them: a Gaussian counts as found from 20
    such samples on, not from the first, which may have got there by chance. The same latents are drawn each time.

    Args: see `Evaluation`.
    """

    key = "modes"

    def __init__(self, every_n_epochs: int = 5, count: int = 2500, final_count: int = 2500) -> None:
        super().__init__(every_n_epochs, count, final_count)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "centres"):
            raise ValueError(f"callbacks.modes: RingModes counts the modes of data=ring, not those of {data.name}")

    def measured(self, model: Any, data: Any, count: int, last: bool) -> dict[str, float]:
        scores = ring_scores(samples(model, count), data.centres, data.sigma) | {"count": float(count)}
        return {f"samples/{name}": value for name, value in scores.items()}

    def shown(self, scores: dict[str, float]) -> str:
        return f"{scores['samples/modes']:.0f} modes, {100 * scores['samples/high_quality']:.1f} % of high quality"

    def account(self, scores: dict[str, float], data: Any) -> str:
        count = f"{scores['samples/count']:,.0f}"
        return f"of {count} samples, a mode being found by {LEAST} within {HIGH_QUALITY:g} standard deviations"


def ring_scores(points: Tensor, centres: Tensor, sigma: float) -> dict[str, float]:
    """Of points (N, 2): modes found, KL(their frequencies || uniform) in nats and the share of high quality.

    The frequencies are those of the points of high quality; without any, the KL is that of a single mode, the worst.

    >>> ring_scores(torch.tensor([[0.0, 1.0]] * 30 + [[0.0, 9.0]] * 10), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.1)
    {'modes': 1.0, 'modes_kl': 0.6931471824645996, 'high_quality': 0.75}
    """
    distances, nearest = torch.cdist(points.float().cpu(), centres).min(1)
    good = distances <= HIGH_QUALITY * sigma
    counts = nearest[good].bincount(minlength=len(centres)).float()
    frequencies = counts / counts.sum() if good.any() else torch.eye(len(centres))[0]
    return {
        "modes": (counts >= LEAST).sum().float().item(),
        "modes_kl": torch.xlogy(frequencies, frequencies * len(centres)).sum().item(),
        "high_quality": good.float().mean().item(),
    }


class StackedModes(Evaluation):
    """The modes of `data=stacked_mnist` that a GAN has found: samples/modes of 1,000, and samples/modes_kl.

    A scoring net reads each channel (`gan.scores.metrics.ModesCovered`, without a threshold). More samples show more
    modes: papers
    take 26,000, as is done at the end; while it trains there are fewer, and the line that prints them says how many.

    Args: see `Evaluation`.
    """

    key = "modes"

    def __init__(self, every_n_epochs: int = 5, count: int = 2600, final_count: int = 26_000) -> None:
        super().__init__(every_n_epochs, count, final_count)
        self.judge = Judge("mnist")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data.examples(1).shape[1:] != (3, 28, 28):
            raise ValueError(
                f"callbacks.modes: StackedModes counts the modes of data=stacked_mnist, not those of {data.name}"
            )

    @torch.no_grad()
    def measured(self, model: Any, data: Any, count: int, last: bool) -> dict[str, float]:
        modes = ModesCovered(sync_on_compute=False).to(model.device)
        self.judge.to(model.device)
        for images in samples(model, count).split(BATCH):
            channels = images.float().flatten(0, 1).unsqueeze(1)  # (3 N, 1, 28, 28)
            modes.update(self.judge.logits(self.judge(channels)).unflatten(0, (-1, 3)))
        self.judge.cpu()
        scores = modes.compute() | {"count": torch.tensor(count)}
        return {f"samples/{name}": float(value) for name, value in scores.items()}

    def shown(self, scores: dict[str, float]) -> str:
        return f"{scores['samples/modes']:.0f} of 1,000 modes, KL {scores['samples/modes_kl']:.3f}"

    def account(self, scores: dict[str, float], data: Any) -> str:
        return f"of {scores['samples/count']:,.0f} samples by judge {self.judge}, without a threshold"


def samples(model: GAN, count: int) -> Tensor:
    """The same samples of a GAN each time, by the same latents; nothing is drawn from the stream of the training."""
    with isolate_rng(), torch.autocast(model.device.type, enabled=False):
        torch.manual_seed(0)
        return torch.cat([model.sample(min(BATCH, count - start)) for start in range(0, count, BATCH)])


class RingFigures(GANFigures):
    """Draws 1,000 samples over as many points of `data=ring` after every epoch, and a film of that at the end."""

    def picture(self, model: GAN, data: Any) -> Tensor:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 3), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        real, fake = data.examples(1000), samples(model, 1000).float().cpu()
        axes.plot(real[:, 0], real[:, 1], "o", markersize=3.5, color="silver", label="real")
        axes.plot(fake[:, 0], fake[:, 1], "o", markersize=1, color="tab:blue", label="generated")
        reach = REACH * data.centres.norm(dim=1).max().item()
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axes.legend(loc="upper left", fontsize=7, frameon=False)
        canvas.draw()
        pixels = torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # uint8 (H, W, 3)
        return pixels.permute(2, 0, 1) / 255

    def last_pictures(self, model: GAN, data: Any) -> dict[str, Tensor]:
        return {}
