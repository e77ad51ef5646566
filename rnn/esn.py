"""Echo state network: H. Jaeger, "The 'echo state' approach to analysing and training recurrent neural networks", 2001.

Its practice is that of M. Lukoševičius, "A Practical Guide to Applying Echo State Networks", 2012.
"""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import Field
from scipy.linalg.blas import dsyrk
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.contract import Count, Index, Positive
from rnn.reservoir import Reservoir
from rnn.sequence_classifier import Reading, SequenceClassifier

SMALLEST_ERROR = 1e-6  # mean squared error of the outputs: a perfect fit must not lead to infinite logits
BLOCK_SIZE = 512  # features per matrix product while the sums are computed


def add_gram(gram: Tensor, features: Tensor) -> None:
    """Adds X^T X of features X (N, P), in float64, to the lower triangle of `gram` (P, P): the rest follows from it.

    >>> gram = torch.zeros(2, 2).double()
    >>> add_gram(gram, torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double())
    >>> gram.tril().tolist()
    [[10.0, 0.0], [14.0, 20.0]]
    """
    if gram.device.type == "cpu":  # BLAS counts columns first: its upper triangle is our lower one
        dsyrk(1.0, features.numpy().T, beta=1.0, c=gram.numpy().T, overwrite_c=True)
        return
    for start in range(0, len(gram), BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        gram[start:, block].addmm_(features[:, start:].T, features[:, block])


def ridge_regression(gram: Tensor, cross: Tensor, strength: float) -> Tensor:
    """W = Y^T X (X^T X + l I)^-1, (K, P), from the sums X^T X (P, P) and X^T Y (P, K): Lukoševičius, equation 9.

    Raises:
        ValueError: the strength is too small for the precision of the sums.
    """
    system = gram.clone()
    system.diagonal().add_(strength)
    try:
        factor = torch.linalg.cholesky(system)
    except torch.linalg.LinAlgError as error:
        raise ValueError(f"ridge is too small for these features, got {strength}") from error
    return torch.cholesky_solve(cross, factor).T


class EchoStateNetwork(SequenceClassifier):
    """Echo state network that reads an image as a sequence, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    Only the linear readout is trained: by ridge regression onto one-hot labels in closed form, from X^T X and X^T Y,
    which one pass over the training images sums up in float64. Later epochs add their images, which is useful only with
    augmentation. Of several ridge strengths, solved from the same sums, the best in validation accuracy is taken.
    The outputs are divided by their mean squared error, which makes them the logits of Gaussian errors of that size.
    train/loss and train/accuracy are those of the last batch, once the readout is solved. Deviations from the papers:
    snapshots of the state instead of its last or mean value; no direct connections from input to readout.

    Args:
        units: neurons of the reservoir.
        spectral_radius: of the recurrent weights.
        leaking_rate: a in (0, 1], the share of a state that each step renews.
        input_scaling: input weights and biases are drawn uniformly from +- this.
        connections: units that each unit reads, drawn with replacement, itself perhaps among them.
        washout: the first steps, whose states `mean` and `snapshots` leave out.
        features: what the readout sees: the `last` state, the `mean` state, or evenly spaced `snapshots` of it.
        snapshots: how many.
        ridge: the strengths that validation chooses from; without validation the first is taken.
        reading: rows, columns or pixels; see `SequenceClassifier`.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.

    Raises:
        ValueError: the images have fewer steps than `washout` and `snapshots` need.

    >>> net = EchoStateNetwork(units=200)
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 14010)
    """

    def __init__(
        self,
        units: Count = 1000,
        spectral_radius: Positive = 0.9,
        leaking_rate: Annotated[float, Field(gt=0, le=1)] = 0.3,
        input_scaling: Positive = 0.5,
        connections: Count = 10,
        washout: Index = 0,
        features: Literal["last", "mean", "snapshots"] = "snapshots",
        snapshots: Count = 7,
        ridge: Annotated[Sequence[Positive], Field(min_length=1)] = (1e-2, 1e-1, 1.0),
        reading: Reading = "rows",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
    ) -> None:
        super().__init__(reading, in_channels, num_classes, image_size)
        states = {"last": 1, "mean": None, "snapshots": snapshots}[features]
        if features == "snapshots" and snapshots > self.num_steps:
            raise ValueError(f"snapshots must be at most {self.num_steps}, the number of steps, got {snapshots}")
        largest = self.num_steps - (states or 1)
        if washout > largest:
            raise ValueError(f"washout must be at most {largest} of the {self.num_steps} steps, got {washout}")
        self.automatic_optimization = False
        self.ridge = tuple(ridge)
        self.reservoir = Reservoir(
            self.num_inputs, units, spectral_radius, leaking_rate, input_scaling, connections, washout, states
        )
        self.readout = nn.Linear(units * (states or 1), num_classes)
        # X^T X (P, P), of which only the lower triangle is kept, and X^T Y (P, K)
        self.ridge_sums: tuple[Tensor, Tensor] | None = None
        self.last_batch: tuple[Tensor, Tensor] | None = None  # of those in the sums
        self.candidates: list[Tensor] = []  # a readout for each ridge strength, (K, P), not yet compared
        # their outputs (strengths, N, K) on validation images, and the labels
        self.candidate_outputs: list[tuple[Tensor, Tensor]] = []
        if (radius := self.reservoir.effective_radius()) >= 1:
            warnings.warn(
                f"the echo state property is not assured: with spectral_radius={spectral_radius} and "
                f"leaking_rate={leaking_rate} the effective spectral radius is {radius:.3f}, not below 1",
                stacklevel=2,
            )

    def forward(self, images: Tensor) -> Tensor:
        return self.readout(self.reservoir(self.inputs(images)))

    def inputs(self, images: Tensor) -> Tensor:
        """The sequences (N, T, F) with pixels in [0, 1]: the background drives nothing."""
        return self.sequence(images / 2 + 0.5)

    def one_hot(self, labels: Tensor) -> Tensor:
        """The targets of labels (N,): (N, K) in float64."""
        return F.one_hot(labels, self.num_classes).double()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """A row of X for each image, (N, P): what the readout sees, and 1 for its bias, in float64."""
        return F.pad(self.reservoir(self.inputs(images)).double(), (0, 1), value=1.0)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # type: ignore[override]
        images, labels = batch
        features = self.features(images)
        if self.ridge_sums is None:
            size = features.shape[1]
            self.ridge_sums = features.new_zeros(size, size), features.new_zeros(size, self.readout.out_features)
        gram, cross = self.ridge_sums
        add_gram(gram, features)
        cross.addmm_(features.T, self.one_hot(labels))
        self.last_batch, self.candidates = batch, []
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # a batch is a step,
        progress.increment_ready()  # or ModelCheckpoint would find that nothing has happened
        progress.increment_completed()

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        trainer = self.trainer
        if trainer.is_last_batch or trainer.should_stop or self.global_step == trainer.max_steps:
            self.solve()
            images, labels = batch
            logits = self(images)
            accuracy = (logits.argmax(1) == labels).float().mean()
            metrics = {"train/loss": self.loss(logits, labels), "train/accuracy": accuracy}
            self.log_dict(
                metrics,
                on_step=False,
                on_epoch=True,
                prog_bar=True,
                batch_size=self.share_of_mean(len(labels)),
                sync_dist=True,
            )

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == TrainerFn.FITTING and not self.candidates:  # within an epoch
            self.solve()

    def solve(self) -> None:
        """A readout for each ridge strength from the sums so far; the first is in use until validation has chosen."""
        if self.ridge_sums is None:
            return
        assert self.last_batch is not None
        gram, cross = (self.trainer.strategy.reduce(part.clone(), reduce_op="sum") for part in self.ridge_sums)
        gram = gram.tril_() + gram.T  # few copies: of 14,000 features, each takes 1.6 GB
        gram.diagonal().div_(2)
        self.candidates = [ridge_regression(gram, cross, strength) for strength in self.ridge]
        images, labels = self.last_batch
        error = (F.linear(self.features(images), self.candidates[0]) - self.one_hot(labels)).square().mean()
        self.set_readout(self.candidates[0], self.trainer.strategy.reduce(error, reduce_op="mean"))

    @torch.no_grad()
    def set_readout(self, weights: Tensor, error: Tensor) -> None:
        """Makes weights (K, P) with that mean squared error the readout.

        Where output k is the target, 0 or 1, plus Gaussian noise of variance s, the log-probability of class k is
        output k / s + what all classes share.
        """
        weights = weights / error.clamp_min(SMALLEST_ERROR)
        self.readout.weight.copy_(weights[:, :-1])
        self.readout.bias.copy_(weights[:, -1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        if not self.candidates:
            return super().validation_step(batch, batch_idx)
        images, labels = batch
        features = self.features(images)
        outputs = torch.stack([F.linear(features, weights) for weights in self.candidates])
        self.candidate_outputs.append((outputs, labels))
        return {"logits": outputs[0], "labels": labels}

    def on_validation_epoch_end(self) -> None:
        if not self.candidate_outputs:
            return
        outputs = torch.cat([outputs for outputs, _ in self.candidate_outputs], 1)
        labels = torch.cat([labels for _, labels in self.candidate_outputs])
        accuracies = (outputs.argmax(2) == labels).double().mean(1)
        errors = (outputs - self.one_hot(labels)).square().mean((1, 2))
        if self.trainer.world_size > 1:  # whose shares of the images are not all of one size
            count = torch.full_like(errors, len(labels))
            sums = torch.stack([accuracies * count, errors * count, count])
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
            accuracies, errors = sums[0] / sums[2], sums[1] / sums[2]
        best = int(accuracies.argmax())
        self.set_readout(self.candidates[best], errors[best])
        logits = outputs[best] / errors[best].clamp_min(SMALLEST_ERROR)
        metrics: dict[str, Any] = {
            "val/loss": self.loss(logits, labels),
            "val/accuracy": accuracies[best],
            "val/ridge": self.ridge[best],
        }
        self.log_dict(metrics, prog_bar=True, sync_dist=True)
        self.candidates, self.candidate_outputs = [], []

    def on_train_end(self) -> None:
        self.ridge_sums, self.last_batch, self.candidates = None, None, []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sums (392 MB for 7,000 features) while they are incomplete."""
        super().on_save_checkpoint(checkpoint)
        trainer = self.trainer
        done = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if self.ridge_sums is not None and not done:
            checkpoint["ridge_sums"] = self.ridge_sums

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "ridge_sums" in checkpoint:
            self.ridge_sums = checkpoint["ridge_sums"]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.ridge_sums is not None:  # of a checkpoint, which is loaded before the net is on its device
            gram, cross = self.ridge_sums
            self.ridge_sums = gram.to(self.device), cross.to(self.device)

    def configure_optimizers(self) -> list[Any]:
        return []
