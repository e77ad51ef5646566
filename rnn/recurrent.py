"""The nets that the Clockwork RNN is compared with, of torch.nn, by the name of the cell.

elman: J. Elman, "Finding Structure in Time", 1990. lstm: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997.
gru: K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.
"""

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from rnn.sequence_classifier import Recipe, SequenceClassifier

CELLS = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
UNITS = {"elman": 206, "lstm": 98, "gru": 115}  # with about the 50,954 parameters of the default ClockworkRNN


class Recurrent(SequenceClassifier):
    """A plain recurrent layer that reads an image as a sequence, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    A linear layer classifies by the last state. Differs from the papers: torch's cells have two biases a unit, its LSTM
    the forget gate of Gers et al. 2000, its GRU resets behind the recurrent product.

    Args:
        cell: elman, lstm or gru.
        units: hidden units; None gives as many parameters as the default `ClockworkRNN` has, to 1 %.
        reading: rows, columns or pixels; see `SequenceClassifier`.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: there is no such cell, or it has no units.

    >>> for cell in CELLS:
    ...     net = Recurrent(cell)
    ...     net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 50686)
    (torch.Size([2, 10]), 51166)
    (torch.Size([2, 10]), 51185)
    """

    def __init__(
        self, cell: str = "elman", units: int | None = None, reading: str = "rows", **recipe: Unpack[Recipe]
    ) -> None:
        super().__init__(reading, **recipe)
        if cell not in CELLS:
            raise ValueError(f"model.cell={cell}: choose one of {', '.join(CELLS)}")
        if units is None:
            units = UNITS[cell]
        if units < 1:
            raise ValueError(f"model.units={units}: a whole number above 0 is needed (null for the default)")
        self.recurrent = CELLS[cell](self.num_inputs, units, batch_first=True)
        self.readout = nn.Linear(units, 10)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.recurrent(self.sequence(images))
        return self.readout(states[:, -1])


@register_flop_formula(torch.ops.aten.mkldnn_rnn_layer)
def lstm_flops(inputs: Sequence[int], *weights: Any, **_: Any) -> int:
    """Two operations for each weight at each step of sequences (T, N, F); torch counts none for the LSTM on a CPU."""
    return 2 * inputs[0] * inputs[1] * sum(torch.Size(weight).numel() for weight in weights[:2])
