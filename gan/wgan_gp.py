"""WGAN-GP: I. Gulrajani et al., "Improved Training of Wasserstein GANs", 2017."""

from typing import Unpack

import torch
from torch import Tensor, nn

from gan.adversarial import GAN, Recipe
from gan.networks import smooth_pair
from gan.wgan import wasserstein_loss


class WGANGP(GAN):
    """WGAN whose critic is held to slope 1 by a penalty, not by clipping: latents (N, 100) -> images (N, 1, 28, 28).

    Algorithm 1: E D(G(z)) - E D(x) + lambda E (|grad D(x^)| - 1)^2, with x^ on the line between a real and a generated
    image, at a place of its own for each pair. train/wasserstein_estimate is the critic's, without the penalty. The
    critic has neither batch normalization nor dropout: the penalty is on the gradient of each image by itself.

    >>> import torch
    >>> net = WGANGP()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13228609)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
        penalty: lambda, the weight of the penalty.
        num_classes: of a conditional GAN, with the pair dcgan, as in `CGAN`; None: the paper knows no classes.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "dcgan",
        width: float = 1.0,
        penalty: float = 10.0,
        num_classes: int | None = None,
        **recipe: Unpack[Recipe],
    ) -> None:
        nets = smooth_pair(network, latent_dim, width, num_classes, bias=False)
        super().__init__(*nets, latent_dim, num_classes=num_classes, **recipe)
        self.penalty = penalty

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        share = one_each(real)
        between = share * real + (1 - share) * fake
        loss = wasserstein_loss(self, real, fake, *labels)
        return loss + self.penalty * gradient_penalty(self.discriminator, between, *labels)

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return -self.discriminator(fake, *labels).mean()

    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> None:
        """A critic draws no line between real and fake."""


def one_each(images: Tensor) -> Tensor:
    """A number from U[0, 1) for each image (N, ...), of a shape that multiplies them.

    >>> one_each(torch.zeros(5, 1, 28, 28)).shape, one_each(torch.zeros(5, 2)).shape
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
