"""What is said to keep a GAN from collapsing: T. Salimans et al., "Improved Techniques for Training GANs", 2016.

LeakyReLU is from A. Radford et al., 2016, section 3, and spectral normalization from T. Miyato et al., 2018.
"""

from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from datamodules.contract import Count
from gan.networks import MLP, NetworkPair
from gan.recipe import LogRecipe
from gan.vanilla import VanillaGAN

Tip = Literal["none", "uniform_latents", "leaky_relu", "label_smoothing", "input_noise", "spectral_norm"]
REAL_LABEL = 0.9  # Salimans et al. 2016, section 3.4
NOISE = 0.1  # standard deviation
GAIN = 40.0  # of a discriminator of norm 1 on a quarter of a point: its logit may change by 1 over 0.1


class Gain(nn.Module):
    """Multiplies logits by `GAIN`."""

    def forward(self, logits: Tensor) -> Tensor:
        return GAIN * logits


class TippedGAN(VanillaGAN):
    """The first GAN with one change that is said to help, or (`uniform_latents`) to harm.

    >>> [TippedGAN(tip=tip)(torch.zeros(2, 100)).shape[0] for tip in ("none", "leaky_relu", "spectral_norm")]
    [2, 2, 2]

    Args:
        tip: `uniform_latents`, from U[-1, 1] in place of N(0, 1); `leaky_relu`, of slope 0.2, in place of ReLU in both
            nets; `label_smoothing`, real samples are to have the probability 0.9; `input_noise`, Gaussian noise on all
            that the discriminator sees; `spectral_norm`, of the weights of the discriminator, whose logits are
            multiplied by `GAIN`: layers of norm 1 could not tell points so near to each other apart.
        latent_dim: dimension of the latents.
        network: the pair of nets.
        recipe: see `GAN`.
    """

    def __init__(
        self, tip: Tip = "none", latent_dim: Count = 100, network: NetworkPair = MLP(), **recipe: Unpack[LogRecipe]
    ) -> None:
        super().__init__(latent_dim, network, **recipe)
        self.tip = tip
        for parent in list(self.modules()) if tip == "leaky_relu" else ():
            for name, child in parent.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, nn.LeakyReLU(0.2))
        for module in list(self.discriminator.modules()) if tip == "spectral_norm" else ():
            if isinstance(module, nn.Linear | nn.Conv2d):
                spectral_norm(module)
        if tip == "spectral_norm":
            self.discriminator = nn.Sequential(self.discriminator, Gain())

    def latents(self, count: int) -> Tensor:
        latents = super().latents(count)
        return torch.rand_like(latents) * 2 - 1 if self.tip == "uniform_latents" else latents

    def seen(self, samples: Tensor) -> Tensor:
        """Samples as the discriminator sees them."""
        return samples + NOISE * torch.randn_like(samples) if self.tip == "input_noise" else samples

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        real_logits, fake_logits = self.discriminator(self.seen(real)), self.discriminator(self.seen(fake))
        wanted = torch.full_like(real_logits, REAL_LABEL if self.tip == "label_smoothing" else 1.0)
        return F.binary_cross_entropy_with_logits(real_logits, wanted) + F.softplus(fake_logits).mean()

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return super().generator_loss(real, self.seen(fake))
