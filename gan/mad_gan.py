"""MAD-GAN: A. Ghosh et al., "Multi-Agent Diverse Generative Adversarial Networks", 2018."""

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.contract import Count, Positive
from gan.adversarial import GAN
from gan.networks import DCGAN, NetworkPair
from gan.recipe import LogRecipe


class Generators(nn.Module):
    """k generators with a common trunk, latents (N, Z) -> images (N, 1, 28, 28): row n is made by generator n mod k."""

    def __init__(self, trunk: nn.Module, heads: list[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)

    def forward(self, latents: Tensor) -> Tensor:
        features = self.trunk(latents)
        count = len(self.heads)
        outputs = [head(features[n::count]) for n, head in enumerate(self.heads) if n < len(latents)]
        return torch.cat(outputs)[self.original_order(len(latents))]

    def original_order(self, rows: int) -> Tensor:
        """Indices (rows,) that restore the order of rows which are grouped by generator.

        >>> Generators(nn.Identity(), [nn.Identity(), nn.Identity()]).original_order(5)
        tensor([0, 3, 1, 4, 2])
        """
        return (torch.arange(rows) % len(self.heads)).argsort(stable=True).argsort()


class MADGAN(GAN):
    """Several generators, and a discriminator that says which made an image: latents (N, 100) -> (N, 1, 28, 28).

    The discriminator has k + 1 classes, one per generator and the last for real images, and minimizes the
    cross-entropy. Each generator wants its images to be classified as real; that the discriminator separates the
    generators drives them apart. They share the trunk of the pair's generator; row n of a batch is made by generator n
    mod k. Deviations from the paper: its cross-entropy is summed over the generators (section 3.1), so that generated
    images weigh k times as much as real ones, which is `fake_weight` k. The discriminator then stayed at chance on the
    real digits of MNIST and all generators drew one pattern, so that here both weigh the same. A batch has N real
    images and N / k of each generator; the generators' loss is the mean of theirs, not the sum. The defaults minimize
    -log D_real(G(z)) in place of the paper's log(1 - D_real(G(z))), which is `saturating`; k = 4 and DCGAN's recipe are
    our choice.

    >>> import torch
    >>> net = MADGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13630537)

    Args:
        network: the pair of nets.
        num_generators: k.
        fake_weight: weight of the generated images in the discriminator's loss, where real ones have 1.
    """

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = DCGAN(),
        num_generators: Count = 4,
        fake_weight: Positive = 1.0,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        trunk, first = network.generator(latent_dim)
        others = [network.generator(latent_dim)[1] for _ in range(num_generators - 1)]
        discriminator = network.discriminator(outputs=num_generators + 1)
        super().__init__(Generators(trunk, [first, *others]), discriminator, latent_dim, **recipe)
        self.network = network
        self.num_generators = num_generators
        self.fake_weight = fake_weight

    def classes(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's targets: k for every real image, n mod k for row n of the generated ones."""
        real_classes = torch.full((len(real),), self.num_generators, device=real.device)
        return real_classes, torch.arange(len(fake), device=fake.device) % self.num_generators

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        real_classes, fake_classes = self.classes(real, fake)
        loss = F.cross_entropy(self.discriminator(real, *labels), real_classes)
        return loss + self.fake_weight * F.cross_entropy(self.discriminator(fake, *labels), fake_classes)

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """-log D_real(G(z)), or log(1 - D_real(G(z))) where `saturating`."""
        log_probabilities = self.discriminator(fake, *labels).log_softmax(1)  # (N, k + 1)
        if self.saturating:
            return log_probabilities[:, :-1].logsumexp(1).mean()
        return -log_probabilities[:, -1].mean()

    @torch.no_grad()
    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """Share of images correctly classified as real or generated, by whichever generator."""
        is_real, is_fake = (
            self.discriminator(images, *labels).argmax(1) == self.num_generators for images in (real, fake)
        )
        return torch.cat([is_real, ~is_fake]).float().mean()
