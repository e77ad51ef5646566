"""The base of every data set: samples that stay in memory, served in batches whose order makes a run resumable."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from datamodules.contract import ArgumentError, CheckedArguments, Count, Index, SampleSpec


class Split(NamedTuple):
    """Samples, such as images uint8 (N, 1, 28, 28), and their labels, int64 (N,)."""

    images: Tensor
    labels: Tensor


class InMemoryDataset(Dataset[tuple[Tensor, Tensor]]):
    """Samples that stay in memory; a batch of them is one indexed gather."""

    def __init__(self, split: Split) -> None:
        self.images, self.labels = split

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(indices)
        return self.images[index], self.labels[index]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


def place(split: Split, device: torch.device, room: int) -> Split:
    """The split on a device, if it takes at most `room` bytes there; else as it is.

    >>> place(Split(torch.zeros(2, 1), torch.zeros(2)), torch.device("meta"), room=16).images.device
    device(type='meta')
    """
    if sum(samples.nbytes for samples in split) > room:
        return split
    return Split(*(samples.to(device) for samples in split))


class TrainLoader(DataLoader[tuple[Tensor, Tensor]]):
    """A DataLoader that starts where the trainer is in its epoch: a run resumed in the middle sees the rest of it.

    Lightning would restore a loader's own `state_dict` only if nothing had asked for `estimated_stepping_batches`
    before, as one-cycle schedules do; its count of finished batches is right in any case.
    """

    trainer: Trainer | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator: nothing happens before the first batch
        is_fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING and self.trainer.training
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer and is_fitting else 0
        yield from islice(super().__iter__(), done, None)


class InMemoryData(CheckedArguments, LightningDataModule):
    """A data set that stays in memory. A subclass sets `sample_shape` and overrides `read` and, mostly, `transform`.

    Args:
        batch_size: samples per training step and process.
        seed: seeds the order of the samples, a new one every epoch, and what is drawn in a training step.
    """

    name: str  # what people call the data set
    stores_samples: bool = True  # False: a sample is made of several stored ones

    def __init__(self, batch_size: Count = 128, seed: Index = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed
        self.train_split: Split | None = None
        self.val_split: Split | None = None
        self.test_split: Split | None = None  # None: the set has no official test samples

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample as a net reads it."""
        raise NotImplementedError

    @property
    def spec(self) -> SampleSpec | None:
        """What a net has to know of the images; None where the samples are no images."""
        return None

    def read(self) -> None:
        """Sets `train_split`, `val_split` and `test_split`; is called once per process."""
        raise NotImplementedError

    def describe(self) -> str:
        """One line: what was read, how much, from where."""
        raise NotImplementedError

    def transform(self, images: Tensor, augment: bool = False) -> Tensor:
        """From stored samples to what a net reads."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if self.train_split is None:
            self.read()

    def train_dataloader(self) -> TrainLoader:
        assert self.train_split is not None, "setup() comes first"
        dataset = InMemoryDataset(self.near(self.train_split))
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        # one process or many: the order comes from (seed, epoch) alone, which makes a run resumable
        sampler: DistributedSampler[Any] = DistributedSampler(dataset, replicas, rank, shuffle=True, seed=self.seed)
        loader = TrainLoader(dataset, self.batch_size, sampler=sampler, collate_fn=identity)
        loader.trainer = self.trainer
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        return self._evaluation_loader(self.val_split)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._evaluation_loader(self.test_split)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test images, or the validation images of a set that has no others."""
        return self._evaluation_loader(self.test_split or self.val_split)

    def _evaluation_loader(self, split: Split | None) -> DataLoader[Any]:
        if split is None:
            what = "setup() comes first" if self.train_split is None else "has no such samples, validate on its others"
            raise ValueError(f"{self.name}: {what}")
        # without gradients there is room for more samples: a thousand images of 28x28 pixels
        batch_size = max(self.batch_size, min(1000, 1000 * 28 * 28 // math.prod(self.sample_shape[-2:])))
        dataset = self.evaluated(self.near(split))
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = None
        if 1 < world <= len(split.labels):  # Lightning's own would give every process as many: some of them twice
            sampler = UnrepeatedDistributedSampler(dataset, num_replicas=world, rank=rank, shuffle=False)
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=identity)

    def evaluated(self, split: Split) -> InMemoryDataset:
        """The samples that a net is validated or tested on."""
        return InMemoryDataset(split)

    def near(self, split: Split) -> Split:
        """The split on the GPU that trains, if an eighth of its free memory is enough, so that no batch is copied."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type != "cuda":
            return split
        return place(split, device, room=torch.cuda.mem_get_info(device)[0] // 8)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer and self.trainer.training:  # dropout and augmentation depend on (seed, batch) alone: resumable
            batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
            seed_generators(
                self.seed + 1_000_003 * batches + 10_007 * self.trainer.global_rank, self.trainer.strategy.root_device
            )
        if isinstance(batch, Tensor) or len(batch) != 2:  # the example that Lightning summarizes a model with
            return batch
        return self.assemble(*batch)

    def assemble(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The samples of a batch, made of images (N, ...) and labels (N,) that are stored."""
        return images, labels

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        if isinstance(batch, Tensor) or len(batch) != 2:  # the example that Lightning summarizes a model with
            return batch
        images, labels = batch
        samples = self.transform(images, augment=bool(self.trainer and self.trainer.training))
        # Lightning converts a batch to the model's precision before it is made of floating-point numbers
        return self.trainer.precision_plugin.convert_input(samples) if self.trainer else samples, labels

    def examples(self, count: int) -> Tensor:
        """Up to `count` training samples as a net reads them, evenly spaced: a set may be stored class by class."""
        assert self.train_split is not None, "setup() comes first"
        index = torch.linspace(0, len(self.train_split.labels) - 1, min(count, len(self.train_split.labels))).long()
        images, _ = self.assemble(self.train_split.images[index], self.train_split.labels[index])
        return self.transform(images)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds the random numbers of the CPU and of the device that trains.

    The same numbers as after `torch.manual_seed`, which also prepares devices that are not in use: it formats a stack
    trace for each, 1 ms a batch.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def identity(batch: Any) -> Any:
    """A collate function for batches that are complete. Unlike a lambda, other processes can be given it."""
    return batch


def first_images(split: Split, count: int) -> Split:
    """The first `count` images.

    Raises:
        ValueError: there are fewer.
    """
    if len(split.labels) < count:
        raise ArgumentError("train_images", count, f"should be at most {len(split.labels)}")
    return Split(split.images[:count], split.labels[:count])


def first_of_each_class(split: Split, count: int) -> Split:
    """The first `count` images of each class, in their old order.

    >>> first_of_each_class(Split(torch.zeros(5, 1, 28, 28), torch.tensor([0, 1, 0, 1, 0])), 2).labels
    tensor([0, 1, 0, 1])

    Raises:
        ArgumentError: a class has fewer images.
    """
    labels, sizes = split.labels.unique(return_counts=True)
    if len(sizes) and (least := int(sizes.min())) < count:
        reason = f"should be at most {least}, class {labels[sizes.argmin()]} has no more"
        raise ArgumentError("train_images_per_class", count, reason)
    chosen = [torch.nonzero(split.labels == label).flatten()[:count] for label in labels]
    index = torch.cat(chosen).sort().values
    return Split(split.images[index], split.labels[index])


def divide(split: Split, folds: int, fold: int) -> tuple[Split, Split]:
    """All parts but one, and that part, of samples that are divided into parts with equal shares of each class.

    The division is always the same: each class is shuffled from a fixed seed and dealt out in turn. Samples keep their
    order.

    Raises:
        ValueError: there are fewer samples of a class than parts.

    >>> rest, part = divide(Split(torch.zeros(6, 1, 28, 28), torch.tensor([0, 0, 0, 1, 1, 1])), 3, 0)
    >>> rest.labels, part.labels
    (tensor([0, 0, 1, 1]), tensor([0, 1]))
    """
    generator = torch.Generator().manual_seed(0)
    parts = torch.empty_like(split.labels)
    start = 0  # the part that is dealt to first: the next one in turn, so that no part is larger by several samples
    for label in split.labels.unique():
        members = torch.nonzero(split.labels == label).flatten()
        if len(members) < folds:
            raise ValueError(f"class {label} has only {len(members)} images, fewer than data.num_folds={folds}")
        members = members[torch.randperm(len(members), generator=generator)]
        parts[members] = (torch.arange(len(members)) + start) % folds
        start += len(members)
    chosen = parts == fold
    return Split(split.images[~chosen], split.labels[~chosen]), Split(split.images[chosen], split.labels[chosen])
