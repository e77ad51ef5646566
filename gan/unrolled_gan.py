"""Unrolled GAN: L. Metz et al., "Unrolled Generative Adversarial Networks", 2017."""

from typing import Unpack

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from gan.adversarial import GAN, LogRecipe
from gan.networks import discriminator, generator


class UnrolledGAN(GAN):
    """The generator looks K steps of the discriminator ahead: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Its loss is that of a discriminator after K steps from the present one, and its gradient goes through these steps
    (equations 4 to 8); the discriminator itself then takes one step. Where `saturating`, that loss is the whole of the
    first paper's equation 1, real images too: by the steps these depend on the generator. The discriminator has no
    dropout, so that all K steps are of one function, and batch normalization in the paper's own pair alone. Differs
    from the authors' code: the steps looked ahead are those of plain gradient descent, as in equation 5, not Adam's.

    >>> import torch
    >>> net = UnrolledGAN()
    >>> net(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3735425)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
        unrolled_steps: K; 0 is the first paper's GAN.
        unrolled_lr: eta, the learning rate of the steps looked ahead.

    Raises:
        ValueError: `unrolled_steps` is below 0 or `unrolled_lr` not above 0.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "mlp",
        width: float = 1.0,
        unrolled_steps: int = 5,
        unrolled_lr: float = 0.1,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        smooth = discriminator(network, width, dropout=False, batch_norm=network == "stacked")
        super().__init__(generator(network, latent_dim, width), smooth, latent_dim, **recipe)
        if unrolled_steps < 0:
            raise ValueError(f"model.unrolled_steps={unrolled_steps}: a whole number from 0 on is needed")
        if not unrolled_lr > 0:
            raise ValueError(f"model.unrolled_lr={unrolled_lr}: a number above 0 is needed")
        self.unrolled_steps = unrolled_steps
        self.unrolled_lr = unrolled_lr

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """The first paper's loss, by the discriminator that K steps on these images make of the present one."""
        net = self.discriminator
        weights = {name: weight.detach().requires_grad_() for name, weight in net.named_parameters()}
        for _ in range(self.unrolled_steps):
            of_real, of_fake = (functional_call(net, weights, (images, *labels)) for images in (real, fake))
            loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            steps = zip(weights.items(), gradients, strict=True)
            weights = {name: weight - self.unrolled_lr * gradient for (name, weight), gradient in steps}
        of_fake = functional_call(net, weights, (fake, *labels))
        if not self.saturating:
            return F.softplus(-of_fake).mean()
        of_real = functional_call(net, weights, (real, *labels))
        return -F.softplus(-of_real).mean() - F.softplus(of_fake).mean()
