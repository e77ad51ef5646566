"""Fully connected pair: I. Goodfellow et al., "Generative Adversarial Nets", 2014, and its class-conditional form."""

from typing import ClassVar

from torch import nn

from gan.networks.blocks import ConditionalNet, HalfTanh, Maxout, linear_head, uniform_init
from gan.networks.pair import NetworkPair


class MLP(NetworkPair):
    """The first GAN's pair, latents -> images (N, 1, 28, 28) in [-1, 1].

    Generator Z-1200-1200-784 with ReLU, its head the last layer; discriminator 784-240-240-1 with maxout units of 5
    pieces and dropout. The class-conditional form is that of M. Mirza & S. Osindero, "Conditional Generative
    Adversarial Nets", 2014, section 4.1.

    >>> [sum(p.numel() for p in net.parameters()) for net in (MLP().generator(100), MLP().discriminator())]
    [2503984, 1231441]
    >>> [sum(p.numel() for p in net.parameters()) for net in MLP().conditional(100, num_classes=10)]
    [2413984, 1224351]
    """

    sample_shape: ClassVar[tuple[int, ...]] = (1, 28, 28)

    def generator(self, latent_dim: int) -> nn.Sequential:
        hidden = self.scaled(1200)
        trunk = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        head = nn.Sequential(nn.Linear(hidden, 784), HalfTanh(), nn.Unflatten(1, (1, 28, 28)))
        return uniform_init(nn.Sequential(trunk, head), 0.05)

    def discriminator(
        self, outputs: int = 1, dropout: bool = True, batch_norm: bool = True, bias: bool = True
    ) -> nn.Sequential:
        hidden = self.scaled(240)
        features = nn.Sequential(
            nn.Flatten(),  # (N, 784)
            nn.Dropout(0.2) if dropout else nn.Identity(),
            Maxout(784, hidden),  # (N, 240)
            nn.Dropout(0.5) if dropout else nn.Identity(),
            Maxout(hidden, hidden),  # (N, 240)
            nn.Dropout(0.5) if dropout else nn.Identity(),
        )
        return uniform_init(nn.Sequential(features, linear_head(hidden, outputs, bias)), 0.005)

    def conditional(
        self, latent_dim: int, num_classes: int, dropout: bool = True, batch_norm: bool = True, bias: bool = True
    ) -> tuple[ConditionalNet, ConditionalNet]:
        return (
            self.conditional_generator(latent_dim, num_classes),
            self.conditional_discriminator(num_classes, dropout, bias),
        )

    def conditional_generator(self, latent_dim: int, num_classes: int) -> ConditionalNet:
        """Latents to 200 and labels to 1000 units, joined to 1200, to 784 pixels."""
        latent_units, label_units, hidden = self.scaled(200), self.scaled(1000), self.scaled(1200)
        latent_net = uniform_init(nn.Sequential(nn.Linear(latent_dim, latent_units), nn.ReLU()), 0.05)
        label_net = uniform_init(nn.Sequential(nn.Linear(num_classes, label_units), nn.ReLU()), 0.05)
        joint_net = nn.Sequential(
            nn.Linear(latent_units + label_units, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 784),
            HalfTanh(),
            nn.Unflatten(1, (1, 28, 28)),
        )
        return ConditionalNet(num_classes, latent_net, label_net, uniform_init(joint_net, 0.05))

    def conditional_discriminator(self, num_classes: int, dropout: bool, bias: bool) -> ConditionalNet:
        """Image to 240 maxout units of 5 pieces and label to 50, joined to 240 of 4 pieces, to one logit."""
        image_units, label_units = self.scaled(240), self.scaled(50)
        image_net = nn.Sequential(nn.Flatten(), nn.Dropout(0.2) if dropout else nn.Identity(), Maxout(784, image_units))
        image_net = uniform_init(image_net, 0.005)
        label_net = uniform_init(nn.Sequential(Maxout(num_classes, label_units)), 0.05)
        joint_net = nn.Sequential(
            nn.Dropout(0.5) if dropout else nn.Identity(),
            Maxout(image_units + label_units, image_units, pieces=4),
            nn.Dropout(0.5) if dropout else nn.Identity(),
            linear_head(image_units, bias=bias),
        )
        return ConditionalNet(num_classes, image_net, label_net, uniform_init(joint_net, 0.005))
