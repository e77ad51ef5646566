"""Stacked MNIST: three digits as the three channels of an image, 1,000 modes (Metz et al. 2017, section 3.3.1)."""

import torch
from torch import Tensor

from datamodules.in_memory import InMemoryDataset, Split
from datamodules.mnist import MNIST


class StackedDigits(InMemoryDataset):
    """The triples that a split's digits make: each is the first channel of one, the second of one, the third of one."""

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        generator = torch.Generator().manual_seed(0)
        self.second, self.third = (torch.randperm(len(self), generator=generator) for _ in range(2))

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        first = torch.tensor(indices)
        return stack(
            *((self.images[index], self.labels[index]) for index in (first, self.second[first], self.third[first]))
        )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]


def stack(*digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 28, 28) and labels (N,) of three batches of digits (N, 1, 28, 28), where the first one is."""
    device = digits[0][1].device
    hundreds, tens, ones = (labels.to(device) for _, labels in digits)
    return torch.cat([images.to(device) for images, _ in digits], 1), 100 * hundreds + 10 * tens + ones


class StackedMNIST(MNIST):
    """Images (N, 3, 28, 28) in [-1, 1] of three MNIST digits abc, and their labels 100 a + 10 b + c (N,).

    Memory holds MNIST's images alone. In an epoch each training image is the first channel once, in a new order; the
    other two are drawn for every batch from (seed, batch) alone, so that a resumed run sees the same triples. Deviates
    from the later papers, which draw 128,000 triples once: here, as in the first one, all are new. Validation and test
    triples are made of the images of their own split, always the same ones.

    >>> StackedMNIST().spec
    SampleSpec(in_channels=3, image_size=28, num_classes=1000)
    """

    name = "Stacked MNIST"
    class_names = tuple(f"{number:03}" for number in range(1000))
    in_channels = 3
    stores_samples = False

    def assemble(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1] == 3:  # of an evaluation
            return images, labels
        assert self.train_split is not None
        second, third = torch.randint(len(self.train_split.labels), (2, len(labels)))
        stored, classes = self.train_split
        return stack((images, labels), *((stored[index], classes[index]) for index in (second, third)))

    def evaluated(self, split: Split) -> InMemoryDataset:
        return StackedDigits(split)

    def describe(self) -> str:
        return f"{super().describe()}; each stacked with two others drawn at random, 1,000 modes"
