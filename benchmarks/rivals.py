"""The contenders of `benchmarks.time_to_accuracy` that are not `run.py`: python -m benchmarks.rivals NAME DATA SEED.

Options: --epochs and --batches limit the training, 0 = as the recipe has it. Each trains, validates after every epoch,
is tested once at its end, and tells the same as `benchmarks.clock.AccuracyClock`.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from lightning import seed_everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, ToTensor

import run
from benchmarks.clock import AccuracyClock
from benchmarks.contenders import Batches, CommonTemplate, PilImages, template_trainer, without_lightnings_search
from benchmarks.measure import tell
from datamodules.images import ImageData
from datamodules.in_memory import Split
from datamodules.mnist import MNIST, FashionMNIST
from tasks.build import build
from tasks.prepare import prepare
from tasks.process import keep_freed_memory

DATA: dict[str, type[ImageData]] = {"mnist": MNIST, "fashion_mnist": FashionMNIST}
TO_TENSOR = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])


class Job(NamedTuple):
    """What is trained on, and how much at most; 0 = as the recipe has it."""

    data: str
    epochs: int
    batches: int

    def splits(self) -> list[Split]:
        """Training, validation and test images."""
        data = DATA[self.data]()
        data.prepare_data()
        data.setup()
        return [split for split in (data.train_split, data.val_split, data.test_split) if split is not None]

    def loaders(self, batch_size: int, evaluation_batch_size: int) -> list[DataLoader[Any]]:
        """The splits, read image by image through PIL."""
        train, *others = (PilImages(split, TO_TENSOR) for split in self.splits())
        return [
            DataLoader(train, batch_size, shuffle=True),
            *(DataLoader(part, evaluation_batch_size) for part in others),
        ]


class ExampleNet(nn.Module):
    """The net of PyTorch's MNIST example, (N, 1, 28, 28) -> (N, 10), 1,199,882 parameters.

    >>> sum(parameter.numel() for parameter in ExampleNet().parameters())
    1199882
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def dense_net() -> nn.Module:
    """The net of the Lightning and Hydra template: three hidden layers with batch normalization."""
    sizes = (784, 64, 128, 64)
    layers = [[nn.Linear(m, n), nn.BatchNorm1d(n), nn.ReLU()] for m, n in pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *(part for layer in layers for part in layer), nn.Linear(64, 10))


def accuracy(net: nn.Module, batches: Batches) -> float:
    net.eval()
    with torch.no_grad():
        hits = [net(images).argmax(1) == labels for images, labels in batches]
    net.train()
    return torch.cat(hits).float().mean().item()


def plain_loop(
    epochs: int, train: Callable[[], Batches], step: Callable[[Tensor, Tensor], None], end: Callable[[], float]
) -> list[tuple[float, float, float]]:
    """A loop without any framework; `end` ends an epoch and returns the validation accuracy."""
    without_lightnings_search()
    curve, training = [], 0.0
    for _ in range(epochs):
        start = time.process_time()
        for images, labels in train():
            step(images, labels)
        training += time.process_time() - start
        value = end()
        curve.append((training, time.process_time(), value))
    return curve


def pytorch_example(job: Job) -> None:
    """Adadelta at 1.0, 0.7 of the rate after each of 14 epochs, batches of 64, an image at a time."""
    train, val, test = job.loaders(64, 1000)
    net = ExampleNet()
    optimizer = torch.optim.Adadelta(net.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    def end() -> float:
        schedule.step()
        return accuracy(net, islice(val, job.batches or None))

    curve = plain_loop(job.epochs or 14, lambda: islice(train, job.batches or None), step, end)
    tell(curve=curve, test=accuracy(net, islice(test, job.batches or None)))


def lightning_template(job: Job) -> None:
    """Its dense net, Adam at 0.001, batches of 128, 10 epochs, an image at a time, metric objects at every step."""
    train, val, test = job.loaders(128, 128)
    with TemporaryDirectory() as folder:
        model = CommonTemplate(dense_net())
        trainer = template_trainer(folder, AccuracyClock(), job.epochs or 10, job.batches or None)
        trainer.fit(model, train, val)
        trainer.test(model, test, ckpt_path="best", verbose=False)


def bare_recipe(experiment: str, job: Job) -> None:
    """The recipe of an experiment in a loop without any framework, the images in memory as a net reads them."""
    keep_freed_memory()
    cfg = prepare(run.compose(f"experiment={experiment}", f"data={job.data}"))
    with TemporaryDirectory() as folder:
        parts = build(cfg, Path(folder))
    model: Any = parts[0]
    data: Any = parts[1]
    data.prepare_data()
    data.setup("fit")
    splits = [
        (data.transform(part.images), part.labels) for part in (data.train_split, data.val_split, data.test_split)
    ]
    (images, labels), val, test = splits
    epochs, size = job.epochs or cfg.trainer.max_epochs, cfg.data.batch_size
    steps = min(-(-len(labels) // size), job.batches or len(labels))
    model.setup("fit")
    optimizer = model.optimizer(model.parameter_groups())
    schedule = model.lr_scheduler(optimizer, total_steps=steps * epochs)

    def batches() -> Batches:
        for index in islice(torch.randperm(len(labels)).split(size), steps):
            yield images[index], labels[index]

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        model.loss(model(images), labels).backward()
        optimizer.step()
        schedule.step()

    curve = plain_loop(epochs, batches, step, lambda: accuracy(model, chunks(*val)))
    tell(curve=curve, test=accuracy(model, chunks(*test)))


def chunks(images: Tensor, labels: Tensor) -> Batches:
    return zip(images.split(1000), labels.split(1000), strict=True)


EXAMPLE, TEMPLATE = "PyTorch's MNIST example", "Lightning and Hydra template, its dense net"
RIVALS: dict[str, Callable[[Job], None]] = {
    "plain loop with the recipe of lenet_fast": partial(bare_recipe, "lenet_fast"),
    EXAMPLE: pytorch_example,
    TEMPLATE: lightning_template,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RIVALS)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("seed", type=int)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--batches", type=int, default=0)
    parsed = parser.parse_args(arguments)
    seed_everything(parsed.seed, verbose=False)
    RIVALS[parsed.name](Job(parsed.data, parsed.epochs, parsed.batches))


if __name__ == "__main__":
    main()
