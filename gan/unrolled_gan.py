"""Unrolled GAN: L. Metz et al., "Unrolled Generative Adversarial Networks", 2017."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Adam

from gan.adversarial import GAN, LogRecipe
from gan.networks import STACKED, discriminator, generator

TINY = 1e-30  # the square root has no slope at 0


class UnrolledGAN(GAN):
    """The generator looks K steps of the discriminator ahead: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Its loss is that of a discriminator after K steps from the present one, and its gradient goes through these steps
    (equations 4 to 8); the discriminator itself then takes one step. Where `saturating`, that loss is the whole of the
    first paper's equation 1, real images too: by the steps these depend on the generator. The discriminator has no
    dropout, so that all K steps are of one function, and batch normalization in the paper's own pair alone.

    >>> import torch
    >>> net = UnrolledGAN()
    >>> net(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3735425)

    Args:
        network: the pair of nets, one of `gan.networks.NETWORKS`.
        width: share of the pair's units and channels.
        unrolled_steps: K; 0 is the first paper's GAN.
        unrolled_lr: eta, the learning rate of plain gradient descent as the steps looked ahead (equation 5). None: they
            are those that the discriminator's Adam would take next, as in the authors' code.

    Raises:
        ValueError: `unrolled_steps` is below 0, `unrolled_lr` not above 0, or None where Adam is not what trains.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        network: str = "mlp",
        width: float = 1.0,
        unrolled_steps: int = 5,
        unrolled_lr: float | None = None,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        smooth = discriminator(network, width, dropout=False, batch_norm=network in STACKED)
        super().__init__(generator(network, latent_dim, width), smooth, latent_dim, **recipe)
        if unrolled_steps < 0:
            raise ValueError(f"model.unrolled_steps={unrolled_steps}: a whole number from 0 on is needed")
        if unrolled_lr is not None and not unrolled_lr > 0:
            raise ValueError(f"model.unrolled_lr={unrolled_lr}: null or a number above 0 is needed")
        self.unrolled_steps = unrolled_steps
        self.unrolled_lr = unrolled_lr

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """The first paper's loss, by the discriminator that K steps on these images make of the present one."""
        net = self.discriminator
        weights = {name: weight.detach().requires_grad_() for name, weight in net.named_parameters()}
        ahead = self.ahead()
        for _ in range(self.unrolled_steps):
            of_real, of_fake = (functional_call(net, weights, (images, *labels)) for images in (real, fake))
            loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = dict(zip(weights, ahead.step(list(weights.values()), gradients), strict=True))
        of_fake = functional_call(net, weights, (fake, *labels))
        if not self.saturating:
            return F.softplus(-of_fake).mean()
        of_real = functional_call(net, weights, (real, *labels))
        return -F.softplus(-of_real).mean() - F.softplus(of_fake).mean()

    def ahead(self) -> "Descent | AdamAhead":
        """What takes the steps that are looked ahead."""
        if self.unrolled_lr is not None:
            return Descent(self.unrolled_lr)
        optimizer = self.trainer.optimizers[1]
        if type(optimizer) is not Adam:
            raise ValueError(
                f"model.unrolled_lr=null unrolls Adam, not {type(optimizer).__name__}: give a learning rate"
            )
        return AdamAhead(optimizer)


class Descent(NamedTuple):
    """Plain gradient descent, equation 5."""

    lr: float

    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        return [weight - self.lr * gradient for weight, gradient in zip(weights, gradients, strict=True)]


class AdamAhead:
    """The steps that `optimizer` would take next from its present state, as functions of their gradients.

    D. Kingma, J. Ba, "Adam", 2015, algorithm 1, which leaves the optimizer as it is. Weight decay is left out.
    """

    def __init__(self, optimizer: Adam) -> None:
        [group] = optimizer.param_groups
        self.lr, self.betas, self.eps = group["lr"], group["betas"], group["eps"]
        states = [optimizer.state.get(weight, {}) for weight in group["params"]]  # empty before the first step
        self.steps = int(states[0].get("step", 0))
        self.first: list[Any] = [state.get("exp_avg", 0.0) for state in states]
        self.second: list[Any] = [state.get("exp_avg_sq", 0.0) for state in states]

    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        self.steps += 1
        one, two = self.betas
        self.first = [one * old + (1 - one) * new for old, new in zip(self.first, gradients, strict=True)]
        self.second = [two * old + (1 - two) * new**2 for old, new in zip(self.second, gradients, strict=True)]
        rate, scale = self.lr / (1 - one**self.steps), 1 - two**self.steps
        return [
            weight - rate * first / ((second / scale).clamp_min(TINY).sqrt() + self.eps)
            for weight, first, second in zip(weights, self.first, self.second, strict=True)
        ]
