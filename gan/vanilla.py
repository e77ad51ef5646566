"""GAN on MNIST: I. Goodfellow et al., "Generative Adversarial Nets", 2014, section 5."""

from typing import Unpack

from datamodules.contract import Count
from gan.adversarial import GAN
from gan.networks import MLP, NetworkPair
from gan.recipe import LogRecipe


class VanillaGAN(GAN):
    """The GAN of the paper's MNIST experiments: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Generator 100-1200-1200-784 with ReLU (2,503,984 parameters), discriminator of two maxout layers of 240 units
    with 5 pieces and dropout (1,231,441). Deviations from the paper: pixels in [-1, 1] are 2 sigmoid - 1, and the
    default recipe is Adam's, not gradient descent from lr 0.1 with momentum 0.5 to 0.7; the generator's loss is the
    non-saturating one of its section 3. Latents are Gaussian, as in the authors' code, which starts the biases of
    the generator's last layer from the mean of each pixel; here they start at 0.

    >>> import torch
    >>> net = VanillaGAN()
    >>> net(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3735425)

    Args:
        network: the pair of nets.
    """

    def __init__(self, latent_dim: Count = 100, network: NetworkPair = MLP(), **recipe: Unpack[LogRecipe]) -> None:
        super().__init__(network.generator(latent_dim), network.discriminator(), latent_dim, **recipe)
        self.network = network
