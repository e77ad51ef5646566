"""EBGAN: J. Zhao, M. Mathieu & Y. LeCun, "Energy-based Generative Adversarial Networks", 2016."""

import math
from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.contract import Count, NonNegative
from gan.adversarial import GAN
from gan.networks import MLP, NetworkPair
from gan.recipe import Recipe


class AutoEncoder(nn.Module):
    """The reconstruction error of an image is its energy: images (N, *shape) -> (N,), |Dec(Enc(x)) - x|."""

    def __init__(self, encoder: nn.Module, code_size: int, shape: tuple[int, ...] = (1, 28, 28)) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Sequential(nn.Linear(code_size, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))

    def forward(self, images: Tensor) -> Tensor:
        return self.energy(images, self.encoder(images))

    def energy(self, images: Tensor, codes: Tensor) -> Tensor:
        """The Euclidean distance (N,) of images from the reconstructions from their codes (N, code_size)."""
        return (self.decoder(codes) - images).flatten(1).norm(dim=1)


class EBGAN(GAN):
    """The discriminator is an auto-encoder, its output an energy: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Equations 1 and 2: D(x) + [m - D(G(z))]+ for the discriminator, D(G(z)) for the generator, and the pulling-away term
    (section 2.4). The encoder is the pair's discriminator without its last layer and without dropout, the decoder one
    linear layer, as in the grid search on MNIST (section 4.1). Deviations from the paper: a tanh behind the
    decoder, for images in [-1, 1]; the nets are the pair's, by default the first GAN's with maxout units, without batch
    normalization and with its initialization.

    >>> import torch
    >>> net = EBGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3924128)

    Args:
        network: the pair of nets; its samples are images, which the decoder can reconstruct.
        margin: m, beyond which the energy of generated images is not raised.
        pulling_away: weight of the term that keeps the images of a batch apart; 0 leaves it out.

    Raises:
        ValueError: the samples of the pair are no images.
    """

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = MLP(),
        margin: NonNegative = 10.0,
        pulling_away: NonNegative = 0.1,
        **recipe: Unpack[Recipe],
    ) -> None:
        if len(network.sample_shape) != 3:
            raise ValueError(f"network must make images, which an auto-encoder can read, got {type(network).__name__}")
        auto_encoder = AutoEncoder(*network.features(dropout=False), network.sample_shape)
        super().__init__(network.generator(latent_dim), auto_encoder, latent_dim, **recipe)
        self.discriminator: AutoEncoder
        self.network = network
        self.margin = margin
        self.pulling_away = pulling_away

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        real_energy, fake_energy = self.discriminator(real, *labels), self.discriminator(fake, *labels)
        return real_energy.mean() + F.relu(self.margin - fake_energy).mean()

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        codes = self.discriminator.encoder(fake)
        energy = self.discriminator.energy(fake, codes).mean()
        return energy + self.pulling_away * pulling_away_term(codes) if self.pulling_away else energy

    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> None:
        """None: an energy does not classify."""


def pulling_away_term(codes: Tensor) -> Tensor:
    """The mean squared cosine between the codes (N, size) of different images (equation 14); 0 for a single one.

    >>> import torch
    >>> pulling_away_term(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).item(), pulling_away_term(torch.ones(3, 4)).item()
    (0.0, 1.0)
    """
    count = len(codes)
    unit = F.normalize(codes, dim=1)
    squares = (unit @ unit.T).square()
    return (squares.sum() - squares.trace()) / max(1, count * (count - 1))
