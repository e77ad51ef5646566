"""What a classifier makes of other views of the test images: ten windows, other scales."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from classic_cnn.callbacks.test_time_augmentation import VIEWS
from datamodules.contract import Count
from datamodules.in_memory import InMemoryData
from tasks.claims.claim import MeasuredRun
from tasks.claims.measures import accuracy

BATCH = 500


@torch.inference_mode()
def error_of_views(
    run: MeasuredRun, views: Literal["flip", "ten_crop", "multi_scale"] = "ten_crop", images: Count = 10_000
) -> dict[str, float]:
    """`error_of_views`: per cent of the test images that are wrong where the class probabilities are averaged over
    several views of each; `gain_of_views`: points by which the error is lower than with one view.

    Args:
        run: of a classifier.
        views: see `classic_cnn.callbacks.test_time_augmentation`.
        images: the first so many test images.
    """
    net, data = run.trained
    stored, labels = tested_images(data, images)
    background = data.transform(torch.zeros_like(stored[:1]))  # what comes in at the sides
    correct = 0
    for part, wanted in zip(stored.split(BATCH), labels.split(BATCH), strict=True):
        shown = VIEWS[views](data.transform(part) - background)
        probabilities = torch.stack([net(view + background).softmax(1) for view in shown]).mean(0)
        correct += int((probabilities.argmax(1) == wanted).sum())
    error = 100 * (1 - correct / len(labels))
    single = 100 * (1 - accuracy(net, run, stored, labels))
    return {"error_of_views": error, "gain_of_views": single - error}


def rescaled_error(
    run: MeasuredRun, scales: Sequence[float] = (0.8, 0.9, 1.0, 1.1, 1.2), images: Count = 10_000
) -> dict[str, object]:
    """`rescaled_error`: per cent of the test images that are wrong, the mean over scales from 0.8 to 1.2 of what is in
    them; `error_by_scale`: at each scale.

    Args:
        run: of a classifier.
        scales: of the objects; below 1 background comes in at the sides, above 1 the border is cut off.
        images: the first so many test images.
    """
    net, data = run.trained
    stored, labels = tested_images(data, images)
    errors = [100 * (1 - accuracy(net, run, rescale(stored, scale), labels)) for scale in scales]
    return {"rescaled_error": sum(errors) / len(errors), "error_by_scale": list(zip(scales, errors, strict=True))}


def rescale(images: Tensor, scale: float) -> Tensor:
    """Stored images, uint8 (N, C, H, W), with what they show larger or smaller around their centre.

    >>> image = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    >>> image[..., 1:3, 1:3] = 200
    >>> (rescale(image, 2.0) > 100).all().item(), (rescale(image, 0.5)[..., 0, :] == 0).all().item()
    (True, True)
    """
    matrix = torch.eye(2, 3).div(scale).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)


def tested_images(data: InMemoryData, count: int) -> tuple[Tensor, Tensor]:
    """The first so many test images, or validation images of a set that has no others, with their labels."""
    split = data.test_split or data.val_split
    assert split is not None
    return split.images[:count], split.labels[:count]
