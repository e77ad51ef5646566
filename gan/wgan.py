"""WGAN: M. Arjovsky, S. Chintala & L. Bottou, "Wasserstein GAN", 2017."""

from typing import Unpack

import torch
from torch import Tensor

from gan.adversarial import GAN, Recipe
from gan.networks import discriminator, generator


class WGAN(GAN):
    """The discriminator is a critic that estimates a Wasserstein distance: latents (N, 100) -> images (N, 1, 28, 28).

    Algorithm 1: the critic maximizes E D(x) - E D(G(z)) with its weights clipped; the generator, after several steps of
    the critic, maximizes E D(G(z)). What the critic reaches is logged as train/wasserstein_estimate: the distance in
    units of the critic's unknown Lipschitz constant, which falls as the images get better. The mlp's critic has no
    dropout, which would blur that estimate.

    >>> import torch
    >>> net = WGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13229761)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
        clip: every weight of the critic stays in [-clip, clip].
        warm_up_steps: steps of the critic before each of the generator's first 25 steps and every 500th, to bring it
            near its optimum, as in the authors' code; None: never more than `discriminator_steps`.

    Raises:
        ValueError: `clip` or `warm_up_steps` is not above 0.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "dcgan",
        width: float = 1.0,
        clip: float = 0.01,
        warm_up_steps: int | None = 100,
        **recipe: Unpack[Recipe],
    ) -> None:
        critic = discriminator(network, width, dropout=False, bias=False)
        super().__init__(generator(network, latent_dim, width), critic, latent_dim, **recipe)
        for name, value in {"clip": clip, "warm_up_steps": warm_up_steps}.items():
            if value is not None and not value > 0:
                raise ValueError(f"model.{name}={value}: a number above 0 is needed")
        self.clip = clip
        self.warm_up_steps = warm_up_steps

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """Minus the estimate of the distance, E D(G(z)) - E D(x)."""
        return wasserstein_loss(self, real, fake, *labels)

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return -self.discriminator(fake, *labels).mean()

    @torch.no_grad()
    def after_discriminator_step(self) -> None:
        for weight in self.discriminator.parameters():
            weight.clamp_(-self.clip, self.clip)

    def steps_before(self, generator_step: int) -> int:
        in_warm_up = generator_step < 25 or generator_step % 500 == 0
        return self.warm_up_steps if self.warm_up_steps and in_warm_up else self.discriminator_steps

    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> None:
        """A critic draws no line between real and fake."""


def wasserstein_loss(model: GAN, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
    """E D(G(z)) - E D(x), to be minimized; its negative goes into the log as an estimate of the distance."""
    loss = model.discriminator(fake, *labels).mean() - model.discriminator(real, *labels).mean()
    model.measured["train/wasserstein_estimate"] = -loss.detach()
    return loss
