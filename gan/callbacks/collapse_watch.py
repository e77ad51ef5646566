"""Watches for collapse: whether one of the two nets has overpowered the other, or all samples look alike."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.contract import CheckedArguments, Count, Index, NonNegative, Share
from gan.adversarial import GAN


class CollapseWatch(CheckedArguments, Callback):
    """Warns, on the console and in TensorBoard, of the three ways in which a GAN stops learning.

    At every logged generator step it computes, and logs as watch/..., the discriminator's accuracy on the batch and as
    many samples (at 0 or 1 one side has won), the norm of the generator's gradient (near 0 it no longer learns) and the
    diversity of the samples: their standard deviation from their mean image relative to that of the real ones (at 0
    all are alike). It warns once when a value stays beyond its bound, and again after it had recovered.

    Args:
        accuracy: how near to 0 or 1 the discriminator's accuracy may come.
        gradient_norm: smallest acceptable norm of the generator's gradient.
        diversity: smallest acceptable diversity of the samples.
        patience: consecutive log steps beyond a bound before the warning.
        start: generator steps before the first warning: the samples of new nets are all alike.
    """

    def __init__(
        self,
        accuracy: Share = 0.01,
        gradient_norm: NonNegative = 1e-4,
        diversity: NonNegative = 0.1,
        patience: Count = 3,
        start: Index = 500,
    ) -> None:
        self.accuracy = accuracy
        self.minimum = {"generator_gradient_norm": gradient_norm, "sample_diversity": diversity}
        self.patience = patience
        self.start = start
        self.gradient_norm: Tensor | None = None  # at this step, if it is logged
        self.consecutive: dict[str, int] = {}  # log steps beyond the bound, by value

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, GAN)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if optimizer is trainer.optimizers[0] and every and (trainer.global_step + 1) % every == 0:
            gradients = [weight.grad for weight in pl_module.generator.parameters() if weight.grad is not None]
            self.gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        norm, self.gradient_norm = self.gradient_norm, None
        if norm is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, GAN)
        values = {"generator_gradient_norm": norm.item()} | collapse_metrics(pl_module, *batch)
        for logger in trainer.loggers:
            logger.log_metrics({f"watch/{name}": value for name, value in values.items()}, step=trainer.global_step)
        for problem in self.problems(values) if trainer.global_step > self.start else ():
            line = f"warning      generator step {trainer.global_step}: {problem}"
            print(line, flush=True)
            if isinstance(trainer.logger, TensorBoardLogger):
                trainer.logger.experiment.add_text("watch/warnings", line, trainer.global_step)

    def problems(self, values: dict[str, float]) -> list[str]:
        """One line for each value that has now been beyond its bound for `patience` log steps.

        >>> watch = CollapseWatch(patience=2)
        >>> watch.problems({"sample_diversity": 0.01})
        []
        >>> watch.problems({"sample_diversity": 0.01})
        ['sample_diversity is 0.01, below 0.1']
        >>> watch.problems({"sample_diversity": 0.01})
        []
        """
        lines = []
        for name, value in values.items():
            problem = self.problem(name, value)
            self.consecutive[name] = self.consecutive.get(name, 0) + 1 if problem else 0
            if self.consecutive[name] == self.patience:
                lines.append(problem)
        return lines

    def problem(self, name: str, value: float) -> str:
        """What is wrong with a value; empty where nothing is."""
        if not math.isfinite(value):
            return f"{name} is {value}"
        if name == "discriminator_accuracy":
            if self.accuracy < value < 1 - self.accuracy:
                return ""
            winner = "the generator" if value < 0.5 else "the discriminator"
            return f"{name} is {value:.3g}: {winner} has overpowered the other"
        return f"{name} is {value:.3g}, below {self.minimum[name]:g}" if value < self.minimum[name] else ""

    def state_dict(self) -> dict[str, Any]:
        return {"consecutive": self.consecutive}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.consecutive = state_dict["consecutive"]


@torch.no_grad()
def collapse_metrics(model: GAN, real: Tensor, labels: Tensor) -> dict[str, float]:
    """Diversity of the fixed samples and, where the discriminator classifies, its accuracy; draws no random numbers."""
    fake = model.fixed_samples(averaged=False)
    values = {"sample_diversity": (deviation(fake) / deviation(real)).item()}
    count = min(len(real), len(fake))
    class_labels = () if model.num_classes is None else (labels[:count],)
    if class_labels:
        fake = model.generate(model.fixed_latents[:count], *class_labels, averaged=False)
    with batch_statistics(model.discriminator):
        accuracy = model.discriminator_accuracy(real[:count], fake[:count], *class_labels)
    return values if accuracy is None else values | {"discriminator_accuracy": accuracy.item()}


@contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """The net in eval mode, but normalized as in training: by each batch's own statistics, of which nothing is kept.

    A discriminator's running statistics mix real and generated images, which it never reads in one batch.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    training, tracked = net.training, [norm.track_running_stats for norm in norms]
    net.eval()
    for norm in norms:
        norm.train()
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, track in zip(norms, tracked, strict=True):
            norm.track_running_stats = track
        net.train(training)


def deviation(images: Tensor) -> Tensor:
    """Root mean squared deviation per pixel of images (N, 1, 28, 28) from their mean image."""
    return images.float().var(0, correction=0).mean().sqrt()
