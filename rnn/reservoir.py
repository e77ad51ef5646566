"""The random recurrent net of an echo state network, which is never trained.

M. Lukoševičius, "A Practical Guide to Applying Echo State Networks", 2012.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, identity, spmatrix
from scipy.sparse.linalg import eigs
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

FEW_UNITS = 100  # up to here all eigenvalues are computed at once


class Reservoir(nn.Module):
    """A random recurrent net that is never trained: sequences (N, T, F) -> features (N, P) of its states.

    x(t) = (1 - a) x(t-1) + a tanh(W_in u(t) + b + W x(t-1)), from x = 0 (Lukoševičius, equations 2 and 3). Each unit
    reads `connections` others: a sum of as many rows of the states, which `embedding_bag` computes 20 to 100 times
    faster than a dense product. Arguments: see `EchoStateNetwork`; without `snapshots` the feature is the mean state.
    """

    def __init__(
        self,
        num_inputs: int,
        units: int,
        spectral_radius: float,
        leaking_rate: float,
        input_scaling: float,
        connections: int,
        washout: int,
        snapshots: int | None,
    ) -> None:
        super().__init__()
        self.leaking_rate = leaking_rate
        self.washout = washout
        self.snapshots = snapshots
        # on the CPU even where the default device is another, because the eigenvalues need actual numbers
        sources = torch.randint(units, (units, connections), device="cpu")
        weights = torch.rand(units, connections, device="cpu") * 2 - 1
        weights *= spectral_radius / largest_eigenvalue(as_matrix(sources, weights))
        self.register_buffer("sources", sources)
        self.register_buffer("weights", weights)
        self.register_buffer("input_weights", (torch.rand(units, num_inputs, device="cpu") * 2 - 1) * input_scaling)
        self.register_buffer("bias", (torch.rand(units, 1, device="cpu") * 2 - 1) * input_scaling)
        self.sources: Tensor
        self.weights: Tensor
        self.input_weights: Tensor
        self.bias: Tensor

    def effective_radius(self) -> float:
        """The spectral radius of (1 - a) I + a W: from 1 on, small states would not die out without input and bias."""
        leak = self.leaking_rate
        matrix = as_matrix(self.sources, self.weights)
        return largest_eigenvalue((1 - leak) * identity(len(self.weights)) + leak * matrix)

    def forward(self, sequences: Tensor) -> Tensor:
        steps = sequences.shape[1]
        state = sequences.new_zeros(len(self.weights), len(sequences))  # (units, N)
        states = []
        for step in range(steps):
            drive = torch.addmm(self.bias, self.input_weights, sequences[:, step].T)
            echo = F.embedding_bag(self.sources, state, mode="sum", per_sample_weights=self.weights)
            state = torch.lerp(state, torch.tanh(drive + echo), self.leaking_rate)
            states.append(state)
        if self.snapshots is None:
            return torch.stack(states[self.washout :]).mean(0).T
        span = steps - self.washout
        ends = [self.washout + span * number // self.snapshots - 1 for number in range(1, self.snapshots + 1)]
        return torch.cat([states[end] for end in ends]).T  # (N, snapshots * units)


@register_flop_formula(torch.ops.aten._embedding_bag_forward_only)
def embedding_bag_flops(table: Sequence[int], indices: Sequence[int], *_: Any, **__: Any) -> int:
    """Two operations for each row of the table, (rows, N), that a bag sums up; torch has no count of its own."""
    return 2 * torch.Size(indices).numel() * table[1]


def as_matrix(sources: Tensor, weights: Tensor) -> spmatrix:
    """The square matrix in which row i has weights[i, k] at column sources[i, k]."""
    units, connections = sources.shape
    rows = np.arange(units).repeat(connections)
    values = weights.double().cpu().numpy().ravel()
    return csr_matrix((values, (rows, sources.cpu().numpy().ravel())), shape=(units, units))


def largest_eigenvalue(matrix: spmatrix) -> float:
    """The absolute value of the largest eigenvalue, the spectral radius.

    >>> round(largest_eigenvalue(csr_matrix([[0.0, 2.0], [-2.0, 0.0]])), 6)  # 2i and -2i
    2.0
    """
    units = matrix.shape[0]
    if units <= FEW_UNITS:
        return float(abs(np.linalg.eigvals(matrix.toarray())).max())
    largest = eigs(matrix, k=1, ncv=60, v0=np.ones(units), return_eigenvectors=False)  # the same start every time
    return float(abs(largest[0]))
