"""Generators that GANs fail with: M. Arjovsky, S. Chintala, L. Bottou, "Wasserstein GAN", 2017, section 4.3."""

from typing import Literal

from torch import nn

from datamodules.contract import Positive
from gan.networks.blocks import normal_init
from gan.networks.dcgan import DCGAN


class WeakGenerator(DCGAN):
    """DCGAN's discriminator, and a generator that lacks what its guidelines ask for; latents -> (N, 1, 28, 28).

    `unnormalized` has no batch normalization and the same number of channels in each layer; `mlp` has three hidden
    layers of 512 units with ReLU. Both start as in the authors' code: from N(0, 0.02) without biases, and as torch
    starts linear layers. Deviations from that code: `mlp` ends in a tanh, and `unnormalized` has two transposed
    convolutions.

    >>> pairs = WeakGenerator(), WeakGenerator(kind="mlp")
    >>> [sum(p.numel() for p in pair.generator(100).parameters()) for pair in pairs]
    [380160, 979216]
    """

    def __init__(self, width: Positive = 1.0, kind: Literal["unnormalized", "mlp"] = "unnormalized") -> None:
        super().__init__(width)
        self.kind = kind

    def generator(self, latent_dim: int) -> nn.Sequential:
        if self.kind == "mlp":
            hidden = self.scaled(512)
            trunk = nn.Sequential(
                nn.Linear(latent_dim, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
            )
            head = nn.Sequential(nn.Linear(hidden, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)))
            return nn.Sequential(trunk, head)
        channels = self.scaled(64)
        trunk = nn.Sequential(
            nn.Linear(latent_dim, channels * 49, bias=False),
            nn.ReLU(),
            nn.Unflatten(1, (channels, 7, 7)),  # (N, 64, 7, 7)
        )
        head = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False),
            nn.ReLU(),  # (N, 64, 14, 14)
            nn.ConvTranspose2d(channels, 1, 4, 2, 1, bias=False),
            nn.Tanh(),  # (N, 1, 28, 28)
        )
        return normal_init(nn.Sequential(trunk, head))
