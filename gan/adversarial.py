"""The loop that all GANs share: a generator and a discriminator that train against each other."""

from collections.abc import Callable
from typing import Any, TypedDict

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn


class Recipe(TypedDict, total=False):
    """How to train, the same for every GAN; see `GAN`."""

    optimizer: Callable[..., Optimizer]
    discriminator_optimizer: Callable[..., Optimizer] | None
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None
    discriminator_steps: int
    ema_decay: float | None


class LogRecipe(Recipe, total=False):
    """The same for a GAN whose generator has the first paper's choice of losses."""

    saturating: bool


class GAN(LightningModule):
    """Generative adversarial nets: Goodfellow et al., "Generative Adversarial Nets", 2014. Latents (N, Z) -> images.

    A paper's GAN gives a generator, latents (N, latent_dim) -> images (N, 1, 28, 28) in [-1, 1], and a discriminator,
    images -> logits (N,), and overrides only the losses or the step that its paper changes. Both nets of a conditional
    GAN read the labels (N,) too, as a second argument. `trainer.global_step`, the x axis of the log and
    `trainer.max_steps` count generator steps. A last batch of one image is left out. The losses measure the balance of
    the two nets, neither the quality of the images nor whether training has converged.

    Args:
        generator, discriminator: the two nets.
        latent_dim: numbers that an image is made from, drawn from N(0, 1).
        optimizer: makes the generator's optimizer, and the discriminator's where that has none of its own.
        discriminator_optimizer: makes the discriminator's.
        lr_scheduler: makes the schedule of either's learning rate, which goes a step on after every epoch.
        discriminator_steps: steps of the discriminator before each step of the generator (k in algorithm 1).
        ema_decay: of a moving average of the generator's weights, kept beside it for `sample`: it spans about
            1 / (1 - ema_decay) generator steps. None: samples come from the weights in training.
        saturating: the generator minimizes log(1 - D(G(z))), equation 1, instead of maximizing log D(G(z)).
        num_classes: of a conditional GAN.

    Raises:
        ValueError: a count is below 1, or `ema_decay` not in [0, 1].
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: int = 100,
        optimizer: Callable[..., Optimizer] = Adam,
        discriminator_optimizer: Callable[..., Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        discriminator_steps: int = 1,
        ema_decay: float | None = None,
        saturating: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"latent_dim": latent_dim, "discriminator_steps": discriminator_steps}.items():
            if value < 1:
                raise ValueError(f"model.{name}={value}: a whole number above 0 is needed")
        if ema_decay is not None and not 0 <= ema_decay <= 1:
            raise ValueError(f"model.ema_decay={ema_decay}: null or a number from 0 to 1 is needed")
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = latent_dim
        self.generator_optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        self.lr_scheduler = lr_scheduler
        self.discriminator_steps = discriminator_steps
        self.saturating = saturating
        self.num_classes = num_classes
        self.discriminator_steps_done = 0  # since the generator's last step
        self.measured: dict[str, Tensor] = {}  # what a paper measures beside its losses, for the log
        self.averaged_generator: AveragedModel | None = None
        if ema_decay is not None:
            self.averaged_generator = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
            self.averaged_generator.requires_grad_(False)
        self.settled_at = -1  # the number of averaged weights of which the averaged generator's statistics are
        self.register_load_state_dict_post_hook(_unsettle)
        self.example_input_array = torch.zeros(1, latent_dim)
        rows = (
            torch.randn(8 * 8, latent_dim) if num_classes is None else torch.randn(8, latent_dim).repeat(num_classes, 1)
        )
        self.register_buffer("fixed_latents", rows)  # the same from the first epoch to the last; 8 a row, or a class
        self.fixed_latents: Tensor

    def forward(self, latents: Tensor, *labels: Tensor) -> Tensor:
        return self.generator(latents, *labels)

    def latents(self, count: int) -> Tensor:
        """New latents, (count, latent_dim)."""
        return torch.randn(count, self.latent_dim, device=self.device)

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        """New images (count, 1, 28, 28) in [-1, 1] as `images_of` makes them.

        A conditional GAN makes them of the classes `labels` (count,), without these of one class after the other.

        Raises:
            ValueError: labels for a GAN that has no classes, or of another number than `count`.
        """
        if self.num_classes is None:
            if labels is not None:
                raise ValueError(f"labels={labels.tolist()}: a {type(self).__name__} has no classes to choose from")
            return self.images_of(self.latents(count))
        labels = torch.arange(count) % self.num_classes if labels is None else labels
        if len(labels) != count:
            raise ValueError(f"{len(labels)} labels for {count} images: one an image is needed")
        return self.images_of(self.latents(count), labels.to(self.device))

    def images_of_fixed_latents(self, averaged: bool = True) -> Tensor:
        """The images to watch over time, 8 a row; of a conditional GAN 8 of each class, from the same 8 latents."""
        labels = [] if self.num_classes is None else [torch.arange(self.num_classes, device=self.device)]
        return self.images_of(self.fixed_latents, *(part.repeat_interleave(8) for part in labels), averaged=averaged)

    @torch.no_grad()
    def images_of(self, latents: Tensor, *labels: Tensor, averaged: bool = True) -> Tensor:
        """Images (N, 1, 28, 28) of latents (N, latent_dim), by the averaged generator where there is one.

        With `averaged=False` they are made by the weights in training.
        """
        net = self.generator
        if averaged and self.averaged_generator is not None:
            net = self.averaged_generator
            self._settle(net)
        training = net.training
        net.eval()
        try:
            return net(latents, *labels)
        finally:
            net.train(training)

    def _settle(self, net: AveragedModel) -> None:
        """Measures the statistics of batch normalization for the averaged weights: those at hand are of the last ones.

        P. Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018, section 3.2.
        """
        averaged = int(net.n_averaged)
        if averaged == self.settled_at:
            return
        with isolate_rng():
            torch.manual_seed(0)
            update_bn((self.latents(500) for _ in range(10)), net)  # a conditional net takes one class after the other
        self.settled_at = averaged

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """Minus equation 1, to be minimized: real and fake are images (N, 1, 28, 28), fake without gradient.

        -log D(x) - log(1 - D(G(z))), by logits: softplus(-D(x)) + softplus(D(G(z))).
        """
        of_real, of_fake = self.discriminator(real, *labels), self.discriminator(fake, *labels)
        return F.softplus(-of_real).mean() + F.softplus(of_fake).mean()

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """-log D(G(z)), or log(1 - D(G(z))) where `saturating` (section 3, the last paragraph)."""
        logits = self.discriminator(fake, *labels)
        return -F.softplus(logits).mean() if self.saturating else F.softplus(-logits).mean()

    @torch.no_grad()
    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor | None:
        """The share of images rightly told real or generated; None for a paper whose discriminator does not say."""
        is_real, is_fake = (self.discriminator(images, *labels) > 0 for images in (real, fake))
        return torch.cat([is_real, ~is_fake]).float().mean()

    def after_discriminator_step(self) -> None:
        """What a paper does to the discriminator's weights after each of its steps."""

    def steps_before(self, generator_step: int) -> int:
        """Of the discriminator, before the generator's step of that number, from 0 on; a paper may vary it."""
        return self.discriminator_steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, *labels = batch if self.num_classes is not None else batch[:1]
        if len(real) == 1:  # batch normalization and papers that compare a batch's images have nothing to go by
            if batch_idx == 0:
                raise ValueError(
                    "data.batch_size: a GAN needs two images a step, this is one (trainer.devices share them)"
                )
            return  # what is left of an epoch whose images the batches do not divide
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        discriminator_optimizer._on_before_step = discriminator_optimizer._on_after_step = _not_counted

        self.toggle_optimizer(discriminator_optimizer)
        with torch.no_grad():
            fake = self(self.latents(len(real)), *labels)
        discriminator_loss = self.discriminator_loss(real, fake, *labels)
        discriminator_optimizer.zero_grad()
        self.manual_backward(discriminator_loss)
        discriminator_optimizer.step()
        self.after_discriminator_step()
        self.untoggle_optimizer(discriminator_optimizer)

        self.discriminator_steps_done += 1
        if self.discriminator_steps_done < self.steps_before(self.global_step):
            return
        self.discriminator_steps_done = 0
        self.toggle_optimizer(generator_optimizer)
        generator_loss = self.generator_loss(real, self(self.latents(len(real)), *labels), *labels)
        generator_optimizer.zero_grad()
        self.manual_backward(generator_loss)
        generator_optimizer.step()
        self.untoggle_optimizer(generator_optimizer)
        if self.averaged_generator is not None:
            self.averaged_generator.update_parameters(self.generator)

        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.global_step % every == 0:
            losses = {"train/generator_loss": generator_loss, "train/discriminator_loss": discriminator_loss}
            self.log_dict(losses, prog_bar=True, logger=False)
            if self.logger is not None:
                values = {name: value.item() for name, value in (losses | self.measured).items()}
                self.logger.log_metrics(values, step=self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["discriminator_steps_done"] = self.discriminator_steps_done

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.discriminator_steps_done = checkpoint["discriminator_steps_done"]

    def setup(self, stage: str) -> None:
        self.to(memory_format=torch.channels_last)  # of the convolutions: a step of dcgan in 0.7 of the time on a CPU

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        generator = self.generator_optimizer(self.generator.parameters())
        optimizers = [generator, self.discriminator_optimizer(self.discriminator.parameters())]
        schedulers = [self.lr_scheduler(optimizer) for optimizer in optimizers] if self.lr_scheduler else []
        if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
            raise ValueError("model.lr_scheduler: ReduceLROnPlateau waits for a loss to fall, which a GAN's does not")
        return optimizers, schedulers

    def on_train_epoch_end(self) -> None:
        for config in self.trainer.lr_scheduler_configs:
            self.lr_scheduler_step(config.scheduler, None)


def _not_counted() -> None:
    """Keeps the discriminator's steps out of `trainer.global_step`."""


def _unsettle(model: GAN, _: Any) -> None:
    """Has the averaged generator's statistics measured anew: the weights that were loaded may have come without."""
    model.settled_at = -1
