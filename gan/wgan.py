"""WGAN: M. Arjovsky, S. Chintala & L. Bottou, "Wasserstein GAN", 2017."""

from typing import Unpack

import torch
from torch import Tensor

from datamodules.contract import Count, Positive
from gan.adversarial import GAN, at_least_float32
from gan.networks import DCGAN, NetworkPair
from gan.recipe import Recipe


class WGAN(GAN):
    """The discriminator is a critic that estimates a Wasserstein distance: latents (N, 100) -> images (N, 1, 28, 28).

    Algorithm 1: the critic maximizes E D(x) - E D(G(z)) with its weights clipped; the generator, after several steps of
    the critic, maximizes E D(G(z)). What the critic reaches is logged as train/wasserstein_estimate: the distance in
    units of the critic's unknown Lipschitz constant, which falls as the images improve. The critic of `MLP` has no
    dropout, which would add noise to that estimate. Deviations from the paper: the warm-up of the authors' code, which
    algorithm 1 does not have, and nets for 28x28 gray images, of which a first or last layer has a bias.

    >>> import torch
    >>> net = WGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13229761)

    Args:
        network: the pair of nets.
        clip: every weight of the critic stays in [-clip, clip].
        warm_up_steps: steps of the critic before each of the generator's first 25 steps and every 500th, to bring it
            near its optimum, as in the authors' code; None: never more than `discriminator_steps`.
    """

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = DCGAN(),
        clip: Positive = 0.01,
        warm_up_steps: Count | None = 100,
        **recipe: Unpack[Recipe],
    ) -> None:
        critic = network.discriminator(dropout=False, bias=False)
        super().__init__(network.generator(latent_dim), critic, latent_dim, **recipe)
        self.network = network
        self.clip = clip
        self.warm_up_steps = warm_up_steps

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """Minus the estimate of the distance, E D(G(z)) - E D(x)."""
        return wasserstein_loss(self, real, fake, *labels)

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return -at_least_float32(self.discriminator(fake, *labels)).mean()

    @torch.no_grad()
    def after_discriminator_step(self) -> None:
        for weight in self.discriminator.parameters():
            weight.clamp_(-self.clip, self.clip)

    def discriminator_steps_at(self, generator_step: int) -> int:
        in_warm_up = generator_step < 25 or generator_step % 500 == 0
        return self.warm_up_steps if self.warm_up_steps and in_warm_up else self.discriminator_steps

    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> None:
        """None: a critic does not classify."""


def wasserstein_loss(model: GAN, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
    """E D(G(z)) - E D(x), to be minimized; its negative, an estimate of the distance, is logged."""
    on_fake, on_real = (at_least_float32(model.discriminator(images, *labels)) for images in (fake, real))
    loss = on_fake.mean() - on_real.mean()
    model.extra_metrics["train/wasserstein_estimate"] = -loss.detach()
    return loss
