"""MAD-GAN: A. Ghosh et al., "Multi-Agent Diverse Generative Adversarial Networks", 2018."""

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.adversarial import GAN, LogRecipe
from gan.networks import discriminator, generator


class Generators(nn.Module):
    """k generators with a common trunk, latents (N, Z) -> images (N, 1, 28, 28): row n is made by generator n mod k."""

    def __init__(self, trunk: nn.Module, heads: list[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)

    def forward(self, latents: Tensor) -> Tensor:
        features = self.trunk(latents)
        count = len(self.heads)
        of_each = [head(features[n::count]) for n, head in enumerate(self.heads) if n < len(latents)]
        return torch.cat(of_each)[self.back_in_order(len(latents))]

    def back_in_order(self, rows: int) -> Tensor:
        """Where row n has come to lie (rows,), when those of the first generator stand first, then the second's, ...

        >>> Generators(nn.Identity(), [nn.Identity(), nn.Identity()]).back_in_order(5)
        tensor([0, 3, 1, 4, 2])
        """
        return (torch.arange(rows) % len(self.heads)).argsort(stable=True).argsort()


class MADGAN(GAN):
    """Several generators, and a discriminator that tells which made an image: latents (N, 100) -> (N, 1, 28, 28).

    The discriminator has k + 1 classes, one a generator and the last for real images, and minimizes the cross-entropy.
    Each generator wants its images to be taken for real. To be told apart, the generators have to go different ways.
    They share the trunk of the pair's generator; row n of a batch is made by generator n mod k. Differs from the paper,
    whose cross-entropy is summed over the generators (section 3.1), so that generated images weigh k times as much as
    real ones: that is `fake_weight` k. The discriminator then stayed at chance about the real digits of MNIST and all
    generators drew one pattern, so here both weigh alike. A batch of N real images meets N / k of each generator; the
    generators' loss is the mean of theirs, not the sum. The defaults take -log D_real(G(z)) in place of the paper's
    log(1 - D_real(G(z))), which is `saturating`, and k = 4 and DCGAN's recipe: ours.

    >>> import torch
    >>> net = MADGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13630537)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
        num_generators: k.
        fake_weight: of the generated images in the discriminator's loss, where real ones have 1.

    Raises:
        ValueError: `num_generators` is below 1, or `fake_weight` not above 0.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "dcgan",
        width: float = 1.0,
        num_generators: int = 4,
        fake_weight: float = 1.0,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        if num_generators < 1:
            raise ValueError(f"model.num_generators={num_generators}: a whole number above 0 is needed")
        if not fake_weight > 0:
            raise ValueError(
                f"model.fake_weight={fake_weight}: a number above 0 is needed, the paper has the number of generators"
            )
        trunk, first = generator(network, latent_dim, width)
        others = [generator(network, latent_dim, width)[1] for _ in range(num_generators - 1)]
        which = discriminator(network, width, outputs=num_generators + 1)
        super().__init__(Generators(trunk, [first, *others]), which, latent_dim, **recipe)
        self.num_generators = num_generators
        self.fake_weight = fake_weight

    def classes(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The right answers of the discriminator: k for every real image, n mod k for row n of the generated ones."""
        of_real = torch.full((len(real),), self.num_generators, device=real.device)
        return of_real, torch.arange(len(fake), device=fake.device) % self.num_generators

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        of_real, of_fake = self.classes(real, fake)
        loss = F.cross_entropy(self.discriminator(real, *labels), of_real)
        return loss + self.fake_weight * F.cross_entropy(self.discriminator(fake, *labels), of_fake)

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """-log D_real(G(z)), or log(1 - D_real(G(z))) where `saturating`."""
        of_classes = self.discriminator(fake, *labels).log_softmax(1)  # (N, k + 1)
        return of_classes[:, :-1].logsumexp(1).mean() if self.saturating else -of_classes[:, -1].mean()

    @torch.no_grad()
    def discriminator_accuracy(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """The share of images that are rightly told real or generated, by whichever generator."""
        is_real, is_fake = (
            self.discriminator(images, *labels).argmax(1) == self.num_generators for images in (real, fake)
        )
        return torch.cat([is_real, ~is_fake]).float().mean()
