"""Test-time augmentation: several views of each image are classified and their probabilities averaged."""

from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as v2

from datamodules.contract import CheckedArguments


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


class TestTimeAugmentation(CheckedArguments, Callback):
    """Adds test/accuracy_VIEWS: the accuracy of the class probabilities averaged over several views of each image.

    It is computed by `trainer.test`, and by `trainer.validate` for a set without test images. Mirror images (`flip` and
    `ten_crop`) suit clothes, which training mirrors, too; mirrored digits are no digits and cost accuracy on MNIST.

    Args:
        views: how the views are made; see the functions of these names.

    >>> TestTimeAugmentation("flip").views
    'flip'
    """

    __test__ = False  # its name notwithstanding, no test of pytest's

    def __init__(self, views: Literal["flip", "ten_crop", "multi_scale"]) -> None:
        self.views = views

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
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        empty = -torch.ones_like(images[:1])
        if data is not None:
            empty = data.transform(torch.zeros_like(data.train_split.images[:1])).to(images)
        views = VIEWS[self.views](images - empty)  # what comes in at the sides is 0: background
        with trainer.precision_plugin.forward_context():
            probabilities = [pl_module.predict_step((view + empty, labels), 0) for view in views]  # each (N, K)
        accuracy = (torch.stack(probabilities).mean(0).argmax(1) == labels).float().mean()
        weight = len(labels) * trainer.world_size  # see ImageClassifier.share_of_mean
        pl_module.log(f"{stage}/accuracy_{self.views}", accuracy, batch_size=weight, sync_dist=True)
