"""EBGAN: J. Zhao, M. Mathieu & Y. LeCun, "Energy-based Generative Adversarial Networks", 2016."""

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from gan.adversarial import GAN, Recipe
from gan.networks import GRAY, check, discriminator, generator, without_head


class AutoEncoder(nn.Module):
    """How badly an image is reconstructed, its energy: images (N, 1, 28, 28) -> (N,), |Dec(Enc(x)) - x|."""

    def __init__(self, encoder: nn.Module, code_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Sequential(nn.Linear(code_size, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)))

    def forward(self, images: Tensor) -> Tensor:
        return self.energy(images, self.encoder(images))

    def energy(self, images: Tensor, codes: Tensor) -> Tensor:
        """The Euclidean distance (N,) of images from what their codes (N, code_size) are decoded to."""
        return (self.decoder(codes) - images).flatten(1).norm(dim=1)


class EBGAN(GAN):
    """The discriminator is an auto-encoder, its output an energy: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Equations 1 and 2: D(x) + [m - D(G(z))]+ for the discriminator, D(G(z)) for the generator, and the pulling-away term
    (section 2.4). The encoder is the pair's discriminator without its last layer, mlp without dropout, the decoder one
    linear layer, as in the paper's grid on MNIST (appendix B).

    >>> import torch
    >>> net = EBGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3924128)

    Args:
        network: the pair of nets, mlp or dcgan.
        width: share of the pair's units and channels.
        margin: m, the energy that generated images are given at most.
        pulling_away: weight of the term that keeps the images of a batch apart; 0 leaves it out.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "mlp",
        width: float = 1.0,
        margin: float = 10.0,
        pulling_away: float = 0.1,
        **recipe: Unpack[Recipe],
    ) -> None:
        check(network, width, GRAY)  # what the decoder makes
        auto_encoder = AutoEncoder(*without_head(discriminator(network, width, dropout=False)))
        super().__init__(generator(network, latent_dim, width), auto_encoder, latent_dim, **recipe)
        self.discriminator: AutoEncoder
        self.margin = margin
        self.pulling_away = pulling_away

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        of_real, of_fake = self.discriminator(real, *labels), self.discriminator(fake, *labels)
        return of_real.mean() + F.relu(self.margin - of_fake).mean()

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        codes = self.discriminator.encoder(fake)
        energy = self.discriminator.energy(fake, codes).mean()
        return energy + self.pulling_away * pulling_away_term(codes) if self.pulling_away else energy

    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> None:
        """An energy draws no line between real and fake."""


def pulling_away_term(codes: Tensor) -> Tensor:
    """The mean squared cosine between the codes (N, size) of different images (equation 4); 0 for a single one.

    >>> import torch
    >>> pulling_away_term(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).item(), pulling_away_term(torch.ones(3, 4)).item()
    (0.0, 1.0)
    """
    count = len(codes)
    unit = F.normalize(codes, dim=1)
    squares = (unit @ unit.T).square()
    return (squares.sum() - squares.trace()) / max(1, count * (count - 1))
