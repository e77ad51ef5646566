"""Gaussians on a circle, on which one sees whether a generator finds all modes (Metz et al. 2017, section 3.1)."""

import math

import torch
from torch import Tensor

from datamodules.images import ImageData, Split


class Ring(ImageData):
    """Points (N, 2) of Gaussians evenly spaced on a circle, and the number of each point's Gaussian (N,).

    Kept in memory is only which Gaussian each point of an epoch belongs to; the point itself is drawn anew for every
    batch, from (seed, batch) alone, so that a resumed run sees the same ones. An epoch is 51,200 points, 100 batches.

    Args:
        batch_size: points a training step, a process.
        modes: how many Gaussians.
        radius: of the circle; 2 in the paper.
        sigma: standard deviation of each Gaussian along either axis; 0.02 in the paper.
        epoch_size: points that count as an epoch.
        seed: seeds all that is drawn.

    Raises:
        ValueError: an argument is out of its range.

    >>> ring = Ring(modes=4, radius=1.0)
    >>> ring.centres.round().abs().tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """

    name = "ring of Gaussians"

    def __init__(
        self,
        batch_size: int = 512,
        modes: int = 8,
        radius: float = 2.0,
        sigma: float = 0.02,
        epoch_size: int = 51_200,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        for name, value in {"modes": modes, "epoch_size": epoch_size}.items():
            if not (isinstance(value, int) and value > 0):
                raise ValueError(f"data.{name}={value}: a whole number above 0 is needed")
        for name, length in {"radius": radius, "sigma": sigma}.items():
            if not length > 0:
                raise ValueError(f"data.{name}={length}: a number above 0 is needed")
        angles = 2 * math.pi * torch.arange(modes) / modes
        self.centres = radius * torch.stack([angles.cos(), angles.sin()], 1)  # (modes, 2)
        self.sigma = sigma
        self.epoch_size = epoch_size

    def read(self) -> None:
        labels = torch.arange(self.epoch_size) % len(self.centres)
        self.train_split = Split(self.centres[labels], labels)
        self.val_split = self.test_split = Split(self.centres, torch.arange(len(self.centres)))

    def describe(self) -> str:
        on = f"{len(self.centres)} Gaussians of standard deviation {self.sigma:g} at radius {self.centres[0, 0]:g}"
        return f"{self.name}: {on}, {self.epoch_size:,} new points an epoch"

    def transform(self, images: Tensor, augment: bool = False) -> Tensor:
        """New points (N, 2), each of the Gaussian whose centre is given."""
        return images + self.sigma * torch.randn_like(images)
