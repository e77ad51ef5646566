"""GAN on MNIST: I. Goodfellow et al., "Generative Adversarial Nets", 2014, section 5, with its published settings."""

from typing import Unpack

import torch
from torch import Tensor, nn

from gan.adversarial import GAN, LogRecipe


class Maxout(nn.Module):
    """Each unit the largest of `pieces` linear functions (Goodfellow et al., "Maxout Networks", 2013)."""

    def __init__(self, in_features: int, out_features: int, pieces: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features * pieces)
        self.pieces = pieces

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features).unflatten(1, (-1, self.pieces)).amax(2)


class VanillaGAN(GAN):
    """The GAN of the paper's MNIST experiments: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Generator 100-1200-1200-784 with ReLU (2,503,984 parameters), discriminator of two maxout layers of 240 units with 5
    pieces and dropout (1,231,441). Differs from the paper: pixels in [-1, 1] are 2 sigmoid - 1, latents are Gaussian,
    and the default recipe is Adam's; the generator's loss is the non-saturating one, as in its section 3.

    >>> net = VanillaGAN()
    >>> net(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3735425)
    """

    def __init__(self, latent_dim: int = 100, **recipe: Unpack[LogRecipe]) -> None:
        generator = nn.Sequential(
            *(nn.Linear(latent_dim, 1200), nn.ReLU()),
            *(nn.Linear(1200, 1200), nn.ReLU()),
            *(nn.Linear(1200, 784), HalfTanh()),  # a sigmoid stretched to [-1, 1]
            nn.Unflatten(1, (1, 28, 28)),
        )
        discriminator = nn.Sequential(
            nn.Flatten(),
            *(nn.Dropout(0.2), Maxout(784, 240)),
            *(nn.Dropout(0.5), Maxout(240, 240)),
            *(nn.Dropout(0.5), nn.Linear(240, 1)),
            nn.Flatten(0),  # logits (N,)
        )
        for net, bound in ((generator, 0.05), (discriminator, 0.005)):
            for module in net.modules():
                if isinstance(module, nn.Linear):
                    nn.init.uniform_(module.weight, -bound, bound)
                    nn.init.zeros_(module.bias)
        super().__init__(generator, discriminator, latent_dim, **recipe)


class HalfTanh(nn.Module):
    """2 sigmoid(a) - 1 = tanh(a / 2)."""

    def forward(self, activation: Tensor) -> Tensor:
        return torch.tanh(activation / 2)
