"""Unrolled GAN: L. Metz et al., "Unrolled Generative Adversarial Networks", 2017."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Adam

from datamodules.contract import Count, Index, Positive
from gan.adversarial import GAN
from gan.networks import MLP, NetworkPair
from gan.recipe import LogRecipe

TINY = 1e-30  # the square root has no slope at 0


class UnrolledGAN(GAN):
    """The generator looks ahead K steps of the discriminator: latents (N, 100) -> images (N, 1, 28, 28) in [-1, 1].

    Its loss is that of a discriminator after K steps from the present one, and its gradient goes through these steps
    (equations 6 to 11); the discriminator itself then takes one step. Where `saturating`, that loss is the whole of the
    first paper's equation 1, real images included, as in the paper and the authors' demo: through the steps their
    logits depend on the generator. The discriminator has no dropout, so that all K steps are of one function, and its
    pair's batch normalization, as in the paper's own pair, `Stacked`. Deviations from the paper: the default minimizes
    -log D(G(z)), and its nets are the first GAN's. As in the authors' demo, the discriminator's rate is a tenth of the
    generator's.

    >>> import torch
    >>> net = UnrolledGAN()
    >>> net(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 3735425)

    Args:
        network: the pair of nets.
        unrolled_steps: K; 0 is the first paper's GAN.
        unrolled_lr: eta, the learning rate of gradient descent for the K steps (equation 7). None: they are the steps
            that the discriminator's Adam would take next, as in the authors' code.

    Raises:
        ValueError: in training, `unrolled_lr` is None and the discriminator's optimizer is not Adam.
    """

    has_double_backward = True

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = MLP(),
        unrolled_steps: Index = 5,
        unrolled_lr: Positive | None = None,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        discriminator = network.discriminator(dropout=False)
        super().__init__(network.generator(latent_dim), discriminator, latent_dim, **recipe)
        self.network = network
        self.unrolled_steps = unrolled_steps
        self.unrolled_lr = unrolled_lr

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """The first paper's loss, with the discriminator as it would be after K steps on these images."""
        net = self.discriminator
        weights = {name: weight.detach().requires_grad_() for name, weight in net.named_parameters()}
        optimizer = self.unrolled_optimizer()
        for _ in range(self.unrolled_steps):
            real_logits, fake_logits = (functional_call(net, weights, (images, *labels)) for images in (real, fake))
            loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = dict(zip(weights, optimizer.step(list(weights.values()), gradients), strict=True))
        fake_logits = functional_call(net, weights, (fake, *labels))
        if not self.saturating:
            return F.softplus(-fake_logits).mean()
        real_logits = functional_call(net, weights, (real, *labels))
        return -F.softplus(-real_logits).mean() - F.softplus(fake_logits).mean()

    def unrolled_optimizer(self) -> "UnrolledSGD | UnrolledAdam":
        """The optimizer of the K steps."""
        if self.unrolled_lr is not None:
            return UnrolledSGD(self.unrolled_lr)
        optimizer = self.trainer.optimizers[1]
        if type(optimizer) is not Adam:
            name = type(optimizer).__name__
            raise ValueError(f"unrolled_lr must be a number unless Adam trains the discriminator, got None and {name}")
        if others := [key for key in ("weight_decay", "amsgrad", "maximize") if optimizer.defaults[key]]:
            raise ValueError(f"unrolled_lr must be a number where the discriminator's Adam has {others[0]}, got None")
        return UnrolledAdam(optimizer)


class UnrolledSGD(NamedTuple):
    """Plain gradient descent, equation 7."""

    lr: float

    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        return [weight - self.lr * gradient for weight, gradient in zip(weights, gradients, strict=True)]


class UnrolledAdam:
    """The steps that `optimizer` would take next from its present state, as functions of their gradients.

    D. Kingma & J. Ba, "Adam", 2015, algorithm 1, without weight decay. The optimizer itself is not changed.
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
