"""Stacked MNIST: three digits as the three channels of an image, 1,000 modes (Metz et al. 2017, section 3.3.1)."""

import torch
from torch import Tensor

from datamodules.mnist import MNIST


class StackedMNIST(MNIST):
    """Images (N, 3, 28, 28) in [-1, 1] of three MNIST digits abc, and their labels 100 a + 10 b + c (N,).

    Memory holds MNIST's images alone. In an epoch each training image is the first channel once, in a new order; the
    other two are drawn for every batch from (seed, batch) alone, so that a resumed run sees the same triples. Deviates
    from the later papers, which draw 128,000 triples once: here, as in the first one, all are new.

    >>> StackedMNIST().spec
    SampleSpec(in_channels=3, image_size=28, num_classes=1000)
    """

    name = "Stacked MNIST"
    class_names = tuple(f"{number:03}" for number in range(1000))
    in_channels = 3
    stores_samples = False

    def on_before_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels = super().on_before_batch_transfer(batch, dataloader_idx)  # seeds what is drawn here
        assert self.train_split is not None
        second, third = torch.randint(len(self.train_split.labels), (2, len(labels)))
        stored, classes = self.train_split
        others = torch.cat([stored[second], stored[third]], 1).to(images.device)
        triples = torch.cat([images, others], 1)  # uint8 (N, 3, 28, 28)
        return triples, 100 * labels + (10 * classes[second] + classes[third]).to(labels.device)

    def describe(self) -> str:
        return f"{super().describe()}; each stacked with two others drawn at random, 1,000 modes"
