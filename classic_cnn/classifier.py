"""The loop that all classifiers share: cross-entropy, accuracy, optimizer and schedule."""

import inspect
from collections.abc import Callable
from typing import Any, TypedDict

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class Recipe(TypedDict, total=False):
    """How to train, the same for every classifier; see `ImageClassifier`."""

    optimizer: Callable[..., Optimizer]
    lr_scheduler: Callable[..., LRScheduler | ReduceLROnPlateau] | None
    label_smoothing: float
    channels_last: bool
    init_from: str | None


class ImageClassifier(LightningModule):
    """A net that gives each image of a batch one score a class; an architecture adds its layers and `forward`.

    Args:
        optimizer: makes the optimizer from the parameters (`functools.partial(torch.optim.SGD, lr=0.1)`); Adam's
            defaults where it is not given.
        lr_scheduler: makes the schedule from the optimizer. One with an argument `total_steps` is told it and stepped
            after every batch, any other after every epoch; ReduceLROnPlateau looks at val/loss.
        label_smoothing: the share of probability that the target spreads over all classes, in [0, 1].
        channels_last: keep weights as (N, H, W, C) in memory: the same results to rounding, faster on most machines.
        init_from: a checkpoint whose layers a new training starts from; read by task=train, never when it goes on.

    Raises:
        ValueError: `label_smoothing` is out of its range.
    """

    image_size = 28  # the side in pixels of the images that the net was made for

    def __init__(
        self,
        optimizer: Callable[..., Optimizer] = Adam,
        lr_scheduler: Callable[..., LRScheduler | ReduceLROnPlateau] | None = None,
        label_smoothing: float = 0.0,
        channels_last: bool = True,
        init_from: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"model.label_smoothing={label_smoothing}: a number from 0 to 1 is needed")
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.label_smoothing = label_smoothing
        self.channels_last = channels_last
        self.init_from = init_from
        self.images_seen = 0  # since the last line in the log
        self.register_buffer("sums", torch.zeros(2), persistent=False)  # of loss and of correct answers, alike
        self.sums: Tensor

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, from logits (N, K) and labels (N,)."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing if self.training else 0.0)

    def training_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to minimize and the logits; a net with losses of its own (auxiliary classifiers) overrides it."""
        logits = self(images)
        return self.loss(logits, labels), logits

    def setup(self, stage: str) -> None:
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def ends_logged_step(self) -> bool:
        """Whether the step goes into the log and this batch is its last; a key costs 0.4 ms."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every == 0 or (self.global_step + 1) % every:
            return False
        return not self.trainer.fit_loop._should_accumulate()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss, logits = self.training_loss(images, labels)
        with torch.no_grad():  # summed up on the device; every look at a sum would wait for it
            correct = (logits.argmax(1) == labels).sum()
            self.sums += torch.stack([loss.detach() * len(labels), correct])
        self.images_seen += len(labels)
        if self.ends_logged_step():
            loss_mean, accuracy = self.sums / self.images_seen
            self.log_dict({"train/loss": loss_mean, "train/accuracy": accuracy}, prog_bar=True)
            self.sums.zero_()
            self.images_seen = 0
        return loss

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> dict[str, Tensor]:
        images, labels = batch
        logits = self(images)
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.log_dict(
            {f"{stage}/loss": self.loss(logits, labels), f"{stage}/accuracy": accuracy},
            batch_size=len(labels),
            prog_bar=True,
            sync_dist=True,
        )
        return {"logits": logits, "labels": labels}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch, "test")

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Class probabilities (N, K)."""
        return self(batch[0]).softmax(1)

    def warm_start(self, weights: dict[str, Tensor]) -> list[str]:
        """Takes over each layer that has its name and its shapes in the `weights` of another net; returns their names.

        Raises:
            ValueError: there is none.
        """
        own = self.state_dict()
        new = {layer_of(name) for name in own if name not in weights or weights[name].shape != own[name].shape}
        taken = {name: weights[name] for name in own if layer_of(name) not in new}
        if not taken:
            raise ValueError(
                f"model.init_from={self.init_from}: has no layer in common with this {type(self).__name__}"
            )
        self.load_state_dict(taken, strict=False)
        return list(dict.fromkeys(map(layer_of, taken)))

    def parameter_groups(self) -> Any:
        """What the optimizer gets; a net whose paper treats some weights differently overrides it."""
        return self.parameters()

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameter_groups())
        if self.lr_scheduler is None:
            return optimizer
        every_batch = "total_steps" in inspect.signature(self.lr_scheduler).parameters
        total_steps = {"total_steps": int(self.trainer.estimated_stepping_batches)} if every_batch else {}
        scheduler = {
            "scheduler": self.lr_scheduler(optimizer, **total_steps),
            "interval": "step" if every_batch else "epoch",
            "monitor": "val/loss",
        }
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def layer_of(name: str) -> str:
    """
    >>> layer_of("features.0.weight")
    'features.0'
    """
    return name.rpartition(".")[0]
