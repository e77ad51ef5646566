"""Minibatch discrimination: T. Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.2."""

from typing import Unpack

import torch
from torch import Tensor, nn

from gan.adversarial import GAN, LogRecipe
from gan.networks import discriminator, generator, linear_head, normal, without_head


class MinibatchDiscrimination(nn.Module):
    """Appends to each row of features how close it is to the other rows: (N, A) -> (N, A + kernels).

    M = f T, with T of shape A x kernels x dim; o_b(i) = sum over j != i of exp(-|M_b(i) - M_b(j)|), of L1 norms. The
    paper's sum takes in j = i, a constant 1; its code leaves it out, as here.

    >>> layer = MinibatchDiscrimination(7, kernels=3, dim=2)
    >>> twins = layer(torch.ones(4, 7))  # all alike: each has three neighbours at distance 0
    >>> twins.shape, twins[0, 7:].round().tolist()
    (torch.Size([4, 10]), [3.0, 3.0, 3.0])
    """

    def __init__(self, in_features: int, kernels: int = 100, dim: int = 5) -> None:
        super().__init__()
        self.project = nn.Linear(in_features, kernels * dim, bias=False)  # T
        self.kernels = kernels

    def forward(self, features: Tensor) -> Tensor:
        rows = self.project(features).float().unflatten(1, (self.kernels, -1)).transpose(0, 1)  # (kernels, N, dim)
        closeness = torch.exp(-torch.cdist(rows, rows, p=1)).sum(2) - 1  # (kernels, N); without itself
        return torch.cat([features, closeness.T.to(features.dtype)], 1)


class MinibatchGAN(GAN):
    """GAN whose discriminator sees how alike the images of a batch are: latents (N, 100) -> images (N, 1, 28, 28).

    A generator that makes one and the same image is found out by it. Differs from the authors' code: weights are
    neither normalized nor set from the first batch.

    >>> import torch
    >>> net = MinibatchGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13741862)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
        kernels, dim: B and C of the paper: how many distances are taken, and in how many dimensions each.

    Raises:
        ValueError: `kernels` or `dim` is below 1.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "dcgan",
        width: float = 1.0,
        kernels: int = 100,
        dim: int = 5,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        for name, value in {"kernels": kernels, "dim": dim}.items():
            if value < 1:
                raise ValueError(f"model.{name}={value}: a whole number above 0 is needed")
        features, count = without_head(discriminator(network, width))
        neighbours = normal(nn.Sequential(MinibatchDiscrimination(count, kernels, dim), linear_head(count + kernels)))
        super().__init__(
            generator(network, latent_dim, width), nn.Sequential(features, *neighbours), latent_dim, **recipe
        )
