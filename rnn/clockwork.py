"""Clockwork RNN: J. Koutník, K. Greff, F. Gomez, J. Schmidhuber, "A Clockwork RNN", 2014."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnn.sequence_classifier import Recipe, SequenceClassifier


class ClockworkLayer(nn.Module):
    """Groups of units with a clock each: sequences (N, T, F) -> the last state, (N, units) (section 3, equation 1).

    y(t) = tanh(W_H y(t-1) + W_I x(t) + b) for the groups whose period divides t; the others keep their state. Sorted by
    period, group i reads the groups j >= i: W_H is block upper triangular, slow groups tell fast ones. Its blocks below
    the diagonal do not exist, and no row of a group is computed at a step at which that is not active.

    Args:
        num_inputs: F.
        group_size: units a group.
        periods: one a group.
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
        drives = [  # of each group at its own steps alone, (N, ceil(T / period), group_size)
            F.linear(sequences[:, ::period], self.get_parameter(f"input_{i}"), self.get_parameter(f"bias_{i}"))
            for i, period in enumerate(self.periods)
        ]
        recurrent = [self.get_parameter(f"recurrent_{i}") for i in range(len(self.periods))]
        state = sequences.new_zeros(len(sequences), self.units)
        for step in range(sequences.shape[1]):
            groups = list(state.split(self.group_size, 1))
            for i, period in enumerate(self.periods):
                if step % period == 0:
                    seen = state[:, i * self.group_size :]  # of the last step: its own group and the slower ones
                    groups[i] = torch.tanh(drives[i][:, step // period] + F.linear(seen, recurrent[i]))
            state = torch.cat(groups, 1)
        return state


def weights(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) / columns**0.5)


class ClockworkRNN(SequenceClassifier):
    """Clockwork RNN that reads an image as a sequence, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    Differs from the paper, which has no image task: a linear layer classifies by the last state; weights from
    N(0, 1 / inputs) instead of N(0, 0.1).

    Args:
        units: hidden units of all groups together.
        periods: one a group, any whole numbers; all groups are as large.
        reading: rows, columns or pixels; see `SequenceClassifier`.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: a period is below 1, or the groups cannot be as large.

    >>> net = ClockworkRNN()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 50954)
    """

    def __init__(
        self, units: int = 256, periods: Sequence[int] = (1, 2, 4, 8), reading: str = "rows", **recipe: Unpack[Recipe]
    ) -> None:
        super().__init__(reading, **recipe)
        if not periods or any(not isinstance(period, int) or period < 1 for period in periods):
            raise ValueError(f"model.periods={list(periods)}: whole numbers above 0 are needed, one a group")
        if units < 1 or units % len(periods):
            raise ValueError(f"model.units={units}: a multiple of {len(periods)}, the number of groups, is needed")
        self.clockwork = ClockworkLayer(self.num_inputs, units // len(periods), periods)
        self.readout = nn.Linear(units, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.readout(self.clockwork(self.sequence(images)))
