"""How much layers change per epoch: Zeiler & Fergus 2013, section 4, where the lower ones converge first."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor, nn

from classic_cnn.callbacks.classifier_plots import log_picture, takes_pictures
from datamodules.contract import CheckedArguments


class LayerConvergence(CheckedArguments, Callback):
    """Logs the relative change |w - w'| / |w'| of each layer's weights over an epoch, and all of them in one heat map.

    The scalars are weight_change/LAYER; the heat map is drawn at the end of the fit. Nothing is computed during an
    epoch. Where a run was resumed within an epoch, that epoch's change covers only the rest of it.
    """

    def __init__(self) -> None:
        self.before: list[Tensor] = []  # the weights at the start of the epoch
        self.changes: dict[int, list[float]] = {}  # of each epoch, the layers in their order

    def state_dict(self) -> dict[str, Any]:
        return {"changes": self.changes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.changes = state_dict["changes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # which a run that goes on within an epoch is not called for

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = [weight.detach().clone() for weight in weights(pl_module).values()]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._compare(trainer, pl_module)  # before the checkpoint is written

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._compare(trainer, pl_module)
        scalars = dict(zip(weights(pl_module), self.changes[trainer.current_epoch], strict=True))
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"weight_change/{name}": change for name, change in scalars.items()}, trainer.global_step
            )

    @torch.no_grad()
    def _compare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.before:
            pairs = zip(weights(pl_module).values(), self.before, strict=True)
            ratios = [(now - before).norm() / before.norm().clamp_min(1e-12) for now, before in pairs]
            self.changes[trainer.current_epoch] = torch.stack(ratios).tolist()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = []
        if self.changes and takes_pictures(trainer):
            figure = convergence_figure(self.changes, list(weights(pl_module)))
            log_picture(trainer, "weight_change/all layers", figure)


def weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights of each convolution and linear layer, not of normalizations, by the layer's name.

    >>> list(weights(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))))
    ['0', '3']
    """
    found = {name: getattr(module, "weight", None) for name, module in net.named_modules()}
    return {name: weight for name, weight in found.items() if isinstance(weight, nn.Parameter) and weight.dim() > 1}


def convergence_figure(changes: dict[int, list[float]], names: list[str]) -> Figure:
    """A heat map of layers (rows, the lowest at the bottom) and epochs (columns) on a logarithmic scale."""
    figure = Figure(figsize=(3 + 0.25 * min(len(changes), 40), 1.5 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    epochs = sorted(changes)
    table = torch.tensor([changes[epoch] for epoch in epochs]).T.clamp_min(1e-9).log10().numpy()
    extent = (epochs[0] + 0.5, epochs[-1] + 1.5, -0.5, len(names) - 0.5)  # the first epoch is number 1
    image = axes.imshow(table, aspect="auto", origin="lower", extent=extent)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="epoch", title="relative change of the weights")
    figure.colorbar(image, label="power of ten")
    return figure
