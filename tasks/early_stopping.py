"""Early stopping: why a run ended early, and what resuming such a run does. callbacks=early_stopping chooses it."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason


class KeepStopped(Callback):
    """A run that ended early does not train on when it is resumed, unless the command gives it more patience."""

    def __init__(self) -> None:
        self.patience: dict[str, int] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.patience = {callback.state_key: callback.patience for callback in stoppers(trainer)}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in stoppers(trainer):
            callback.patience = self.patience[callback.state_key]  # Lightning restores that of the checkpoint
            is_patient = callback.wait_count < callback.patience
            if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED and is_patient:
                callback.stopping_reason = EarlyStoppingReason.NOT_STOPPED
            elif callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
                trainer.should_stop = True


def stoppers(trainer: Trainer) -> list[EarlyStopping]:
    return [callback for callback in trainer.early_stopping_callbacks if isinstance(callback, EarlyStopping)]


def restore(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Takes over what early stopping left in a checkpoint: other processes have trained."""
    for callback in stoppers(trainer):
        if state := checkpoint["callbacks"].get(callback.state_key):
            callback.load_state_dict(state)


def why_stopped(trainer: Trainer) -> str | None:
    """In which epoch early stopping ended the training, and why; None where it did not."""
    for callback in stoppers(trainer):
        if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
            best = f"{callback.best_score:.4f} is its best value"
            count = f"{callback.wait_count} validation{'s' if callback.wait_count > 1 else ''}"
            why = f"{callback.monitor} did not improve in {count}, {best}"
        elif callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            why = str(callback.stopping_reason_message).removesuffix(" Signaling Trainer to stop.")
        else:
            continue
        return f"after epoch {callback.stopped_epoch + 1}: {why}"
    return None
