"""DRAGAN: N. Kodali et al., "On Convergence and Stability of GANs", 2017."""

from typing import Unpack

import torch
from torch import Tensor

from datamodules.contract import Count, NonNegative
from gan.adversarial import GAN
from gan.networks import DCGAN, NetworkPair
from gan.recipe import LogRecipe
from gan.wgan_gp import gradient_penalty, gradient_penalty_pair, per_sample_uniform


class DRAGAN(GAN):
    """GAN with a gradient penalty around the real images: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    The first paper's losses + lambda E (|grad D(x + delta)| - 1)^2 (section 2.3), on logits, with delta as in the
    authors' code: a uniformly random share of std(X) U[0, 1) / 2, std over all pixels of the batch X. The discriminator
    has neither batch normalization nor dropout. Deviation from the paper: its delta is Gaussian noise of each pixel,
    and the authors' code is older than that. Deviations from the authors' code: the nets are the
    pair's, not perceptrons of one hidden layer, latents are Gaussian, and pixels are in [-1, 1], not [0, 1], so that
    the penalty asks for a slope of 1 over twice the range.

    >>> import torch
    >>> net = DRAGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13228610)

    Args:
        network: the pair of nets.
        penalty: lambda, the weight of the penalty.
        deviation: how far the perturbed images lie from the real ones, in standard deviations of the pixels.
        num_classes: of a conditional GAN, as `CGAN`; None, as in the paper: the nets read no labels.
    """

    has_double_backward = True

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = DCGAN(),
        penalty: NonNegative = 10.0,
        deviation: NonNegative = 0.5,
        num_classes: Count | None = None,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        nets = gradient_penalty_pair(network, latent_dim, num_classes)
        super().__init__(*nets, latent_dim, num_classes=num_classes, **recipe)
        self.network = network
        self.penalty = penalty
        self.deviation = deviation

    def perturbed(self, real: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) near the real ones."""
        delta = self.deviation * real.std() * torch.rand_like(real)
        return real + per_sample_uniform(real) * delta

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        loss = super().discriminator_loss(real, fake, *labels)
        return loss + self.penalty * gradient_penalty(self.discriminator, self.perturbed(real), *labels)
