"""CGAN: M. Mirza & S. Osindero, "Conditional Generative Adversarial Nets", 2014."""

from typing import Unpack

from datamodules.contract import Count
from gan.adversarial import GAN
from gan.networks import MLP, NetworkPair
from gan.recipe import LogRecipe


class CGAN(GAN):
    """Generator and discriminator both read the class: latents (N, 100), labels (N,) -> images (N, 1, 28, 28).

    `MLP` is the paper's pair (section 4.1); `DCGAN` has a class-conditional form too. Deviations from the paper: pixels
    are in [-1, 1], latents are Gaussian, not uniform in [0, 1]; the paper has dropout 0.5 in both nets and does not say
    where: here the generator has none, the discriminator 0.2 on the pixels and 0.5 before both later layers, and the
    weights start as in the first GAN, but for the discriminator's units of the label, from U(-0.05, 0.05); the default
    recipe is Adam's, not gradient descent from lr 0.1 with momentum 0.5 to 0.7.

    >>> import torch
    >>> net = CGAN()
    >>> images = net(torch.zeros(2, 100), torch.tensor([3, 7]))
    >>> images.shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3638335)

    Args:
        network: the pair of nets, with a class-conditional form.
        num_classes: how many classes the labels name.

    Raises:
        ValueError: the pair has no class-conditional form.
    """

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = MLP(),
        num_classes: Count = 10,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        nets = network.conditional(latent_dim, num_classes)
        super().__init__(*nets, latent_dim=latent_dim, num_classes=num_classes, **recipe)
        self.network = network
