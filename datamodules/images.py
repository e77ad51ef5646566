"""The contract of every data set: uint8 images resident in memory, whole batches transformed on the training device."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchvision.transforms import v2

from datamodules.formats import read_labelled

NORMALIZATIONS = ("half", "pixel_mean")


class Split(NamedTuple):
    """Images, uint8 of shape (N, 1, 28, 28), and their labels, int64 of shape (N,)."""

    images: Tensor
    labels: Tensor


class ResidentImages(Dataset[tuple[Tensor, Tensor]]):
    """Images that stay in memory once; a batch is one indexed gather."""

    def __init__(self, split: Split) -> None:
        self.images, self.labels = split

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(indices)
        return self.images[index], self.labels[index]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


class TrainLoader(DataLoader[tuple[Tensor, Tensor]]):
    """A DataLoader that starts where the trainer is in its epoch: a run resumed in the middle sees the rest of it.

    Lightning would restore a loader's own `state_dict` only if nobody had asked for `estimated_stepping_batches` (as
    one-cycle schedules do) before; its count of finished batches is right in any case.
    """

    trainer: Trainer | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator: nothing happens before the first batch
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer else 0
        yield from islice(super().__iter__(), done, None)


class ImageData(LightningDataModule):
    """Batches of images, float32 (N, 1, S, S) in [-1, 1], and labels, int64 (N,). A data set overrides `read`.

    Args:
        root: folder in which the data set's files are looked for and, where they have to be fetched, put.
        batch_size: images a training step, a process.
        image_size: S, the side in pixels that the net reads; 28 leaves the images as they are.
        augment: transforms of a float batch (N, 1, 28, 28) in [0, 1], for training only, in their order.
        normalize: "half" maps [0, 1] to [-1, 1]; "pixel_mean" scales alike but centres each pixel on its mean over the
            training images (Krizhevsky et al. 2012, section 2), so that values lie in [-2, 2].
        limit_train: use only the first n training images of each class.
        extend_with: a labelled set (CSV, IDX, PNG) whose images are added to these.
        seed: seeds the order of the images, a new one every epoch, and what is drawn in a training step.

    Raises:
        ValueError: an argument is out of its range.
    """

    name: str  # how a person calls the set
    class_names: tuple[str, ...] = tuple("0123456789")
    centred_digits = False  # drawn as MNIST's digits are: 20x20 pixels around their centre of mass

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        image_size: int = 28,
        augment: Sequence[Callable[[Tensor], Tensor]] = (),
        normalize: str = "half",
        limit_train: int | None = None,
        extend_with: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {"batch_size": batch_size, "image_size": image_size, "limit_train": limit_train}.items():
            if not (isinstance(value, int) and value > 0) and not (name == "limit_train" and value is None):
                raise ValueError(f"data.{name}={value}: a whole number above 0 is needed")
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"data.normalize={normalize}: choose one of {', '.join(NORMALIZATIONS)}")
        self.root = root
        self.batch_size = batch_size
        self.image_size = image_size
        self.augment = tuple(augment)
        self.normalize = normalize
        self.limit_train = limit_train
        self.extend_with = extend_with
        self.added = 0  # images out of it
        self.seed = seed
        self.train_split: Split | None = None
        self.val_split: Split | None = None
        self.test_split: Split | None = None  # None: the set has no official test images
        self.source = ""  # where the files were found
        self.mean = torch.tensor(0.5)
        self.resize = v2.Resize(image_size, antialias=True)

    def read(self) -> None:
        """Sets `train_split`, `val_split`, `test_split` and `source`; runs once a process."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if self.train_split is None:
            self.read()
            assert self.train_split is not None
            if self.limit_train is not None:
                self.train_split = first_of_each_class(self.train_split, self.limit_train)
            if self.extend_with is not None:
                images, labels = read_labelled(self.extend_with, "data.extend_with", len(self.class_names))
                real, self.added = self.train_split, len(labels)
                self.train_split = Split(torch.cat([real.images, images]), torch.cat([real.labels, labels]))
            if self.normalize == "pixel_mean":
                self.mean = self.train_split.images.float().mean(0) / 255  # (1, 28, 28)

    def describe(self) -> str:
        """One line: what was read, how much, from where."""
        splits = {"train": self.train_split, "validation": self.val_split, "test": self.test_split}
        sizes = " / ".join(f"{len(split.labels):,} {name}" for name, split in splits.items() if split)
        added = f"; {self.added:,} of the training images from {self.extend_with}" if self.added else ""
        return f"{self.name}: {sizes} images, checksum ok ({self.source}){added}"

    def train_dataloader(self) -> TrainLoader:
        assert self.train_split is not None, "setup() comes first"
        images = ResidentImages(self.train_split)
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        # one process or many: the order comes from (seed, epoch) alone, which makes a run resumable
        sampler: DistributedSampler[Any] = DistributedSampler(images, replicas, rank, shuffle=True, seed=self.seed)
        loader = TrainLoader(images, self.batch_size, sampler=sampler, collate_fn=lambda batch: batch)
        loader.trainer = self.trainer
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        return self._evaluation_loader(self.val_split)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._evaluation_loader(self.test_split)

    def _evaluation_loader(self, split: Split | None) -> DataLoader[Any]:
        assert split is not None, "setup() comes first"
        batch_size = max(self.batch_size, 1000)  # no gradients: room for more images
        return DataLoader(ResidentImages(split), batch_size, collate_fn=lambda batch: batch)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer and self.trainer.training:  # dropout and augmentation depend on (seed, batch) alone: resumable
            batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
            torch.manual_seed(self.seed + 1_000_003 * batches + 10_007 * self.trainer.global_rank)
        return batch

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return self.transform(images, augment=bool(self.trainer and self.trainer.training)), labels

    def examples(self, count: int) -> Tensor:
        """Up to `count` training images as a net reads them, from all over the set: it may be stored class by class."""
        assert self.train_split is not None, "setup() comes first"
        index = torch.linspace(0, len(self.train_split.labels) - 1, min(count, len(self.train_split.labels))).long()
        images, _ = self.on_before_batch_transfer((self.train_split.images[index], self.train_split.labels[index]), 0)
        return self.transform(images)

    def transform(self, images: Tensor, augment: bool = False) -> Tensor:
        """From stored pixels, uint8 (N, 1, 28, 28), to what a net reads: float32 (N, 1, S, S)."""
        pixels = images.float() / 255  # (N, 1, 28, 28) in [0, 1]: 0 is the background, so augmentations pad with it
        if augment:
            for transform in self.augment:
                pixels = transform(pixels)
        self.mean = self.mean.to(pixels.device)
        pixels = (pixels - self.mean) * 2
        return pixels if pixels.shape[-1] == self.image_size else self.resize(pixels)


def first_of_each_class(split: Split, count: int) -> Split:
    """The first `count` images of each class, in their old order.

    >>> first_of_each_class(Split(torch.zeros(5, 1, 28, 28), torch.tensor([0, 1, 0, 1, 0])), 2).labels
    tensor([0, 1, 0, 1])

    Raises:
        ValueError: a class has fewer images.
    """
    chosen = []
    for label in split.labels.unique():
        of_class = torch.nonzero(split.labels == label).flatten()
        if len(of_class) < count:
            raise ValueError(f"data.limit_train={count}: class {label} has only {len(of_class)} training images")
        chosen.append(of_class[:count])
    index = torch.cat(chosen).sort().values
    return Split(split.images[index], split.labels[index])
