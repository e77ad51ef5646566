"""The loop that all GANs share: a generator and a discriminator that train against each other."""

from collections.abc import Callable
from typing import TypedDict

import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torchvision.utils import make_grid


class Recipe(TypedDict, total=False):
    """How to train, the same for every GAN; see `GAN`."""

    optimizer: Callable[..., Optimizer]
    discriminator_optimizer: Callable[..., Optimizer] | None
    discriminator_steps: int
    saturating: bool


class GAN(LightningModule):
    """Generative adversarial nets: Goodfellow et al., "Generative Adversarial Nets", 2014. Latents (N, Z) -> images.

    A paper's GAN gives a generator, latents (N, latent_dim) -> images (N, 1, 28, 28) in [-1, 1], and a discriminator,
    images -> logits (N,), and overrides only the losses or the step that its paper changes. `trainer.global_step`, the
    x axis of the log and `trainer.max_steps` count generator steps. The losses measure the balance of the two nets,
    not the quality of the images.

    Args:
        generator, discriminator: the two nets.
        latent_dim: numbers that an image is made from, drawn from N(0, 1).
        optimizer: makes the generator's optimizer, and the discriminator's where that has none of its own.
        discriminator_optimizer: makes the discriminator's.
        discriminator_steps: steps of the discriminator before each step of the generator (k in algorithm 1).
        saturating: the generator minimizes log(1 - D(G(z))), equation 1, instead of maximizing log D(G(z)).

    Raises:
        ValueError: a count is below 1.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: int = 100,
        optimizer: Callable[..., Optimizer] = Adam,
        discriminator_optimizer: Callable[..., Optimizer] | None = None,
        discriminator_steps: int = 1,
        saturating: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {"latent_dim": latent_dim, "discriminator_steps": discriminator_steps}.items():
            if value < 1:
                raise ValueError(f"model.{name}={value}: a whole number above 0 is needed")
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = latent_dim
        self.generator_optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        self.discriminator_steps = discriminator_steps
        self.saturating = saturating
        self.example_input_array = torch.zeros(1, latent_dim)
        self.register_buffer("fixed_latents", torch.randn(64, latent_dim))  # the same from the first epoch to the last
        self.fixed_latents: Tensor

    def forward(self, latents: Tensor) -> Tensor:
        return self.generator(latents)

    def latents(self, count: int) -> Tensor:
        """New latents, (count, latent_dim)."""
        return torch.randn(count, self.latent_dim, device=self.device)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Minus equation 1, to be minimized: real and fake are images (N, 1, 28, 28), fake without gradient.

        -log D(x) - log(1 - D(G(z))), by logits: softplus(-D(x)) + softplus(D(G(z))).
        """
        return F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake)).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """-log D(G(z)), or log(1 - D(G(z))) where `saturating` (section 3, the last paragraph)."""
        logits = self.discriminator(fake)
        return -F.softplus(logits).mean() if self.saturating else F.softplus(-logits).mean()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, _ = batch
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        discriminator_optimizer._on_before_step = discriminator_optimizer._on_after_step = _not_counted

        self.toggle_optimizer(discriminator_optimizer)
        with torch.no_grad():
            fake = self(self.latents(len(real)))
        discriminator_loss = self.discriminator_loss(real, fake)
        discriminator_optimizer.zero_grad()
        self.manual_backward(discriminator_loss)
        discriminator_optimizer.step()
        self.untoggle_optimizer(discriminator_optimizer)

        if (self.trainer.fit_loop.total_batch_idx + 1) % self.discriminator_steps:  # over the ends of epochs
            return
        self.toggle_optimizer(generator_optimizer)
        generator_loss = self.generator_loss(self(self.latents(len(real))))
        generator_optimizer.zero_grad()
        self.manual_backward(generator_loss)
        generator_optimizer.step()
        self.untoggle_optimizer(generator_optimizer)

        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.global_step % every == 0:
            losses = {"train/generator_loss": generator_loss, "train/discriminator_loss": discriminator_loss}
            self.log_dict(losses, prog_bar=True, logger=False)
            if self.logger is not None:
                self.logger.log_metrics({name: loss.item() for name, loss in losses.items()}, step=self.global_step)

    def on_train_epoch_end(self) -> None:
        if isinstance(self.logger, TensorBoardLogger) and self.trainer.is_global_zero:
            self.logger.experiment.add_image("samples of fixed latents", self.sample_grid(), self.global_step)

    @torch.no_grad()
    def sample_grid(self) -> Tensor:
        """The images of the fixed latents, 8 a row, as one picture (3, H, W) in [0, 1]."""
        self.eval()
        grid = make_grid(self(self.fixed_latents).float(), nrow=8, normalize=True, value_range=(-1, 1))
        self.train()
        return grid

    def configure_optimizers(self) -> list[Optimizer]:
        generator = self.generator_optimizer(self.generator.parameters())
        return [generator, self.discriminator_optimizer(self.discriminator.parameters())]


def _not_counted() -> None:
    """Keeps the discriminator's steps out of `trainer.global_step`."""
