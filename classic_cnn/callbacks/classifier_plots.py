"""What a classifier shows in TensorBoard: the images it reads, its graph, and, once at the end, where it errs.

The projector tab gets the features in which the net tells the classes apart, with a thumbnail for each image.
"""

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from itertools import zip_longest
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from datamodules.contract import CheckedArguments, Count, Index


class ClassifierPlots(CheckedArguments, Callback):
    """Draws a batch and the graph at the start, and at the end confusion matrix, mistakes, PR curves and features.

    The end is `trainer.test` or, for a set without test images, `trainer.validate`. The plots need a data module and
    take one to three seconds per run; nothing is drawn during an epoch. Pictures go to every logger that takes them
    (TensorBoard, Weights & Biases), graph, curves and features to TensorBoard alone.

    Args:
        batch: number of images shown of the first training batch.
        mistakes: number of images in the gallery of the worst mistakes.
        embedded: number of images, the first ones, whose features are shown in the projector.

    >>> ClassifierPlots(mistakes=12).arguments
    {'mistakes': 12}
    """

    def __init__(self, batch: Count = 64, mistakes: Index = 36, embedded: Index = 1000) -> None:
        self.batch = batch
        self.mistakes = mistakes
        self.embedded = embedded
        self.features: list[Tensor] = []
        self.hooks: list[RemovableHandle] = []
        # what the latest layer with weights has read: at the end of a batch, the features that the last layer reads
        self.last_inputs = torch.empty(0)
        self.outputs: list[dict[str, Tensor]] = []
        self.started = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.started or not takes_pictures(trainer):
            return
        self.started = True
        images = batch[0][: self.batch].float().cpu()
        log_picture(trainer, "train/what the net reads", to_unit(make_grid(images, nrow=16)))
        if (board := writer(trainer)) is None:
            return
        with warnings.catch_warnings(action="ignore"):  # torch.jit.trace is on its way out, TensorBoard still needs it
            assert isinstance(pl_module.example_input_array, Tensor)
            pl_module.eval()
            board.add_graph(Forward(pl_module), pl_module.example_input_array.to(next(pl_module.parameters())))
            pl_module.train()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._watch_features(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._watch_features(trainer, pl_module)

    def _watch_features(self, trainer: Trainer, net: nn.Module) -> None:
        if not draws_end(trainer):
            return

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.last_inputs = inputs[0]

        layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        self.hooks = [layer.register_forward_pre_hook(keep) for layer in layers]

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self._keep(trainer, outputs)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._keep(trainer, outputs)

    def _keep(self, trainer: Trainer, outputs: Any) -> None:
        if not draws_end(trainer):
            return
        self.outputs.append(outputs)
        if sum(map(len, self.features)) < self.embedded and len(self.last_inputs) == len(outputs["labels"]):
            inputs = self.last_inputs.float()
            self.features.append((inputs.mean((2, 3)) if inputs.dim() == 4 else inputs).cpu())  # (N, features)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw_end(trainer, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._draw_end(trainer, "val")

    def _draw_end(self, trainer: Trainer, stage: str) -> None:
        board, outputs, self.outputs = writer(trainer), self.outputs, []
        features, self.features, self.last_inputs = self.features, [], torch.empty(0)
        while self.hooks:
            self.hooks.pop().remove()
        if not draws_end(trainer):
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        probabilities = torch.cat([output["logits"] for output in outputs]).float().softmax(1).cpu()
        labels = torch.cat([output["labels"] for output in outputs]).cpu()
        images = (data.test_split if stage == "test" else data.val_split).images[: len(labels)]
        log_picture(trainer, f"{stage}/confusion matrix", confusion_figure(probabilities, labels, data.class_names))
        gallery = mistakes_figure(images, probabilities, labels, data.class_names, self.mistakes)
        log_picture(trainer, f"{stage}/worst mistakes", gallery)
        if board is None:
            return
        step = trainer.global_step
        for number, name in enumerate(data.class_names):
            board.add_pr_curve(
                f"{stage}/precision and recall of {name}", labels == number, probabilities[:, number], step
            )
        if features:
            points = torch.cat(features)[: self.embedded]  # (N, features)
            names = [data.class_names[label] for label in labels[: len(points)].tolist()]
            thumbnails = images[: len(points)].float() / 255
            with redirect_stdout(io.StringIO()):  # it warns where a resumed run replaces its projection
                board.add_embedding(points, names, thumbnails, step, f"{stage}/features")


class Forward(nn.Module):
    """The net without Lightning's attributes, for the plot of its graph."""

    def __init__(self, net: LightningModule) -> None:
        super().__init__()
        self.net = nn.ModuleDict(dict(net.named_children()))
        self.forward = net.forward


def writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer in the process that writes, otherwise None."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return boards[0].experiment if boards and trainer.is_global_zero else None


def takes_pictures(trainer: Trainer) -> bool:
    """Whether a logger shows pictures, and this is the process that writes."""
    loggers = [isinstance(logger, TensorBoardLogger) or hasattr(logger, "log_image") for logger in trainer.loggers]
    return trainer.is_global_zero and any(loggers)


def log_picture(trainer: Trainer, name: str, picture: Figure | Tensor) -> None:
    """Hands a figure, or a picture (C, H, W) in [0, 1], to every logger that shows pictures."""
    for logger in trainer.loggers if trainer.is_global_zero else ():
        if isinstance(logger, TensorBoardLogger):
            add = logger.experiment.add_figure if isinstance(picture, Figure) else logger.experiment.add_image
            add(name, picture, trainer.global_step)
        elif hasattr(logger, "log_image"):  # as Weights & Biases has it
            logger.log_image(name, [picture], trainer.global_step)


def to_unit(images: Tensor) -> Tensor:
    """Scales a batch from its own range to [0, 1], to be shown."""
    return (images - images.min()) / (images.max() - images.min()).clamp_min(1e-6)


def draws_end(trainer: Trainer) -> bool:
    """Whether the figures of an end are drawn: there is a logger that takes them, and one process sees all images."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    return takes_pictures(trainer) and data is not None and trainer.world_size == 1


def confusion_figure(probabilities: Tensor, labels: Tensor, names: Sequence[str]) -> Figure:
    """How often images of each class (row) are classified as each class (column)."""
    classes = len(names)
    counts = torch.bincount(labels * classes + probabilities.argmax(1), minlength=classes**2).view(classes, classes)
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    axes = figure.subplots()
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    axes.imshow(share.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1)  # the root makes rare mistakes visible
    axes.set_xticks(range(classes), names, rotation=45, ha="right")
    axes.set_yticks(range(classes), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{int(counts.diagonal().sum()):,} of {len(labels):,} correct")
    for row, column in torch.nonzero(counts).tolist():
        color = "white" if share[row, column] > 0.4 else "black"
        axes.text(column, row, str(counts[row, column].item()), ha="center", va="center", color=color, fontsize=8)
    return figure


def mistakes_figure(images: Tensor, probabilities: Tensor, labels: Tensor, names: Sequence[str], count: int) -> Figure:
    """The misclassified images with the lowest probability of their true class, the worst first."""
    wrong = torch.nonzero(probabilities.argmax(1) != labels).flatten()
    true_class_probabilities = probabilities[wrong, labels[wrong]]
    worst = wrong[true_class_probabilities.argsort()][:count].tolist()
    columns = 6
    rows = max(1, -(-len(worst) // columns))
    figure = Figure(figsize=(1.7 * columns, 2.0 * rows), layout="constrained")
    for axes, index in zip_longest(figure.subplots(rows, columns, squeeze=False).flat, worst):
        axes.axis("off")
        if index is not None:
            predicted = int(probabilities[index].argmax())
            axes.imshow(images[index].permute(1, 2, 0).numpy(), cmap="gray")
            probability = float(probabilities[index, predicted])
            axes.set_title(f"{names[int(labels[index])]} as {names[predicted]}\n{probability:.0%}", fontsize=8)
    return figure
