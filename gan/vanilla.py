"""GAN on MNIST: I. Goodfellow et al., "Generative Adversarial Nets", 2014, section 5, with its published settings."""

from typing import Unpack

from gan.adversarial import GAN, LogRecipe
from gan.networks import discriminator, generator


class VanillaGAN(GAN):
    """The GAN of the paper's MNIST experiments: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Generator 100-1200-1200-784 with ReLU (2,503,984 parameters), discriminator of two maxout layers of 240 units with 5
    pieces and dropout (1,231,441). Differs from the paper: pixels in [-1, 1] are 2 sigmoid - 1, latents are Gaussian,
    and the default recipe is Adam's; the generator's loss is the non-saturating one, as in its section 3.

    >>> import torch
    >>> net = VanillaGAN()
    >>> net(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3735425)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
    """

    def __init__(
        self, latent_dim: int = 100, network: str = "mlp", width: float = 1.0, **recipe: Unpack[LogRecipe]
    ) -> None:
        super().__init__(generator(network, latent_dim, width), discriminator(network, width), latent_dim, **recipe)
