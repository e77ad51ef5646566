"""Clockwork RNN: J. Koutník, K. Greff, F. Gomez, J. Schmidhuber, "A Clockwork RNN", 2014."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Unpack

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.contract import Count
from rnn.sequence_classifier import Reading, Recipe, SequenceClassifier


class ClockworkLayer(nn.Module):
    """Groups of units, each with its own clock: sequences (N, T, F) -> the last state, (N, units) (section 3, eq. 1).

    y(t) = tanh(W_H y(t-1) + W_I x(t) + b) for the groups whose period divides t; the others keep their state. Sorted by
    period, group i reads the groups j >= i: W_H is block upper triangular, so that slow groups inform fast ones. Its
    blocks below the diagonal are not stored, and a group is computed only at the steps at which it is active: one
    matrix product per step for all groups that are active together.

    Args:
        num_inputs: F.
        group_size: units per group.
        periods: one per group.
    """

    def __init__(self, num_inputs: int, group_size: int, periods: Sequence[int]) -> None:
        super().__init__()
        self.group_size = group_size
        self.periods = sorted(periods)
        self.units = group_size * len(periods)
        for group in range(len(periods)):
            reads = self.units - group * group_size
            self.register_parameter(f"recurrent_{group}", weights(group_size, reads))
            self.register_parameter(f"input_{group}", weights(group_size, num_inputs))
            self.register_parameter(f"bias_{group}", nn.Parameter(torch.zeros(group_size)))

    def forward(self, sequences: Tensor) -> Tensor:
        steps = sequences.transpose(0, 1)  # (T, N, F)
        active = [tuple(i for i, period in enumerate(self.periods) if t % period == 0) for t in range(len(steps))]
        matrices = {groups: self.recurrent_weights(groups) for groups in set(active[1:]) if groups}
        drives = {}  # what the inputs add at the steps of each set of groups, (steps, N, units)
        for groups in {groups for groups in active if groups}:
            times = [t for t, others in enumerate(active) if others == groups]
            inputs, biases = (
                torch.cat([self.get_parameter(f"{kind}_{i}") for i in groups]) for kind in ("input", "bias")
            )
            drives[groups] = iter(F.linear(steps[times], inputs, biases))
        state = torch.tanh(next(drives[active[0]]))  # all groups are active at step 0, and the state before is 0
        for groups in active[1:]:
            if groups:
                new = torch.tanh(torch.addmm(next(drives[groups]), state, matrices[groups]))
                state = self.replace(state, new, groups)
        return state

    def recurrent_weights(self, groups: Sequence[int]) -> Tensor:
        """The columns of W_H^T for these groups, (units, len(groups) * group_size)."""
        rows = [F.pad(self.get_parameter(f"recurrent_{i}"), (i * self.group_size, 0)) for i in groups]
        return torch.cat(rows).T

    def replace(self, state: Tensor, new: Tensor, groups: Sequence[int]) -> Tensor:
        """The state (N, units) with the units of these groups replaced by `new` (N, len(groups) * group_size)."""
        size, done = self.group_size, 0
        parts: list[Tensor] = []
        for is_new, run in groupby(range(len(self.periods)), lambda i: i in groups):
            count = size * len(list(run))
            source, start = (new, done) if is_new else (state, sum(part.shape[1] for part in parts))
            parts.append(source[:, start : start + count])
            done += count if is_new else 0
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def weights(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) / columns**0.5)


class ClockworkRNN(SequenceClassifier):
    """Clockwork RNN that reads an image as a sequence, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    Deviations from the paper, which has no image task: a linear layer classifies by the last state; weights of
    standard deviation 1 / sqrt(inputs) instead of 0.1.

    Args:
        units: hidden units of all groups together.
        periods: one per group; all groups have the same size.
        reading: rows, columns or pixels; see `SequenceClassifier`.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the units cannot be divided equally among the groups.

    >>> net = ClockworkRNN()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 50954)
    """

    def __init__(
        self,
        units: Count = 256,
        periods: Annotated[Sequence[Count], Field(min_length=1)] = (1, 2, 4, 8),
        reading: Reading = "rows",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(reading, in_channels, num_classes, image_size, **recipe)
        if units % len(periods):
            raise ValueError(f"units must be a multiple of {len(periods)}, the number of periods, got {units}")
        self.clockwork = ClockworkLayer(self.num_inputs, units // len(periods), periods)
        self.readout = nn.Linear(units, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.readout(self.clockwork(self.sequence(images)))
