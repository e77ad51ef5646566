"""The contenders of `benchmarks.throughput` that are not `run.py`: python -m benchmarks.contenders NAME.

Each trains a net, LeNet-5 in its modern form if --model says nothing else, with Adam for an epoch of MNIST and
validates it, and tells the processor time that this took from the second step on.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import Compose, Normalize, ToTensor

import run
from benchmarks.clock import Clock
from benchmarks.measure import tell
from datamodules.in_memory import Split
from datamodules.mnist import MNIST
from tasks.build import build_model
from tasks.process import keep_freed_memory

VALIDATION_BATCH_SIZE = 1000
TEMPLATE = "Lightning, Normalize per image, metrics per step"
Batches = Iterable[tuple[Tensor, Tensor]]


class Setting(NamedTuple):
    """What is trained, and how much of an epoch at most."""

    model: str = "lenet"
    batch_size: int = 100
    batches: int | None = None  # None = all

    def net(self, *overrides: str) -> nn.Module:
        return build_model(run.compose(f"model={self.model}", *overrides).model, MNIST())

    def resident(self) -> tuple["ResidentBatches", "ResidentBatches"]:
        train, val = splits()
        return ResidentBatches(train, self.batch_size), ResidentBatches(val, VALIDATION_BATCH_SIZE)

    def per_image(self, transform: Callable[[Image.Image], Tensor]) -> tuple[Batches, Batches]:
        train, val = (PilImages(split, transform) for split in splits())
        return DataLoader(train, self.batch_size, shuffle=True), DataLoader(val, VALIDATION_BATCH_SIZE)


class PilImages(Dataset[tuple[Tensor, int]]):
    """Image by image through PIL, as torchvision.datasets.MNIST does it."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.labels = split
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index, 0].numpy())), int(self.labels[index])


class ResidentBatches:
    """A float tensor in memory, cut into batches in a new random order."""

    def __init__(self, split: Split, batch_size: int) -> None:
        self.images, self.labels, self.batch_size = split.images.float().div(127.5).sub(1), split.labels, batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(self.labels)).split(self.batch_size):
            yield self.images[index], self.labels[index]


class CommonTemplate(LightningModule):
    """What the usual Lightning templates do: a metric object and a log entry at every step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.train_accuracy = MulticlassAccuracy(10, average="micro")
        self.val_accuracy = MulticlassAccuracy(10, average="micro")
        self.test_accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.net(images)
        self.val_accuracy(logits, labels)
        self.log("val/loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log("val/accuracy", self.val_accuracy, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.test_accuracy(self.net(images), labels)
        self.log("test/accuracy", self.test_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def without_lightnings_search() -> None:
    """Has a loop of its own not pay for Lightning's way of looking for a GPU, 0.1 ms a step, as a run does not."""
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # set by its import


def plain_epoch(net: nn.Module, train: Batches, val: Batches, batches: int | None) -> None:
    """An epoch of a loop without any framework."""
    without_lightnings_search()
    optimizer = torch.optim.Adam(net.parameters())
    start = 0.0
    for step, (images, labels) in enumerate(islice(train, batches)):
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        start = time.process_time() if step == 0 else start
    with torch.no_grad():
        sum((net(images).argmax(1) == labels).sum() for images, labels in islice(val, batches))
    tell(epoch=time.process_time() - start)


def splits() -> tuple[Split, Split]:
    data = MNIST()
    data.prepare_data()
    data.setup("fit")
    assert data.train_split is not None
    assert data.val_split is not None
    return data.train_split, data.val_split


def resident(setting: Setting, channels_last: bool = False) -> None:
    net = setting.net().to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    plain_epoch(net, *setting.resident(), setting.batches)


def resident_with_memory_kept(setting: Setting) -> None:
    keep_freed_memory()
    resident(setting, channels_last=True)


def per_image(setting: Setting) -> None:
    plain_epoch(setting.net(), *setting.per_image(ToTensor()), setting.batches)


def template_trainer(folder: str, clock: Callback, epochs: int, batches: int | None) -> Trainer:
    """A Trainer with the logger and the checkpoints that the usual Lightning templates have, and a clock."""
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        limit_train_batches=batches,
        limit_val_batches=batches,
        limit_test_batches=batches,
        logger=TensorBoardLogger(folder),
        callbacks=[clock, ModelCheckpoint(f"{folder}/checkpoints", monitor="val/accuracy", mode="max", save_last=True)],
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def common_template(setting: Setting) -> None:
    loaders = setting.per_image(Compose([ToTensor(), Normalize((0.1307,), (0.3081,))]))
    with TemporaryDirectory() as folder:
        trainer = template_trainer(folder, Clock(), 1, setting.batches)
        trainer.fit(CommonTemplate(setting.net("model.channels_last=false")), *loaders)


class BareModule(LightningModule):
    """The least that Lightning trains: a loss, and hits of the validation images that are summed."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.hits = torch.zeros(())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.hits = self.hits + (self.net(images).argmax(1) == labels).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def bare_lightning(setting: Setting) -> None:
    keep_freed_memory()
    without_lightnings_search()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        limit_train_batches=setting.batches,
        limit_val_batches=setting.batches,
        callbacks=[Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    net = setting.net().to(memory_format=torch.channels_last)
    trainer.fit(BareModule(net), *setting.resident())


PLAIN: dict[str, Callable[[Setting], None]] = {
    "plain loop, images in memory": resident,
    "the same, channels_last": lambda setting: resident(setting, channels_last=True),
    "the same, and freed memory kept": resident_with_memory_kept,
}
COMMON: dict[str, Callable[[Setting], None]] = {
    "plain loop, DataLoader and ToTensor per image": per_image,
    TEMPLATE: common_template,
    "Lightning's loop with that net and no more, images in memory": bare_lightning,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One contender in a process of its own; the other modules start it.")
    parser.add_argument("contender", choices=PLAIN | COMMON)
    parser.add_argument("--model", default=Setting().model)
    parser.add_argument("--batch-size", type=int, default=Setting().batch_size)
    parser.add_argument("--batches", type=int, default=0, help="at most; 0 = all of an epoch")
    arguments = parser.parse_args()
    setting = Setting(arguments.model, arguments.batch_size, arguments.batches or None)
    (PLAIN | COMMON)[arguments.contender](setting)
