"""Test-time augmentation: several views of each image are classified and their probabilities averaged."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as v2


def flip(images: Tensor) -> list[Tensor]:
    """The images and their mirror images (Simonyan & Zisserman 2014, section 3.2), each (N, C, S, S)."""
    return [images, images.flip(-1)]


def ten_crop(images: Tensor) -> list[Tensor]:
    """Four corners and the centre of the images with a margin, and their mirror images, each (N, C, S, S).

    Krizhevsky et al. 2012, section 4.1: windows of 224 pixels out of 256. The margin is a 14th of the side, all around,
    which gives the same ratio: 28 out of 32, windows as `RandomCrop(2)` cuts them for training.

    >>> len(ten_crop(torch.rand(5, 1, 28, 28))), ten_crop(torch.rand(5, 1, 28, 28))[0].shape
    (10, torch.Size([5, 1, 28, 28]))
    """
    side = images.shape[-1]
    return list(v2.ten_crop(F.pad(images, (side // 14,) * 4), [side, side]))


def multi_scale(images: Tensor) -> list[Tensor]:
    """The images at about 7/8, 1 and 9/8 of their size around their centre, each (N, C, S, S).

    Simonyan & Zisserman 2014, section 4.2: 224, 256 and 288 pixels, with mirror images, which are left out here so
    that it suits digits too.
    """
    side = images.shape[-1]
    step = 2 * round(side / 16)  # an even number keeps the centre
    sizes = (side - step, side, side + step)
    return [v2.center_crop(v2.resize(images, [size, size]), [side, side]) for size in sizes]


VIEWS = {"flip": flip, "ten_crop": ten_crop, "multi_scale": multi_scale}


class AveragedViews(Callback):
    """Measures test/accuracy_NAME too: the accuracy of the class probabilities averaged over the views of an image.

    Mirror images (`flip` and `ten_crop`) suit clothes, which training has mirrored too. A mirrored digit is none, so
    on MNIST they cost accuracy.

    Args:
        name: of the views, one of `VIEWS`.

    Raises:
        ValueError: there are no views of that name.
    """

    def __init__(self, name: str) -> None:
        if name not in VIEWS:
            raise ValueError(f"task.test_time_augmentation={name}: choose one of none, {', '.join(VIEWS)}")
        self.name = name

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: tuple[Tensor, Tensor], *_: Any
    ) -> None:
        self._measure(trainer, pl_module, batch, "test")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: tuple[Tensor, Tensor], *_: Any
    ) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:  # of a set without test images; not within a fit
            self._measure(trainer, pl_module, batch, "val")

    def _measure(self, trainer: Trainer, pl_module: LightningModule, batch: tuple[Tensor, Tensor], stage: str) -> None:
        images, labels = batch
        empty = trainer.datamodule.transform(torch.zeros(1, 1, 28, 28)).to(images)  # type: ignore[attr-defined]
        views = VIEWS[self.name](images - empty)  # what comes in at the sides is 0: background
        with trainer.precision_plugin.forward_context():
            probabilities = [pl_module.predict_step((view + empty, labels), 0) for view in views]  # each (N, K)
        accuracy = (torch.stack(probabilities).mean(0).argmax(1) == labels).float().mean()
        pl_module.log(f"{stage}/accuracy_{self.name}", accuracy, batch_size=len(labels), sync_dist=True)
