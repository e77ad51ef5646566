"""Discriminators and critics trained to their optimum against samples that do not change, on points of the plane."""

import math
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from datamodules.contract import Count
from datamodules.ring import Ring
from gan.adversarial import GAN
from gan.wgan import WGAN
from gan.wgan_gp import WGANGP
from tasks.build import build_model
from tasks.claims.claim import MeasuredRun
from tasks.runs_compare import Curve

EVALUATED = 2000  # samples of each set that a trained discriminator is looked at with
BINS = 41  # of the histogram of weights

Sampler = Callable[[int], Tensor]


def parallel_lines(
    run: MeasuredRun,
    steps: Count = 600,
    batch: Count = 256,
    distances: Sequence[float] = (0.0, 0.25, 0.5, 1.0, 2.0),
) -> dict[str, float | Curve]:
    """`value`: what a trained discriminator or critic estimates of the distance of two parallel lines; `slope`: of that
    over their distance; `relative_rise`: from the smallest distance to the largest, as a share of the latter;
    `gradient_at_1`: the mean norm of the generator loss's gradient at a generated point, at distance 1.

    M. Arjovsky et al., "Wasserstein GAN", 2017, example 1: real points are (0, z), generated ones (distance, z), z from
    U[0, 1]. For the estimates see `estimate`; `value` and `gradient` are curves.

    Args:
        run: of a GAN of points; a new net is trained for each distance.
        steps: of the discriminator.
        batch: points of each set in a step.
        distances: 1 among them.
    """
    values: Curve = []
    gradients: Curve = []
    for distance in distances:
        model = new_gan(run)
        real, fake = (lambda count: line(count, 0.0)), (lambda count, x=distance: line(count, x))
        train_discriminator(model, real, fake, steps, batch)
        values.append((distance, estimate(model, real(EVALUATED), fake(EVALUATED))))
        gradients.append((distance, gradient_norm(model, real(EVALUATED), fake(EVALUATED))))
    apart = [point for point in values if point[0] > 0]
    return {
        "value": values,
        "gradient": gradients,
        "slope": statistics.linear_regression(*zip(*apart, strict=True)).slope,
        "relative_rise": 1 - apart[0][1] / apart[-1][1],
        "gradient_at_1": dict(gradients)[1.0],
    }


def critic_weights(run: MeasuredRun, steps: Count = 5000, batch: Count = 256) -> dict[str, float | Curve]:
    """`share_at_extremes`: the share of a trained critic's weights within 5 % of the largest magnitude in their layer.

    I. Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, section 3.1: the points are a ring's, and the
    generated ones are real ones plus Gaussian noise of variance 1.

    The curve `weights` is a histogram of the weights divided by their layer's largest: pairs of the middle of a bin and
    the share of all weights in it.
    """
    ring = Ring()
    model = new_gan(run)

    def real(count: int) -> Tensor:
        return ring.transform(ring.centres[torch.randint(len(ring.centres), (count,))])

    train_discriminator(model, real, lambda count: real(count) + torch.randn(count, 2), steps, batch)
    layers = [weight.detach() for weight in model.discriminator.parameters() if weight.dim() > 1]
    relative = torch.cat([(weight / weight.abs().max()).flatten() for weight in layers])
    shares = (relative.histc(BINS, -1, 1) / len(relative)).tolist()
    middles = [(2 * index + 1) / BINS - 1 for index in range(BINS)]
    return {"share_at_extremes": share_at_extremes(layers), "weights": list(zip(middles, shares, strict=True))}


def share_at_extremes(layers: list[Tensor], margin: float = 0.05) -> float:
    """The share of weights within `margin` of the largest magnitude in their layer.

    >>> share_at_extremes([torch.tensor([[1.0, -0.98, 0.5, 0.0]]), torch.tensor([[0.01, -0.01]])])
    0.6666666865348816
    """
    near = torch.cat([(weight.abs() >= (1 - margin) * weight.abs().max()).flatten() for weight in layers])
    return near.float().mean().item()


def new_gan(run: MeasuredRun) -> GAN:
    """A new GAN of the run's config and seed."""
    torch.manual_seed(run.cfg.seed)
    model = build_model(run.cfg.model, Ring())
    assert isinstance(model, GAN)
    return model.train()


def line(count: int, distance: float) -> Tensor:
    """Points (count, 2) of the vertical line of length 1 at that distance from the origin."""
    return torch.stack([torch.full((count,), distance), torch.rand(count)], 1)


def train_discriminator(model: GAN, real: Sampler, fake: Sampler, steps: int, batch: int) -> None:
    """Trains the discriminator by its own loss and optimizer against samples that do not change."""
    optimizer = model.discriminator_optimizer(model.discriminator.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model.discriminator_loss(real(batch), fake(batch)).backward()
        optimizer.step()
        model.after_discriminator_step()


@torch.no_grad()
def estimate(model: GAN, real: Tensor, fake: Tensor) -> float:
    """A critic's estimate of the Wasserstein distance, a discriminator's of the Jensen-Shannon divergence in nats.

    The latter is log 2 - L / 2 with L the discriminator's loss (Arjovsky et al. 2017, section 4.2).
    """
    if isinstance(model, WGAN | WGANGP):
        return (model.discriminator(real).mean() - model.discriminator(fake).mean()).item()
    return math.log(2) - model.discriminator_loss(real, fake).item() / 2


def gradient_norm(model: GAN, real: Tensor, fake: Tensor) -> float:
    """The mean norm of the gradient of each generated sample's part in the generator's loss."""
    fake = fake.requires_grad_()
    loss = model.generator_loss(real, fake) * len(fake)  # the sum, of the mean over samples
    [gradient] = torch.autograd.grad(loss, fake)
    return gradient.flatten(1).norm(dim=1).mean().item()
