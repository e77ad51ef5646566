"""Pair for points of the plane: L. Metz et al., "Unrolled Generative Adversarial Networks", 2017, appendix A."""

from typing import ClassVar

from torch import Tensor, nn

from gan.networks.blocks import linear_head, orthogonal_init
from gan.networks.pair import NetworkPair


class Quarter(nn.Module):
    """Divides by 4, which brings the points of a ring of radius 2 to about [-1, 1]."""

    def forward(self, points: Tensor) -> Tensor:
        return points / 4


class Points(NetworkPair):
    """Latents -> points (N, 2) of the plane, for counting the modes of a ring of Gaussians.

    Generator Z-128-128-2 with ReLU, its head from the second layer on; discriminator 2-128-128-1 with ReLU on a quarter
    of the point. Deviations from the paper: its appendix A has one hidden layer in the discriminator, its demo two,
    with tanh.

    >>> [sum(p.numel() for p in net.parameters()) for net in (Points().generator(256), Points().discriminator())]
    [49666, 17025]
    """

    sample_shape: ClassVar[tuple[int, ...]] = (2,)

    def generator(self, latent_dim: int) -> nn.Sequential:
        hidden = self.scaled(128)
        trunk = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU())
        head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        return orthogonal_init(nn.Sequential(trunk, head))

    def discriminator(
        self, outputs: int = 1, dropout: bool = True, batch_norm: bool = True, bias: bool = True
    ) -> nn.Sequential:
        hidden = self.scaled(128)
        features = nn.Sequential(Quarter(), nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        return orthogonal_init(nn.Sequential(features, linear_head(hidden, outputs, bias)))
