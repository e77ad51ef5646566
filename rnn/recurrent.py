"""The recurrent layers that the Clockwork RNN is compared with, from torch.nn.

elman: J. Elman, "Finding Structure in Time", 1990. lstm: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997.
gru: K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.
"""

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from datamodules.contract import Count
from rnn.sequence_classifier import Reading, Recipe, SequenceClassifier

CELLS = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
# Units with which each cell has as many parameters as the default ClockworkRNN, 50,954, to 1 %.
COMPARABLE_UNITS = {"elman": 206, "lstm": 98, "gru": 115}


class Recurrent(SequenceClassifier):
    """A plain recurrent layer that reads an image as a sequence, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    A linear layer classifies by the last state. Deviations from the papers: torch's cells have two biases per unit, its
    LSTM has the forget gate of Gers et al. 2000, its GRU resets behind the recurrent product, and Elman's units are
    tanh, not logistic. In a mixed precision on a CPU the LSTM computes in float32.

    Args:
        cell: elman, lstm or gru.
        units: hidden units; `COMPARABLE_UNITS` makes cells of about equal size.
        reading: rows, columns or pixels; see `SequenceClassifier`.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    >>> for cell, units in COMPARABLE_UNITS.items():
    ...     net = Recurrent(cell, units)
    ...     net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 50686)
    (torch.Size([2, 10]), 51166)
    (torch.Size([2, 10]), 51185)
    """

    def __init__(
        self,
        cell: Literal["elman", "lstm", "gru"] = "elman",
        units: Count = 206,
        reading: Reading = "rows",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(reading, in_channels, num_classes, image_size, **recipe)
        self.recurrent = CELLS[cell](self.num_inputs, units, batch_first=True)
        self.readout = nn.Linear(units, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        sequence = self.sequence(images)
        if isinstance(self.recurrent, nn.LSTM) and images.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):  # oneDNN has it in bfloat16 for some processors alone
                states, _ = self.recurrent(sequence.float())
        else:
            states, _ = self.recurrent(sequence)
        return self.readout(states[:, -1])


@register_flop_formula(torch.ops.aten.mkldnn_rnn_layer)
def lstm_flops(inputs: Sequence[int], *weights: Any, **_: Any) -> int:
    """Two operations for each weight at each step of sequences (T, N, F); torch counts none for the LSTM on a CPU."""
    return 2 * inputs[0] * inputs[1] * sum(torch.Size(weight).numel() for weight in weights[:2])
