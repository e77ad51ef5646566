"""Receptive fields: the pixels of the image that a value of a feature map depends on."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ReceptiveField(NamedTuple):
    """`size` x `size` pixels; that of the value at position p starts at pixel `start` + p * `jump`.

    >>> lenet = [nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.Conv2d(16, 120, 5)]
    >>> receptive_field(lenet)
    ReceptiveField(size=32, jump=4, start=0)
    """

    size: int = 1
    jump: int = 1
    start: int = 0

    def through(self, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "ReceptiveField":
        """The field behind one more convolution or pooling."""
        size = self.size + (kernel_size - 1) * dilation * self.jump
        return ReceptiveField(size, self.jump * stride, self.start - padding * self.jump)

    def crop(self, images: Tensor, rows: Tensor, columns: Tensor, fill: float) -> Tensor:
        """The field of one value in each image, (N, C, S, S) -> (N, C, size, size), with `fill` beyond the border.

        Images that are no larger than the field are returned as they are.
        """
        if self.size >= images.shape[-1]:
            return images
        padded = F.pad(images, (self.size,) * 4, value=fill)
        tops, lefts = ((self.size + self.start + self.jump * positions).tolist() for positions in (rows, columns))
        crops = [
            image[:, top : top + self.size, left : left + self.size]
            for image, top, left in zip(padded, tops, lefts, strict=True)
        ]
        return torch.stack(crops)


def receptive_field(layers: Iterable[nn.Module]) -> ReceptiveField:
    """The field behind a sequence of layers, of which only convolutions and max pooling change it.

    >>> receptive_field([nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5)])
    ReceptiveField(size=14, jump=2, start=-2)
    """
    field = ReceptiveField()
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            sides = (layer.kernel_size, layer.stride, layer.padding)
            kernel_size, stride, padding = (int(side[0] if isinstance(side, tuple) else side) for side in sides)
            field = field.through(kernel_size, stride, padding)
    return field
