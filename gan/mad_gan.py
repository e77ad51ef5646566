"""MAD-GAN: A. Ghosh et al., "Multi-Agent Diverse Generative Adversarial Networks", 2018."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.contract import ArgumentError, Count, Positive
from gan.adversarial import GAN
from gan.networks import DCGAN, NetworkPair
from gan.recipe import LogRecipe

LAYERS_WITH_WEIGHTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Generators(nn.Module):
    """k generators with a common trunk, latents (N, Z) -> samples (N, ...): row n is made by generator n mod k."""

    def __init__(self, trunk: nn.Module, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)

    def forward(self, latents: Tensor, each: bool = False) -> Tensor:
        """Samples (N, ...), or (kN, ...) where `each` generator makes one of each latent."""
        features, count = self.trunk(latents), len(self.heads)
        if each or torch.compiler.is_exporting():  # a graph for batches of any size has no samples to leave out
            samples = torch.stack([head(features) for head in self.heads], 1)  # (N, k, ...)
            if each:
                return samples.flatten(0, 1)
            rows = torch.arange(latents.shape[0], device=latents.device)
            return samples[rows, rows % count]
        outputs = [head(features[n::count]) for n, head in enumerate(self.heads) if n < len(latents)]
        return torch.cat(outputs)[self.original_order(len(latents))]

    def original_order(self, rows: int) -> Tensor:
        """Indices (rows,) that restore the order of rows which are grouped by generator.

        >>> Generators(nn.Identity(), [nn.Identity(), nn.Identity()]).original_order(5)
        tensor([0, 3, 1, 4, 2])
        """
        return (torch.arange(rows) % len(self.heads)).argsort(stable=True).argsort()


def divide_generator(generator: nn.Sequential, private_layers: int) -> tuple[nn.Sequential, nn.Sequential]:
    """A pair's generator as two nets, of which the second begins with the last `private_layers` layers with weights.

    >>> [len(net) for net in divide_generator(DCGAN(0.1).generator(100), 1)]
    [10, 2]

    Raises:
        ValueError: it has fewer layers with weights, or no other ones.
    """
    layers = [layer for part in generator for layer in part.children()]
    starts = [index for index, layer in enumerate(layers) if isinstance(layer, LAYERS_WITH_WEIGHTS)]
    if private_layers >= len(starts):
        raise ArgumentError("private_layers", private_layers, f"should be less than the generator's {len(starts)}")
    start = starts[-private_layers]
    return nn.Sequential(*layers[:start]), nn.Sequential(*layers[start:])


class MADGAN(GAN):
    """Several generators, and a discriminator that says which made an image: latents (N, 100) -> (N, 1, 28, 28).

    The discriminator has k + 1 classes, one per generator and the last for real images, and minimizes the
    cross-entropy. Each generator wants its images to be classified as real; that the discriminator separates the
    generators drives them apart. In a step every generator makes N images from the same N latents; of samples, row n is
    made by generator n mod k. The generators share all layers but the last ones, as in the first author's code.
    Deviations from the paper: the generators' loss is the mean of theirs, not the sum, and the defaults minimize -log
    D_real(G(z)), as that code does, in place of log(1 - D_real(G(z))), which is `saturating`. Deviations from the code:
    the nets and the recipe are DCGAN's, latents are Gaussian, not uniform, and `fake_weight` is 1, not k.

    >>> import torch
    >>> net = MADGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13236937)

    Args:
        network: the pair of nets.
        num_generators: k.
        private_layers: how many of the last layers with weights each generator has to itself.
        fake_weight: weight of the generated images in the discriminator's loss, where real ones have 1; k is the
            paper's sum over all images.
    """

    generator: Generators

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = DCGAN(),
        num_generators: Count = 4,
        private_layers: Count = 1,
        fake_weight: Positive = 1.0,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        trunk, first = divide_generator(network.generator(latent_dim), private_layers)
        others = [divide_generator(network.generator(latent_dim), private_layers)[1] for _ in range(num_generators - 1)]
        discriminator = network.discriminator(outputs=num_generators + 1)
        super().__init__(Generators(trunk, [first, *others]), discriminator, latent_dim, **recipe)
        self.network = network
        self.num_generators = num_generators
        self.fake_weight = fake_weight

    def training_samples(self, count: int, *labels: Tensor) -> Tensor:
        """Samples (k count, ...): one of each generator from each latent."""
        return self.generator(self.latents(count), each=True)

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
