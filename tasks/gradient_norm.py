"""The norm of the gradients, in the log: callbacks=gradient_norm."""

from lightning import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from datamodules.contract import CheckedArguments


class GradientNorm(CheckedArguments, Callback):
    """Logs the Euclidean norm of all gradients of an optimizer, at the steps that are logged, before they are clipped.

    The metric is train/gradient_norm; where there are several optimizers, train/NET_gradient_norm of the part of the
    model that each trains, generator or discriminator: of the first of several steps of a discriminator. No other step
    takes longer than without this callback.
    """

    def __init__(self) -> None:
        self.logged: dict[str, int] = {}  # the last step, by net

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every == 0 or (trainer.global_step + 1) % every:
            return
        # Lightning logs its own losses at the step before, a model that steps its optimizers itself at this one
        step = trainer.global_step + (not pl_module.automatic_optimization)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        net = "" if len(trainer.optimizers) == 1 else f"{owner(pl_module, parameters[0])}_"
        if self.logged.get(net) == step:
            return
        self.logged[net] = step
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None]).item()
        for logger in trainer.loggers:
            logger.log_metrics({f"train/{net}gradient_norm": norm}, step)


def owner(model: LightningModule, parameter: object) -> str:
    """The part of a model that a parameter belongs to."""
    return next(name.split(".")[0] for name, other in model.named_parameters() if other is parameter)
