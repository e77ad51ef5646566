"""The loop that all GANs share: a generator and a discriminator that train against each other."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from datamodules.contract import CheckedArguments, Count, Share
from datamodules.in_memory import InMemoryData
from gan.averaged_generator import CALIBRATION_BATCHES, AveragedGenerator
from gan.divergence import DivergenceMonitor
from gan.networks import NetworkPair


class GAN(CheckedArguments, LightningModule):
    """Generative adversarial nets: Goodfellow et al., "Generative Adversarial Nets", 2014. Latents (N, Z) -> samples.

    A paper's GAN passes a generator, latents (N, latent_dim) -> samples (N, ...), images in [-1, 1], and a
    discriminator, samples -> logits (N,), and overrides only the losses or the step that its paper changes. Both nets
    of a conditional GAN read labels (N,) as a second argument. `trainer.global_step`, the x axis of the log and
    `trainer.max_steps` count generator steps. A last batch of a single sample is skipped. The losses show the balance
    of the two nets, neither the quality of the samples nor whether training has converged: an evaluation callback
    (`gan.scores`) computes scores while it trains, in `trainer.validate` and in `trainer.test`.

    Args:
        generator: the net that makes samples.
        discriminator: the net that rates them.
        latent_dim: dimension of the latents, which are drawn from N(0, 1).
        optimizer: makes the generator's optimizer, and the discriminator's where that has none of its own.
        discriminator_optimizer: makes the discriminator's optimizer.
        lr_scheduler: makes the schedule of either learning rate, which is stepped after every epoch.
        discriminator_steps: steps of the discriminator before each step of the generator (k in algorithm 1).
        generator_steps: steps of the generator after these, each on new samples. Such a round is whole: a training ends
            after the one that reaches `trainer.max_steps`.
        reuse_fakes: the generator learns from the samples that the discriminator has just seen, instead of new ones as
            in algorithm 1: one pass of the generator less in every step. PyTorch's DCGAN example does so.
        ema_decay: of a moving average of the generator's weights, kept beside it for `sample`, which spans about
            1 / (1 - ema_decay) generator steps. None: samples come from the weights in training.
        saturating: the generator minimizes log(1 - D(G(z))), equation 1, instead of maximizing log D(G(z)).
        num_classes: of a conditional GAN; None: the nets read no labels.

    Raises:
        ValueError: an argument is of the wrong type or out of its range.
    """

    network: NetworkPair | None = None  # where the two nets come from
    has_double_backward: ClassVar[bool] = False  # a loss is made of gradients, which torch.compile does not support

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: Count = 100,
        optimizer: Callable[..., Optimizer] = Adam,
        discriminator_optimizer: Callable[..., Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        discriminator_steps: Count = 1,
        generator_steps: Count = 1,
        reuse_fakes: bool = False,
        ema_decay: Share | None = None,
        saturating: bool = False,
        num_classes: Count | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = latent_dim
        self.generator_optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        self.lr_scheduler = lr_scheduler
        self.discriminator_steps = discriminator_steps
        self.generator_steps = generator_steps
        self.reuse_fakes = reuse_fakes
        self.saturating = saturating
        self.num_classes = num_classes
        self.discriminator_steps_done = 0  # since the generator's last step
        self.epoch_losses, self.epoch_steps = torch.zeros(2), 0  # sums of both losses over the epoch
        self.extra_metrics: dict[str, Tensor] = {}  # what a paper logs beside its losses
        self.divergence = DivergenceMonitor()
        self.averaged_generator = None if ema_decay is None else AveragedGenerator(generator, ema_decay)
        self.example_input_array = torch.zeros(1, latent_dim)
        rows, repeats = (64, 1) if num_classes is None else (8, num_classes)
        self.register_buffer("fixed_latents", torch.randn(rows, latent_dim).repeat(repeats, 1))  # of `fixed_samples`
        self.fixed_latents: Tensor

    def forward(self, latents: Tensor, *labels: Tensor) -> Tensor:
        return self.generator(latents, *labels)

    def latents(self, count: int) -> Tensor:
        """New latents, (count, latent_dim)."""
        return torch.randn(count, self.latent_dim, device=self.device, dtype=self.fixed_latents.dtype)

    def training_samples(self, count: int, *labels: Tensor) -> Tensor:
        """New samples for a step on `count` real ones; a paper may want more of them."""
        return self(self.latents(count), *labels)

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        """New samples (count, ...) from new latents, see `generate`.

        A conditional GAN makes them of the classes `labels` (count,), or without these of each class in turn.

        Raises:
            ValueError: labels for a GAN that has no classes, or not as many as `count`.
        """
        if self.num_classes is None:
            if labels is not None:
                raise ValueError(f"{type(self).__name__} has no classes to choose from, got {labels.tolist()}")
            return self.generate(self.latents(count))
        labels = torch.arange(count) % self.num_classes if labels is None else labels
        if len(labels) != count:
            raise ValueError(f"one label per sample is needed, got {len(labels)} labels for {count} samples")
        return self.generate(self.latents(count), labels.to(self.device))

    def fixed_samples(self, averaged: bool = True) -> Tensor:
        """The samples to watch over time, 8 per row; a conditional GAN makes 8 of each class, from the same latents.

        The averaged generator's statistics of the batches come from fewer latents here, where one looks often.
        """
        classes = self.num_classes
        labels = [] if classes is None else [torch.arange(classes, device=self.device).repeat_interleave(8)]
        return self.generate(self.fixed_latents, *labels, averaged=averaged, calibration_batches=1)

    @torch.no_grad()
    def generate(
        self,
        latents: Tensor,
        *labels: Tensor,
        averaged: bool = True,
        calibration_batches: int = CALIBRATION_BATCHES,
    ) -> Tensor:
        """Samples (N, ...) from latents (N, latent_dim), by the net in eval mode.

        Args:
            averaged: use the averaged generator where there is one; else the weights in training.
            calibration_batches: see `AveragedGenerator.recalibrate_batch_norm`.
        """
        net = self.generator
        if averaged and self.averaged_generator is not None:
            net = self.averaged_generator
            net.recalibrate_batch_norm(self.latents, calibration_batches)
        training = net.training
        net.eval()
        try:
            return net(latents, *labels)
        finally:
            net.train(training)

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """Minus equation 1, to be minimized: real and fake are samples (N, ...), fake without gradient.

        -log D(x) - log(1 - D(G(z))), from logits: softplus(-D(x)) + softplus(D(G(z))).
        """
        real_logits, fake_logits = self.discriminator(real, *labels), self.discriminator(fake, *labels)
        return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """-log D(G(z)), or log(1 - D(G(z))) where `saturating` (section 3, the last paragraph)."""
        logits = self.discriminator(fake, *labels)
        return -F.softplus(logits).mean() if self.saturating else F.softplus(-logits).mean()

    @torch.no_grad()
    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor | None:
        """Share of samples correctly classified as real or generated; None if it does not classify."""
        is_real, is_fake = (self.discriminator(samples, *labels) > 0 for samples in (real, fake))
        return torch.cat([is_real, ~is_fake]).float().mean()

    def after_discriminator_step(self) -> None:
        """What a paper does to the discriminator's weights after each of its steps."""

    def discriminator_steps_at(self, generator_step: int) -> int:
        """Discriminator steps before the generator's step of that number, counted from 0; a paper may vary it."""
        return self.discriminator_steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, *labels = batch if self.num_classes is not None else batch[:1]
        if len(real) == 1:  # batch normalization, and papers that compare the samples of a batch, need two
            if batch_idx == 0:
                raise ValueError("batch_size must give each device at least 2 samples per step of a GAN, got 1")
            return  # the rest of an epoch whose size is not a multiple of the batch size
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]

        self.discriminator_steps_done += 1
        is_generator_due = self.discriminator_steps_done >= self.discriminator_steps_at(self.global_step)
        is_reused = self.reuse_fakes and is_generator_due
        with torch.set_grad_enabled(is_reused):
            fake = self.training_samples(len(real), *labels)
        discriminator_loss = self.step(discriminator_optimizer, self.discriminator_loss, real, fake.detach(), *labels)
        self.after_discriminator_step()
        if not is_generator_due:
            return
        self.discriminator_steps_done = 0
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        for number in range(self.generator_steps):
            reused = fake if is_reused and number == 0 else None
            generator_loss = self.step(generator_optimizer, self.generator_loss, real, reused, *labels)
            if self.averaged_generator is not None:
                self.averaged_generator.update_parameters(self.generator)
            losses = at_least_float32(torch.stack([generator_loss, discriminator_loss]).detach())
            self.epoch_losses, self.epoch_steps = self.epoch_losses.to(losses) + losses, self.epoch_steps + 1
            if every and self.global_step % every == 0:
                self.log_losses(generator_loss, discriminator_loss)

    def step(
        self, optimizer: Any, loss_function: Callable[..., Tensor], real: Tensor, fake: Tensor | None, *labels: Tensor
    ) -> Tensor:
        """One step of an optimizer on a loss of real and fake samples; new fake ones, with gradient, for None."""
        self.toggle_optimizer(optimizer)
        fake = self.training_samples(len(real), *labels) if fake is None else fake
        loss = loss_function(real, fake, *labels)
        self.divergence.track(fake, loss, self.global_step + 1)
        optimizer.zero_grad()
        self.manual_backward(loss)
        if optimizer is self.optimizers()[0]:  # type: ignore[index]
            optimizer.step()
        else:  # past Lightning's counter: trainer.global_step is that of the generator
            self.trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)
        self.untoggle_optimizer(optimizer)
        return loss

    def log_losses(self, generator_loss: Tensor, discriminator_loss: Tensor) -> None:
        losses = {"train/generator_loss": generator_loss, "train/discriminator_loss": discriminator_loss}
        self.divergence.check()
        self.log_dict(losses, prog_bar=True, logger=False)
        if self.loggers:
            values = {name: value.item() for name, value in (losses | self.extra_metrics).items()}
            # LearningRateMonitor counts batches, of which several may make one generator step
            for net, optimizer in zip(("generator", "discriminator"), self.trainer.optimizers, strict=True):
                values[f"lr-{net}"] = optimizer.param_groups[0]["lr"]
            for logger in self.loggers:
                logger.log_metrics(values, step=self.global_step)

    def check_divergence(self) -> None:
        """Raises a `DivergenceError` if samples, a loss or weights are not finite."""
        nets = {"generator": self.generator, "discriminator": self.discriminator}
        self.divergence.check_weights(nets, self.global_step)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Does nothing with single batches: an evaluation callback compares whole sets."""

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Does nothing with single batches: an evaluation callback compares whole sets."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the constructor's plain arguments; `load_from_checkpoint` needs a `network` that is not the default."""
        self.check_divergence()
        checkpoint["hyper_parameters"] = self.plain_arguments()
        checkpoint["discriminator_steps_done"] = self.discriminator_steps_done
        checkpoint["epoch_losses"] = [*self.epoch_losses.tolist(), self.epoch_steps]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.discriminator_steps_done = checkpoint["discriminator_steps_done"]
        if sums := checkpoint.get("epoch_losses"):
            generator_sum, discriminator_sum, steps = map(float, sums)
            self.epoch_losses, self.epoch_steps = torch.tensor([generator_sum, discriminator_sum]), int(steps)

    def setup(self, stage: str) -> None:
        self.to(memory_format=torch.channels_last)  # a step of DCGAN takes 0.7 of the time on a CPU

    def check_data(self, data: InMemoryData) -> None:
        """Raises a ValueError if samples have another shape or range than the data's, or the data has more classes."""
        normalize = getattr(data, "normalize", "half")
        if normalize != "half":
            raise ValueError(f"data.normalize={normalize}: a GAN's images are in [-1, 1], use data.normalize=half")
        if self.num_classes is not None and data.spec is not None and self.num_classes < data.spec.num_classes:
            raise ValueError(f"num_classes must be at least {data.spec.num_classes}, got {self.num_classes}")
        made = tuple(self.generate(self.fixed_latents[:1], averaged=False).shape[1:])
        if made != data.sample_shape:
            fitting = [pair for pair in NetworkPair.__subclasses__() if pair.sample_shape == data.sample_shape]
            if self.num_classes is not None:
                fitting = [pair for pair in fitting if pair.conditional is not NetworkPair.conditional]
            names = " or ".join(pair.__name__ for pair in fitting)
            advice = f"use the network {names}" if names else f"no network of a {type(self).__name__} makes such"
            shapes = f"samples of shape {made}, those of {data.name} are {data.sample_shape}"
            raise ValueError(f"network makes {shapes}: {advice}")

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        generator = self.generator_optimizer(self.generator.parameters())
        optimizers = [generator, self.discriminator_optimizer(self.discriminator.parameters())]
        schedulers = [self.lr_scheduler(optimizer) for optimizer in optimizers] if self.lr_scheduler else []
        if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
            raise ValueError("lr_scheduler must not be ReduceLROnPlateau: the losses of a GAN do not fall")
        return optimizers, schedulers

    def on_train_epoch_start(self) -> None:
        self.epoch_losses, self.epoch_steps = torch.zeros(2), 0

    def on_train_epoch_end(self) -> None:
        """Makes the means over the epoch the losses of the run; TensorBoard has those of single steps."""
        self.check_divergence()
        if self.epoch_steps:
            means = (self.epoch_losses / self.epoch_steps).to(self.device)
            losses = dict(zip(("train/generator_loss", "train/discriminator_loss"), means, strict=True))
            self.log_dict(losses, prog_bar=True, logger=False, sync_dist=True)
        for config in self.trainer.lr_scheduler_configs:
            self.lr_scheduler_step(config.scheduler, None)


def at_least_float32(values: Tensor) -> Tensor:
    """Values in a precision in which they can be summed: bfloat16 becomes float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
