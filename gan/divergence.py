"""Notices when the training of a GAN has diverged, and which of its nets was the first."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from datamodules.contract import DivergenceError


class DivergenceMonitor:
    """Remembers on the device when a net's output first was not finite, so that no step has to wait for it.

    >>> monitor = DivergenceMonitor()
    >>> for step, loss in enumerate([0.5, float("nan"), float("nan")], start=1):
    ...     monitor.track(torch.zeros(2, 1), torch.tensor(loss), step)
    >>> monitor.check()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    datamodules.contract.DivergenceError: diverged: discriminator is not finite at step 2; a smaller learning rate ...
    """

    def __init__(self) -> None:
        self.first_steps = torch.tensor([-1, -1])  # of the generator and the discriminator

    @torch.no_grad()
    def track(self, fake: Tensor, loss: Tensor, step: int) -> None:
        """Looks at the generated samples (N, ...) and at a loss of this generator step.

        A loss that is not finite on finite samples is the discriminator's fault, whichever net it trains.
        """
        finite = torch.stack([fake.detach().float().sum().isfinite(), loss.detach().isfinite()])
        first_steps = self.first_steps.to(finite.device)
        self.first_steps = torch.where(finite | (first_steps >= 0), first_steps, step)

    def check(self) -> None:
        """Raises a `DivergenceError` if a net's output was not finite."""
        generator, discriminator = self.first_steps.tolist()
        if generator >= 0 and (discriminator < 0 or generator <= discriminator):  # its samples come before the loss
            raise DivergenceError("generator", generator)
        if discriminator >= 0:
            raise DivergenceError("discriminator", discriminator)

    def check_weights(self, nets: Mapping[str, nn.Module], step: int) -> None:
        """Raises a `DivergenceError` if a net's output was not finite or its weights are not."""
        self.check()
        for name, net in nets.items():
            if not all(parameter.isfinite().all() for parameter in net.parameters()):
                raise DivergenceError(name, step)
