"""The measures of classifiers that claims share, on nets and images whose outcome is known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import compose
from torch import Tensor, nn

from datamodules.images import ImageData
from datamodules.in_memory import Split
from tasks.claims import views
from tasks.claims.claim import MeasuredRun


class KnownData(ImageData):
    """Stored images and labels, the same ones to train and to test."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.train_split = self.val_split = self.test_split = Split(images, labels)


def run_of(net: nn.Module, data: Any, *overrides: str) -> MeasuredRun:
    run = MeasuredRun(compose(*overrides), Path("unused"), {})
    run.trained = (net.eval(), data)  # type: ignore[assignment]
    return run


class LeftPixel(nn.Module):
    """Class 1 for an image whose middle row has ink at the left border, class 0 for all others."""

    def forward(self, images: Tensor) -> Tensor:
        ink = images[:, 0, 14, 0]
        return torch.stack([-ink, ink], 1)


def dotted(column: int, count: int = 4) -> Tensor:
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 14, column] = 255
    return images


def test_views_are_averaged_and_compared_with_the_image_itself() -> None:
    images = torch.cat([dotted(0), dotted(14)])
    run = run_of(LeftPixel(), KnownData(images, torch.tensor([1] * 4 + [0] * 4)))
    assert views.error_of_views(run, "flip") == {"error_of_views": 50, "gain_of_views": -50}  # one view of two has ink
    assert views.error_of_views(run, "multi_scale", images=4)["error_of_views"] == 100  # as in one of three


class Brightness(nn.Module):
    """Class 1 for images with more than 100 pixels of ink."""

    def forward(self, images: Tensor) -> Tensor:
        ink = (images > 0).flatten(1).sum(1) - 100.0
        return torch.stack([-ink, ink], 1)


def test_rescaled_error_is_the_mean_over_scales() -> None:
    images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 8:20] = 255  # 144 pixels
    run = run_of(Brightness(), KnownData(images, torch.ones(3, dtype=torch.long)))
    found = views.rescaled_error(run, scales=(0.5, 1.0, 1.25))
    assert found["error_by_scale"] == [(0.5, 100), (1.0, 0), (1.25, 0)]
    assert found["rescaled_error"] == pytest.approx(100 / 3)
    assert torch.equal(views.rescale(images, 1.0), images)
