"""DRAGAN: N. Kodali et al., "On Convergence and Stability of GANs", 2017."""

from typing import Unpack

import torch
from torch import Tensor

from gan.adversarial import GAN, LogRecipe
from gan.networks import smooth_pair
from gan.wgan_gp import gradient_penalty, one_each


class DRAGAN(GAN):
    """GAN with a gradient penalty around the real images: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    The first paper's losses + lambda E (|grad D(x + delta)| - 1)^2 (section 2.3), on logits, with delta as in the
    authors' code: on a line of random place towards x + std(X) U[0, 1) / 2, std over all pixels of the batch X. The
    discriminator has neither batch normalization nor dropout. Differs from the code: latents are Gaussian.

    >>> import torch
    >>> net = DRAGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13228610)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
        penalty: lambda, the weight of the penalty.
        spread: how far the perturbed images lie from the real ones, in standard deviations of the pixels.
        num_classes: of a conditional GAN, with the pair dcgan, as in `CGAN`; None: the paper knows no classes.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "dcgan",
        width: float = 1.0,
        penalty: float = 10.0,
        spread: float = 0.5,
        num_classes: int | None = None,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        nets = smooth_pair(network, latent_dim, width, num_classes)
        super().__init__(*nets, latent_dim, num_classes=num_classes, **recipe)
        self.penalty = penalty
        self.spread = spread

    def perturbed(self, real: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) near the real ones."""
        delta = self.spread * real.std() * torch.rand_like(real)
        return real + one_each(real) * delta

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        loss = super().discriminator_loss(real, fake, *labels)
        return loss + self.penalty * gradient_penalty(self.discriminator, self.perturbed(real), *labels)
