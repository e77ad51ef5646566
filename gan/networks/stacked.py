"""Pair for Stacked MNIST: L. Metz et al., "Unrolled Generative Adversarial Networks", 2017, section 3.3.1."""

from itertools import pairwise
from typing import ClassVar

from torch import nn

from datamodules.contract import Positive
from gan.networks.blocks import he_init, linear_head, normal_init
from gan.networks.pair import NetworkPair


class Stacked(NetworkPair):
    """Latents -> images of three channels (N, 3, 28, 28) in [-1, 1], for counting the 1,000 modes of three digits.

    As Lin et al., "PacGAN", 2018, rebuilt it in their code: the generator has a linear layer, three transposed
    convolutions and a convolution of 64-32-16-8-3 channels, its head from the first transposed convolution on. The
    discriminator has three convolutions of a quarter of the generator's 8-16-32 channels, with LeakyReLU 0.3 and batch
    normalization; Metz et al. also take half of them.

    >>> [sum(p.numel() for p in net.parameters()) for net in (Stacked().generator(256), Stacked().discriminator())]
    [286795, 571]

    Args:
        width: factor on the channels of both nets; 1 is the paper's width.
        discriminator_width: the discriminator's channels as a share of the generator's, 0.25 or 0.5 in the paper.
    """

    sample_shape: ClassVar[tuple[int, ...]] = (3, 28, 28)

    def __init__(self, width: Positive = 1.0, discriminator_width: Positive = 0.25) -> None:
        super().__init__(width)
        self.discriminator_width = discriminator_width

    def generator(self, latent_dim: int) -> nn.Sequential:
        first, second, third, fourth = (self.scaled(count) for count in (64, 32, 16, 8))
        trunk = nn.Sequential(
            nn.Linear(latent_dim, first * 16, bias=False),
            nn.Unflatten(1, (first, 4, 4)),  # (N, 64, 4, 4)
            nn.BatchNorm2d(first),
            nn.ReLU(),
        )
        head = nn.Sequential(
            nn.ConvTranspose2d(first, second, 3, 2, 1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),  # (N, 32, 7, 7)
            nn.ConvTranspose2d(second, third, 3, 2, 1, 1, bias=False),
            nn.BatchNorm2d(third),
            nn.ReLU(),  # (N, 16, 14, 14)
            nn.ConvTranspose2d(third, fourth, 3, 2, 1, 1, bias=False),
            nn.BatchNorm2d(fourth),
            nn.ReLU(),  # (N, 8, 28, 28)
            nn.Conv2d(fourth, 3, 3, 1, 1),
            nn.Tanh(),  # (N, 3, 28, 28)
        )
        return normal_init(nn.Sequential(trunk, head))

    def discriminator(
        self, outputs: int = 1, dropout: bool = True, batch_norm: bool = True, bias: bool = True
    ) -> nn.Sequential:
        channels = [3, *(max(1, round(count * self.discriminator_width * self.width)) for count in (8, 16, 32))]
        layers: list[nn.Module] = []
        for in_channels, out_channels in pairwise(channels):  # (N, 2, 14, 14), (N, 4, 7, 7), (N, 8, 4, 4)
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=not batch_norm),
                nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity(),
                nn.LeakyReLU(0.3),
            ]
        features = nn.Sequential(*layers, nn.Flatten())
        net = nn.Sequential(features, linear_head(channels[-1] * 16, outputs, bias))
        return normal_init(net) if batch_norm else he_init(net)
