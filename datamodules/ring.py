"""Gaussians on a circle, on which one sees whether a generator finds all modes (Metz et al. 2017, section 3.1)."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from datamodules.contract import Count, Index, Positive
from datamodules.in_memory import InMemoryData, Split


class Ring(InMemoryData):
    """Points (N, 2) of Gaussians evenly spaced on a circle, and the number of each point's Gaussian (N,).

    Memory holds only which Gaussian each point of an epoch belongs to. The point itself is drawn again for every batch
    from (seed, batch) alone, so that a resumed run sees the same points. An epoch is 51,200 points, 100 batches.

    Args:
        batch_size: points per training step and process.
        modes: number of Gaussians, up to 10,000.
        radius: of the circle; 2 in the paper.
        sigma: standard deviation of each Gaussian along either axis; 0.02 in the paper.
        epoch_size: points that count as an epoch, up to 100 million.
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
        batch_size: Count = 512,
        modes: Annotated[int, Field(gt=0, le=10_000)] = 8,
        radius: Positive = 2.0,
        sigma: Positive = 0.02,
        epoch_size: Annotated[int, Field(gt=0, le=100_000_000)] = 51_200,
        seed: Index = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        angles = 2 * math.pi * torch.arange(modes) / modes
        self.centres = radius * torch.stack([angles.cos(), angles.sin()], 1)  # (modes, 2)
        self.sigma = sigma
        self.epoch_size = epoch_size

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (2,)

    def read(self) -> None:
        labels = torch.arange(self.epoch_size) % len(self.centres)
        self.train_split = Split(self.centres[labels], labels)
        self.val_split = self.test_split = Split(self.centres, torch.arange(len(self.centres)))

    def describe(self) -> str:
        gaussians = f"{len(self.centres)} Gaussians of standard deviation {self.sigma:g}"
        radius = float(self.centres[0, 0])
        return f"{self.name}: {gaussians} on a circle of radius {radius:g}, {self.epoch_size:,} new points per epoch"

    def transform(self, images: Tensor, augment: bool = False) -> Tensor:
        """New points (N, 2), each drawn from the Gaussian whose centre is given."""
        return images + self.sigma * torch.randn_like(images)
