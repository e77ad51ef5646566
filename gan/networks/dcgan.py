"""Convolutional pair: A. Radford, L. Metz & S. Chintala, "Unsupervised Representation Learning with DCGANs", 2016."""

from typing import ClassVar

from torch import nn

from gan.networks.blocks import ConditionalNet, he_init, linear_head, normal_init
from gan.networks.pair import NetworkPair


class DCGAN(NetworkPair):
    """The layers of the authors' code for MNIST: latents -> images (N, 1, 28, 28) in [-1, 1].

    The generator has two linear layers and two transposed convolutions with batch normalization; its head is the
    transposed convolutions. The discriminator has two convolutions and a linear layer with LeakyReLU 0.2 and, except
    for the first, batch normalization. In the class-conditional form the label joins the latents as 50 numbers and the
    image as a second channel. Deviations from that code: 4x4 filters, not 5x5; its nets are class-conditional only,
    with the label's 10 numbers beside the input of every layer, and the images are a sigmoid's, in [0, 1].

    >>> [sum(p.numel() for p in net.parameters()) for net in (DCGAN().generator(100), DCGAN().discriminator())]
    [6671745, 6558017]
    >>> generator, discriminator = DCGAN(width=0.1).conditional(latent_dim=100, num_classes=10)
    >>> import torch
    >>> labels = torch.tensor([3, 7])
    >>> discriminator(generator(torch.zeros(2, 100), labels), labels).shape
    torch.Size([2])
    """

    sample_shape: ClassVar[tuple[int, ...]] = (1, 28, 28)

    def generator(self, latent_dim: int) -> nn.Sequential:
        hidden, channels, half = self.scaled(1024), self.scaled(128), self.scaled(64)
        trunk = nn.Sequential(
            nn.Linear(latent_dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels * 49, bias=False),
            nn.BatchNorm1d(channels * 49),
            nn.ReLU(),
            nn.Unflatten(1, (channels, 7, 7)),  # (N, 128, 7, 7)
        )
        head = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 4, 2, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),  # (N, 64, 14, 14)
            nn.ConvTranspose2d(half, 1, 4, 2, 1),
            nn.Tanh(),  # (N, 1, 28, 28)
        )
        return normal_init(nn.Sequential(trunk, head))

    def discriminator(
        self,
        outputs: int = 1,
        dropout: bool = True,
        batch_norm: bool = True,
        bias: bool = True,
        in_channels: int = 1,
    ) -> nn.Sequential:
        half, channels, hidden = self.scaled(64), self.scaled(128), self.scaled(1024)
        features = nn.Sequential(
            nn.Conv2d(in_channels, half, 4, 2, 1),
            nn.LeakyReLU(0.2),  # (N, 64, 14, 14)
            nn.Conv2d(half, channels, 4, 2, 1, bias=not batch_norm),
            nn.BatchNorm2d(channels) if batch_norm else nn.Identity(),
            nn.LeakyReLU(0.2),  # (N, 128, 7, 7)
            nn.Flatten(),
            nn.Linear(channels * 49, hidden, bias=not batch_norm),
            nn.BatchNorm1d(hidden) if batch_norm else nn.Identity(),
            nn.LeakyReLU(0.2),  # (N, 1024)
        )
        net = nn.Sequential(features, linear_head(hidden, outputs, bias))
        return normal_init(net) if batch_norm else he_init(net)

    def conditional(
        self, latent_dim: int, num_classes: int, dropout: bool = True, batch_norm: bool = True, bias: bool = True
    ) -> tuple[ConditionalNet, ConditionalNet]:
        to_latents = nn.Linear(num_classes, 50)
        to_channel = nn.Sequential(nn.Linear(num_classes, 784), nn.Unflatten(1, (1, 28, 28)))
        generator = self.generator(latent_dim + 50)
        discriminator = self.discriminator(dropout=dropout, batch_norm=batch_norm, bias=bias, in_channels=2)
        return (
            ConditionalNet(num_classes, nn.Identity(), to_latents, generator),
            ConditionalNet(num_classes, nn.Identity(), to_channel, discriminator),
        )
