"""Which parts of an image a class depends on: occlusion, section 4.2 of Zeiler and Fergus 2013."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PIXELS_AT_ONCE = 256 * 28 * 28  # of occluded images


def occlude(image: Tensor, side: int, stride: int, shade: float) -> Iterator[Tensor]:
    """Copies of an image, uint8 (C, H, W), each with a square at another position, in parts (N, C, H, W).

    The squares are centred on every `stride`-th pixel and cut off at the image's border; `shade` is in [0, 1].

    >>> [copies] = occlude(torch.zeros(1, 2, 2, dtype=torch.uint8), side=1, stride=1, shade=1.0)
    >>> copies[2]
    tensor([[[  0,   0],
             [255,   0]]], dtype=torch.uint8)
    """
    rows, columns = (spans(length, side, stride).to(image.device) for length in image.shape[1:])
    hidden = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)  # (N, H, W)
    for part in hidden.split(max(1, PIXELS_AT_ONCE // image.numel())):
        yield image.masked_fill(part[:, None], round(255 * shade))


def spans(length: int, side: int, stride: int) -> Tensor:
    """The pixels that each square covers along a side of the image, bool (positions, length)."""
    pixels = torch.arange(length)
    first = pixels[::stride, None] - (side - 1) // 2
    return (first <= pixels) & (pixels < first + side)


@torch.no_grad()
def occlusion(
    predict: Callable[[Tensor], Tensor], image: Tensor, side: int = 8, stride: int = 1, shade: float = 0.5
) -> Tensor:
    """The class probabilities for each position of an occluding square, (R, C, K).

    Args:
        predict: from images, uint8 (N, C, H, W), to class probabilities, (N, K).
        image: uint8, (C, H, W).
        side: of the square, in pixels.
        stride: pixels from one position to the next.
        shade: of the square, from 0 for the background to 1 for ink.
    """
    probabilities = torch.cat([predict(part) for part in occlude(image, side, stride, shade)])
    rows = -(-image.shape[1] // stride)
    return probabilities.view(rows, -1, probabilities.shape[1])
