"""How much of the machine a run gets: images a second of ours against a plain PyTorch loop and against the usual way.

    python -m benchmarks.throughput            # about 10 minutes on two CPU cores
    python -m benchmarks.throughput --rounds 1

LeNet-5 in its modern form, Adam, batches of 100, MNIST; an epoch is 55,000 training and 5,000 validation images. The
contenders take turns, round after round, so that whatever else the machine does meets them all; the median of the
rounds counts. What is paid once a run (imports, the picture of the net's graph) is left out.

How ours keeps up: the images lie in memory as uint8 once and a batch is one gather, scaled as a batch on the device,
where the usual way handles 55,000 PIL images one by one. Loss and accuracy are summed on the device and read every 50
steps, where `self.log` and torchmetrics at every step cost 0.3 to 0.7 ms a key. Weights lie as channels_last, which
makes LeNet's convolutions faster on a CPU; the plain loop is shown with and without it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import open_dict
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import Compose, Normalize, ToTensor

from classic_cnn.lenet import LeNet5
from datamodules.images import Split
from datamodules.mnist import MNIST

BATCH_SIZE = 100


class Clock(Callback):
    """Takes the time of an epoch under Lightning: training, validation and checkpoint, from the second step on."""

    seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        if i == 0:
            self.start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.start


class PilImages(Dataset[tuple[Tensor, int]]):
    """Image by image through PIL, as torchvision.datasets.MNIST does it."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.labels = split
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index, 0].numpy())), int(self.labels[index])


class CommonTemplate(LightningModule):
    """What the usual Lightning templates do: a metric object and a log entry at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = LeNet5(channels_last=False)
        self.train_accuracy = MulticlassAccuracy(10, average="micro")
        self.val_accuracy = MulticlassAccuracy(10, average="micro")

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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def plain_epoch(net: nn.Module, train: list[Any] | DataLoader[Any], val: list[Any] | DataLoader[Any]) -> float:
    """Seconds of an epoch of a loop without any framework, from the second step on."""
    optimizer = torch.optim.Adam(net.parameters())
    start = 0.0
    for step, (images, labels) in enumerate(train):
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        start = time.perf_counter() if step == 0 else start
    with torch.no_grad():
        sum((net(images).argmax(1) == labels).sum() for images, labels in val)
    return time.perf_counter() - start


class ResidentBatches(list[Any]):
    """A float tensor in memory, cut into batches in a new random order."""

    def __init__(self, split: Split, batch_size: int) -> None:
        super().__init__()
        self.images, self.labels, self.batch_size = split.images.float().div(127.5).sub(1), split.labels, batch_size

    def __iter__(self) -> Any:
        for index in torch.randperm(len(self.labels)).split(self.batch_size):
            yield self.images[index], self.labels[index]


def plain_resident(data: MNIST, channels_last: bool) -> float:
    assert data.train_split is not None
    assert data.val_split is not None
    net = LeNet5()
    net = net.to(memory_format=torch.channels_last) if channels_last else net
    return plain_epoch(net, ResidentBatches(data.train_split, BATCH_SIZE), ResidentBatches(data.val_split, 1000))


def plain_per_image(data: MNIST) -> float:
    assert data.train_split is not None
    assert data.val_split is not None
    train = DataLoader(PilImages(data.train_split, ToTensor()), BATCH_SIZE, shuffle=True)
    return plain_epoch(LeNet5(), train, DataLoader(PilImages(data.val_split, ToTensor()), 1000))


def common_template(data: MNIST) -> float:
    assert data.train_split is not None
    assert data.val_split is not None
    transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
    clock = Clock()
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=[clock, ModelCheckpoint(folder, monitor="val/accuracy", mode="max", save_last=True)],
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        train = DataLoader(PilImages(data.train_split, transform), BATCH_SIZE, shuffle=True)
        trainer.fit(CommonTemplate(), train, DataLoader(PilImages(data.val_split, transform), 1000))
    return clock.seconds


def ours(data: MNIST) -> float:
    """`python run.py` with all that is on by default: progress bar, TensorBoard, figures, metrics, checkpoints."""
    from tasks.build import build

    clock = Clock()
    with TemporaryDirectory() as folder:
        cfg = composed(folder, data.root)
        model, datamodule, trainer = build(cfg)
        trainer.callbacks.insert(0, clock)  # type: ignore[attr-defined]
        trainer.fit(model, datamodule=datamodule)
    return clock.seconds


def composed(folder: str, root: str) -> Any:
    """The config of `run.py model=lenet data=mnist data.batch_size=100 trainer.max_epochs=1`, writing into `folder`."""
    overrides = [
        f"data.root={root}",
        f"data.batch_size={BATCH_SIZE}",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
    ]
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        cfg = compose("config", [*overrides, "model.lr_scheduler=null"])
    with open_dict(cfg):
        cfg.trainer.default_root_dir = cfg.trainer.logger.save_dir = folder
        cfg.callbacks.checkpoint.dirpath = f"{folder}/checkpoints"
    return cfg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default 3)")
    arguments = parser.parse_args()
    data = MNIST(os.environ.get("DATA_ROOT", "data"), batch_size=BATCH_SIZE)
    data.prepare_data()
    data.setup("fit")
    contenders: dict[str, Callable[[], float]] = {
        "plain PyTorch loop over a resident tensor": lambda: plain_resident(data, channels_last=False),
        "the same, channels_last": lambda: plain_resident(data, channels_last=True),
        "ours, all defaults on": lambda: ours(data),
        "plain loop, DataLoader and per-image ToTensor": lambda: plain_per_image(data),
        "Lightning, per-image Normalize, per-step metrics": lambda: common_template(data),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(arguments.rounds):
        for name, contender in contenders.items():
            print(f"round {number + 1} of {arguments.rounds}: {name}", flush=True)
            seconds[name].append(contender())
            print(f"{seconds[name][-1]:.2f} s", flush=True)
    show(seconds)


def show(seconds: dict[str, list[float]]) -> None:
    reference = statistics.median(next(iter(seconds.values())))
    table = Table("contender", "s an epoch", "images/s", "time, plain loop = 1")
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(name, f"{median:.2f}", f"{60_000 / median:,.0f}", f"{median / reference:.2f}")
    Console().print(table)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
