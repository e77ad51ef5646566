"""A look at whether one of the two nets has overpowered the other, at log steps only."""

import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from gan.adversarial import GAN


class CollapseWatch(Callback):
    """Warns, on the console and in TensorBoard, of the three ways in which a GAN ends up learning nothing.

    At every generator step that goes into the log it measures, and logs as watch/..., the discriminator's accuracy on
    the batch and as many samples (at 0 or 1 one side has won), the norm of the generator's gradient (at 0 it stands
    still) and the diversity of the samples: their standard deviation around their mean image over that of the real
    ones (at 0 all are alike). It warns once when a value stays beyond its bound, and again after it had recovered.

    Args:
        accuracy: how near to 0 or 1 the discriminator's accuracy may come.
        gradient_norm: the least norm of the generator's gradient.
        diversity: the least diversity of the samples.
        patience: log steps in a row beyond a bound before the warning.
        start: generator steps before which it only measures: new nets make images that are all alike.

    Raises:
        ValueError: `patience` is below 1.
    """

    def __init__(
        self,
        accuracy: float = 0.01,
        gradient_norm: float = 1e-4,
        diversity: float = 0.1,
        patience: int = 3,
        start: int = 500,
    ) -> None:
        if patience < 1:
            raise ValueError(f"callbacks.watch.patience={patience}: a whole number above 0 is needed")
        self.accuracy = accuracy
        self.least = {"generator_gradient_norm": gradient_norm, "sample_diversity": diversity}
        self.patience = patience
        self.start = start
        self.norm: Tensor | None = None  # of this step, if it is logged
        self.in_a_row: dict[str, int] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, GAN)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if optimizer is trainer.optimizers[0] and every and (trainer.global_step + 1) % every == 0:
            gradients = [weight.grad for weight in pl_module.generator.parameters() if weight.grad is not None]
            self.norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        norm, self.norm = self.norm, None
        if norm is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, GAN)
        values = {"generator_gradient_norm": norm.item()} | look(pl_module, *batch)
        if pl_module.logger is not None:
            named = {f"watch/{name}": value for name, value in values.items()}
            pl_module.logger.log_metrics(named, step=trainer.global_step)
        for problem in self.problems(values) if trainer.global_step > self.start else ():
            line = f"warning      generator step {trainer.global_step}: {problem}"
            print(line, flush=True)
            if isinstance(trainer.logger, TensorBoardLogger):
                trainer.logger.experiment.add_text("watch/warnings", line, trainer.global_step)

    def problems(self, values: dict[str, float]) -> list[str]:
        """What has stayed beyond its bound for just as long as our patience lasts, a line each.

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
            self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if problem else 0
            if self.in_a_row[name] == self.patience:
                lines.append(problem)
        return lines

    def problem(self, name: str, value: float) -> str:
        if not math.isfinite(value):
            return f"{name} is {value}"
        if name == "discriminator_accuracy":
            if self.accuracy < value < 1 - self.accuracy:
                return ""
            winner = "the generator" if value < 0.5 else "the discriminator"
            return f"{name} is {value:.3g}: {winner} has overpowered the other"
        return f"{name} is {value:.3g}, below {self.least[name]:g}" if value < self.least[name] else ""

    def state_dict(self) -> dict[str, Any]:
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.in_a_row = state_dict["in_a_row"]


@torch.no_grad()
def look(model: GAN, real: Tensor, labels: Tensor) -> dict[str, float]:
    """The discriminator's accuracy, if it has one, and the samples' diversity, of the fixed latents; draws nothing."""
    fake = model.images_of_fixed_latents(averaged=False)
    values = {"sample_diversity": (spread(fake) / spread(real)).item()}
    count = min(len(real), len(fake))
    given = () if model.num_classes is None else (labels[:count],)
    if given:
        fake = model.images_of(model.fixed_latents[:count], *given, averaged=False)
    training = model.discriminator.training
    model.discriminator.eval()
    accuracy = model.discriminator_accuracy(real[:count], fake[:count], *given)
    model.discriminator.train(training)
    return values if accuracy is None else values | {"discriminator_accuracy": accuracy.item()}


def spread(images: Tensor) -> Tensor:
    """The root mean squared distance of images (N, 1, 28, 28) from their mean, a pixel."""
    return images.float().var(0, correction=0).mean().sqrt()
