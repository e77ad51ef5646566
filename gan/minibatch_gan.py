"""Minibatch discrimination: T. Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.2."""

from typing import Unpack

import torch
from torch import Tensor, nn

from datamodules.contract import Count
from gan.adversarial import GAN
from gan.networks import DCGAN, NetworkPair
from gan.networks.blocks import linear_head, normal_init
from gan.recipe import LogRecipe


class MinibatchDiscrimination(nn.Module):
    """Appends to each row of features how close it is to the other rows: (N, A) -> (N, A + kernels).

    M = f T, with T of shape A x kernels x dim; o_b(i) = sum over j != i of exp(-|M_b(i) - M_b(j)|), of L1 norms. The
    paper's sum includes j = i, a constant 1; its code leaves it out, as here.

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

    It recognizes a generator that always makes the same image. Deviations from the authors' code: there is neither
    weight normalization nor an initialization from the first batch.

    >>> import torch
    >>> net = MinibatchGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13741862)

    Args:
        network: the pair of nets.
        kernels: B of the paper, how many distances are computed.
        dim: C of the paper, the dimension in which each is computed.
    """

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = DCGAN(),
        kernels: Count = 100,
        dim: Count = 5,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        features, count = network.features()
        head = normal_init(nn.Sequential(MinibatchDiscrimination(count, kernels, dim), linear_head(count + kernels)))
        super().__init__(network.generator(latent_dim), nn.Sequential(features, *head), latent_dim, **recipe)
        self.network = network
