"""Callbacks that cannot do what they are there for, with one another or with this model: refused before training."""

from collections.abc import Mapping

from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)

from classic_cnn.callbacks.test_time_augmentation import TestTimeAugmentation
from classic_cnn.classifier import ImageClassifier
from tasks.config import ConfigError
from tasks.metrics import direction

MODES = {"higher": "max", "lower": "min"}


def check_callbacks(callbacks: Mapping[str, Callback], model: LightningModule, precision: str) -> None:
    """
    Raises:
        ConfigError: names a callback, or the precision.
    """
    check_states(callbacks)
    check_average(callbacks, model, precision)
    for name, callback in callbacks.items():
        if isinstance(callback, ModelCheckpoint | EarlyStopping):
            check_mode(name, callback)
        if isinstance(callback, TestTimeAugmentation) and not isinstance(model, ImageClassifier):
            raise ConfigError(f"callbacks.{name}", f"is for classifiers, and a {type(model).__name__} is none")
        if isinstance(callback, ModelCheckpoint):
            check_file_names(name, callback)
    check_places(callbacks)


def check_places(callbacks: Mapping[str, Callback]) -> None:
    """Refuses two callbacks that would write the same checkpoint file.

    Raises:
        ConfigError: names the one that the other would overwrite.
    """
    seen: dict[tuple[str, str], str] = {}
    for name, callback in callbacks.items():
        if isinstance(callback, ModelCheckpoint) and callback.filename and "{" not in callback.filename:
            other = seen.setdefault((str(callback.dirpath), callback.filename), name)
            if other != name:
                reason = f"callbacks.{other} writes {callback.filename}.ckpt, too: give it another name"
                raise ConfigError(f"callbacks.{name}.filename", reason, callback.filename)


def check_states(callbacks: Mapping[str, Callback]) -> None:
    """Refuses two callbacks whose states would overwrite each other in a checkpoint.

    Raises:
        ConfigError: names them.
    """
    seen: dict[str, str] = {}
    for name, callback in callbacks.items():
        if type(callback).state_dict is not Callback.state_dict:
            other = seen.setdefault(callback.state_key, name)
            if other != name:
                reason = f"keeps its state under the same name as callbacks.{name}: give it another monitor or mode"
                raise ConfigError(f"callbacks.{other}", reason)


def check_average(callbacks: Mapping[str, Callback], model: LightningModule, precision: str) -> None:
    """Refuses an average of weights that no optimizer of Lightning's moves, or in which small steps are lost.

    Raises:
        ConfigError: names the callback, or the precision.
    """
    if swa := [name for name, one in callbacks.items() if isinstance(one, StochasticWeightAveraging)]:
        reason = "its average is made behind the last checkpoint, and so is neither tested nor kept: use callbacks=ema"
        raise ConfigError(f"callbacks.{swa[0]}", reason)
    averages = {name for name, one in callbacks.items() if isinstance(one, WeightAveraging)}
    if averages and not model.automatic_optimization:
        reason = "averages the weights of classifiers that are trained in steps; a GAN has model.ema_decay"
        raise ConfigError(f"callbacks.{min(averages)}", reason)
    if precision in ("bf16-true", "16-true") and (averages or getattr(model, "averaged_generator", None) is not None):
        key = f"callbacks.{min(averages)}" if averages else "model.ema_decay"
        reason = f"does not suit {key}, an average of weights whose small steps 16 bits lose: take a mixed precision"
        raise ConfigError("trainer.precision", reason, precision)


def check_mode(name: str, callback: ModelCheckpoint | EarlyStopping) -> None:
    """Refuses to take the worst value of a metric for the best.

    Raises:
        ConfigError: names the mode that the metric has.
    """
    better = direction(str(callback.monitor).partition("/")[2])
    if better in MODES and callback.mode != MODES[better]:
        reason = f"{callback.monitor} is better the {better} it is, add callbacks.{name}.mode={MODES[better]}"
        raise ConfigError(f"callbacks.{name}.mode", reason, callback.mode)


def check_file_names(name: str, callback: ModelCheckpoint) -> None:
    """Refuses to keep several checkpoints under one name, of which each would overwrite the one before.

    Raises:
        ConfigError: says how to give each a name.
    """
    if callback.save_top_k not in (0, 1) and callback.filename and "{" not in callback.filename:
        key = f"callbacks.{name}"
        reason = (
            f"all would be {callback.filename}.ckpt: 1 keeps the best, and with {key}.filename='{{epoch}}' "
            f"{key}.auto_insert_metric_name=false each has a name of its own"
        )
        raise ConfigError(f"{key}.save_top_k", reason, callback.save_top_k)
