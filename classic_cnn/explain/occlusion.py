"""Which parts of an image a class depends on: occlusion, section 4.2 of Zeiler and Fergus 2013."""

from collections.abc import Callable

import torch
from torch import Tensor

BATCH_SIZE = 256  # occluded images at once


def occlude(image: Tensor, side: int, stride: int, shade: float) -> Tensor:
    """Copies of an image, uint8 (1, H, W), each with a square at another position: (R * C, 1, H, W).

    The squares are centred on every `stride`-th pixel and cut off at the image's border; `shade` is in [0, 1].

    >>> occlude(torch.zeros(1, 2, 2, dtype=torch.uint8), side=1, stride=1, shade=1.0)[2]
    tensor([[[  0,   0],
             [255,   0]]], dtype=torch.uint8)
    """
    height, width = image.shape[1:]
    corners = [(row, column) for row in range(0, height, stride) for column in range(0, width, stride)]
    copies = image.repeat(len(corners), 1, 1, 1)
    for copy, (row, column) in zip(copies, corners, strict=True):
        top, left = row - (side - 1) // 2, column - (side - 1) // 2
        copy[:, max(0, top) : top + side, max(0, left) : left + side] = round(255 * shade)
    return copies


@torch.no_grad()
def occlusion(
    predict: Callable[[Tensor], Tensor], image: Tensor, side: int = 8, stride: int = 1, shade: float = 0.5
) -> Tensor:
    """The class probabilities for each position of an occluding square, (R, C, K).

    Args:
        predict: from images, uint8 (N, 1, H, W), to class probabilities, (N, K).
        image: uint8, (1, H, W).
        side: of the square, in pixels.
        stride: pixels from one position to the next.
        shade: of the square, from 0 for the background to 1 for ink.
    """
    probabilities = torch.cat([predict(part) for part in occlude(image, side, stride, shade).split(BATCH_SIZE)])
    rows = -(-image.shape[1] // stride)
    return probabilities.view(rows, -1, probabilities.shape[1])
