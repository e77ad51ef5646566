"""CGAN: M. Mirza & S. Osindero, "Conditional Generative Adversarial Nets", 2014."""

from typing import Unpack

from torch import nn

from gan.adversarial import GAN, LogRecipe
from gan.networks import GRAY, HalfTanh, Joined, Maxout, check, conditional_dcgan, linear_head, scaled, uniform


class CGAN(GAN):
    """Generator and discriminator both read the class: latents (N, 100), labels (N,) -> images (N, 1, 28, 28).

    mlp is the paper's pair (section 4.1): latents to 200 and labels to 1000 units, joined to 1200, to 784 pixels; image
    to 240 maxout units of 5 pieces and label to 50, joined to 240 of 4 pieces. dcgan is the shared pair, where the
    label joins the latents as 50 numbers and the image as a second channel. Differs from the paper: pixels in [-1, 1],
    latents are Gaussian, not uniform in [0, 1]; the paper has dropout 0.5 in both nets and does not say where: here the
    generator has none, the discriminator 0.2 on the pixels and 0.5 before both later layers, and the weights start as
    in the first GAN; the default recipe is Adam's, not gradient descent from lr 0.1 with momentum 0.5 to 0.7.

    >>> import torch
    >>> net = CGAN(network="mlp")
    >>> images = net(torch.zeros(2, 100), torch.tensor([3, 7]))
    >>> images.shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3638335)
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "mlp",
        width: float = 1.0,
        num_classes: int = 10,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        if check(network, width, GRAY) == "mlp":
            nets = mlp(num_classes, latent_dim, width)
        else:
            nets = conditional_dcgan(num_classes, latent_dim, width)
        super().__init__(*nets, latent_dim=latent_dim, num_classes=num_classes, **recipe)


def mlp(num_classes: int, latent_dim: int, width: float) -> tuple[Joined, Joined]:
    """The paper's generator and discriminator."""
    of_latents, of_labels, hidden = (scaled(units, width) for units in (200, 1000, 1200))
    first = Joined(
        num_classes,
        uniform(nn.Sequential(nn.Linear(latent_dim, of_latents), nn.ReLU()), 0.05),
        uniform(nn.Sequential(nn.Linear(num_classes, of_labels), nn.ReLU()), 0.05),
        uniform(
            nn.Sequential(
                *(nn.Linear(of_latents + of_labels, hidden), nn.ReLU()),
                *(nn.Linear(hidden, 784), HalfTanh(), nn.Unflatten(1, (1, 28, 28))),
            ),
            0.05,
        ),
    )
    of_images, of_classes = scaled(240, width), scaled(50, width)
    second = Joined(
        num_classes,
        uniform(nn.Sequential(nn.Flatten(), nn.Dropout(0.2), Maxout(784, of_images)), 0.005),
        uniform(nn.Sequential(Maxout(num_classes, of_classes)), 0.05),
        uniform(
            nn.Sequential(
                *(nn.Dropout(0.5), Maxout(of_images + of_classes, of_images, pieces=4)),
                *(nn.Dropout(0.5), linear_head(of_images)),
            ),
            0.005,
        ),
    )
    return first, second
