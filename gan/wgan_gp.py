"""WGAN-GP: I. Gulrajani et al., "Improved Training of Wasserstein GANs", 2017."""

from typing import Unpack

import torch
from torch import Tensor, nn

from datamodules.contract import Count, NonNegative
from gan.adversarial import GAN
from gan.networks import DCGAN, NetworkPair
from gan.recipe import Recipe
from gan.wgan import wasserstein_loss


class WGANGP(GAN):
    """WGAN whose critic is held to slope 1 by a penalty, not by clipping: latents (N, 100) -> images (N, 1, 28, 28).

    Algorithm 1: E D(G(z)) - E D(x) + lambda E (|grad D(x^)| - 1)^2, with x^ a random interpolate of a real and a
    generated image. train/wasserstein_estimate is the critic's, without the penalty. The critic has neither batch
    normalization nor dropout: the penalty is on the gradient at single images. Deviations from the authors' code for
    MNIST: the nets are the pair's, whose generator has batch normalization, there are 100 latents, not 128, and pixels
    are in [-1, 1], not [0, 1], so that the penalty asks for a slope of 1 over twice the range.

    >>> import torch
    >>> net = WGANGP()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13228609)

    Args:
        network: the pair of nets.
        penalty: lambda, the weight of the penalty.
        num_classes: of a conditional GAN, as `CGAN`; None, as in the paper: the nets read no labels.
    """

    has_double_backward = True

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = DCGAN(),
        penalty: NonNegative = 10.0,
        num_classes: Count | None = None,
        **recipe: Unpack[Recipe],
    ) -> None:
        nets = gradient_penalty_pair(network, latent_dim, num_classes, bias=False)
        super().__init__(*nets, latent_dim, num_classes=num_classes, **recipe)
        self.network = network
        self.penalty = penalty

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        alpha = per_sample_uniform(real)
        interpolates = alpha * real + (1 - alpha) * fake
        loss = wasserstein_loss(self, real, fake, *labels)
        return loss + self.penalty * gradient_penalty(self.discriminator, interpolates, *labels)

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return -self.discriminator(fake, *labels).mean()

    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> None:
        """None: a critic does not classify."""


def gradient_penalty_pair(
    network: NetworkPair, latent_dim: int, num_classes: int | None, bias: bool = True
) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator for a loss on the gradient at single images; class-conditional for `num_classes`.

    >>> [type(net).__name__ for net in gradient_penalty_pair(DCGAN(0.1), 100, num_classes=None)]
    ['Sequential', 'Sequential']
    >>> [type(net).__name__ for net in gradient_penalty_pair(DCGAN(0.1), 100, num_classes=10)]
    ['ConditionalNet', 'ConditionalNet']
    """
    if num_classes is not None:
        return network.conditional(latent_dim, num_classes, dropout=False, batch_norm=False, bias=bias)
    return network.generator(latent_dim), network.discriminator(dropout=False, batch_norm=False, bias=bias)


def per_sample_uniform(images: Tensor) -> Tensor:
    """A number from U[0, 1) for each image (N, ...), of a shape that multiplies the images.

    >>> per_sample_uniform(torch.zeros(5, 1, 28, 28)).shape, per_sample_uniform(torch.zeros(5, 2)).shape
    (torch.Size([5, 1, 1, 1]), torch.Size([5, 1]))
    """
    return torch.rand(len(images), *[1] * (images.dim() - 1), device=images.device)


def gradient_penalty(discriminator: nn.Module, images: Tensor, *labels: Tensor) -> Tensor:
    """E (|grad D(x)| - 1)^2 over images x (N, 1, 28, 28), the norm that of each image's gradient (equation 3).

    >>> slope_of_3 = nn.Sequential(nn.Flatten(), nn.Linear(9, 1, bias=False), nn.Flatten(0))
    >>> _ = nn.init.ones_(slope_of_3[1].weight)  # nine ones: a norm of 3
    >>> gradient_penalty(slope_of_3, torch.rand(4, 1, 3, 3)).item()
    4.0
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        [gradient] = torch.autograd.grad(discriminator(images, *labels).sum(), images, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
