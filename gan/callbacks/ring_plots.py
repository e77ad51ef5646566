"""Plots of a GAN that makes points: its samples over the ring of Gaussians."""

import numpy as np
import torch
from torch import Tensor

from datamodules.in_memory import InMemoryData
from gan.adversarial import GAN
from gan.callbacks.sample_plots import SamplePlots
from gan.scores.evaluation import fixed_seed_samples

HALF_SIDE = 1.5  # of the picture, in radii of the ring
POINTS = 1000


class RingPlots(SamplePlots):
    """Plots 1,000 samples over as many points of `datamodules.ring.Ring` over time, and at the end a GIF."""

    def picture(self, model: GAN, data: InMemoryData) -> Tensor:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 3), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        real, fake = data.examples(POINTS), fixed_seed_samples(model, POINTS).float().cpu()
        axes.plot(real[:, 0], real[:, 1], "o", markersize=3.5, color="silver", label="real")
        axes.plot(fake[:, 0], fake[:, 1], "o", markersize=1, color="tab:blue", label="generated")
        limit = HALF_SIDE * data.centres.norm(dim=1).max().item()  # type: ignore[attr-defined]
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        axes.legend(loc="upper left", fontsize=7, frameon=False)
        canvas.draw()
        pixels = torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # uint8 (H, W, 3)
        return pixels.permute(2, 0, 1) / 255

    def final_pictures(self, model: GAN, data: InMemoryData) -> dict[str, Tensor]:
        return {}
