"""task=train: fit, then test the checkpoint that validation chose."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from classic_cnn.classifier import ImageClassifier, copy_layers, layer_name
from tasks.board import log_outcome
from tasks.budget import check_budget, check_length, check_momentum
from tasks.build import build, describe
from tasks.callbacks import (
    ConfigInCheckpoint,
    LogEachEpoch,
    ProcessSettings,
    StopAtNonFinite,
    StopOnSignal,
    TrainingClock,
    numbers,
)
from tasks.checkpoint import load_weights, read_checkpoint, read_content
from tasks.checkpoint_io import ResumedCheckpoint
from tasks.compiling import check_compile, compile_nets
from tasks.config import ConfigError
from tasks.cross_validation import check_checkpoint
from tasks.early_stopping import KeepStopped, restore, why_stopped
from tasks.end_of_training import PlateauStep, SaveAtEnd, WholeSteps, is_within_epoch
from tasks.folders import write_config
from tasks.process import has_bf16_instructions
from tasks.report import results_table, show_results
from tasks.results import is_temporary
from tasks.resume import check_resume, check_training_set, fingerprint
from tasks.saved_config import plain_config


def train(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Fits the model and tests the best checkpoint by validation (or the last); returns metrics, cost and paths.

    With `cfg.ckpt_path` it resumes that checkpoint's run; with `cfg.init_from` a new run starts from its layers.

    Raises:
        ValueError: something cannot be built or fitted together, or the checkpoint cannot be used.
        DivergenceError: a loss is not finite.
        SystemExit: a signal ended it, with status 128 + its number.
    """
    check_budget(cfg.trainer)
    check_momentum(cfg)
    check_checkpoint(cfg)
    model, datamodule, trainer = build(cfg, folder)
    if cfg.compile:
        check_compile(model, trainer.strategy.root_device)
    if cfg.ckpt_path is None:
        check_length(model, trainer)
    keeps_checkpoints = isinstance(trainer.checkpoint_callback, ModelCheckpoint)
    last = folder / "checkpoints" / "last.ckpt" if keeps_checkpoints else None
    if cfg.ckpt_path is not None:
        prepare_resume(model, trainer, cfg, folder)
    datamodule.prepare_data()
    datamodule.setup("fit")
    training_set = fingerprint(datamodule)
    if cfg.ckpt_path is not None:
        check_training_set(training_set, read_checkpoint(cfg.ckpt_path), cfg.ckpt_path)
    facts = describe(model, datamodule, trainer)
    if trainer.is_global_zero and is_slow_bf16(trainer):
        print("bfloat16     this processor has no instructions for it: float32 would be faster")
    if cfg.init_from is not None:
        taken = warm_start(model, cfg.init_from)
        if trainer.is_global_zero:
            print(taken)
    clock = TrainingClock()
    signals = StopOnSignal(last, clock)
    config = ConfigInCheckpoint(
        plain_config(cfg, datamodule), list(cfg.overrides), OmegaConf.to_yaml(cfg), training_set
    )
    own = [
        ProcessSettings(),
        LogEachEpoch(),
        config,
        clock,
        signals,
        StopAtNonFinite(),
        KeepStopped(),
        PlateauStep(),
        *([SaveAtEnd(last)] if last else []),
    ]
    trainer.callbacks[:0] = own  # type: ignore[attr-defined]
    trainer.callbacks.append(WholeSteps())  # type: ignore[attr-defined]
    if cfg.compile:
        compile_nets(model)
    resumed_at = None
    if cfg.ckpt_path is not None:
        write_config(cfg, folder)  # nothing is left to refuse
        resumed_at = read_checkpoint(cfg.ckpt_path)["global_step"]
    fit(trainer, model, datamodule, cfg, signals)
    if trainer.global_step == resumed_at and not signals.started:
        more = "more epochs need a larger trainer.max_epochs or max_steps, and a schedule without a planned end"
        if why_stopped(trainer):
            more = "it had stopped early, and goes on with a larger callbacks.early_stopping.patience"
        rank_zero_only(print)(f"trained      nothing was left to train: {more}")
    paths = checkpoint_paths(trainer, last)
    if clock.images == 0 and paths:  # of a fit in processes that ddp_spawn or ddp_fork started
        checkpoint = torch.load(paths["last_checkpoint"], map_location="cpu", weights_only=True)
        clock.restore(checkpoint)
        restore(trainer, checkpoint)
    results: dict[str, Any] = clock.metrics | numbers(trainer.callback_metrics)
    results |= objective(trainer)
    if "objective" in results and paths:
        results |= of_best_epoch(paths["best_checkpoint"])
    results |= test_model(trainer, model, datamodule, paths.get("best_checkpoint"))
    results |= facts | clock.cost() | paths
    if reason := why_stopped(trainer):
        results["stopped_early"] = reason
    log_outcome(trainer, cfg, results, results_table(results).to_markdown())
    show_results(results, trainer)
    return results


def is_slow_bf16(trainer: Trainer) -> bool:
    """Whether training in bfloat16 takes longer than in float32."""
    return (
        "bf16" in str(trainer.precision) and trainer.strategy.root_device.type == "cpu" and not has_bf16_instructions()
    )


def prepare_resume(model: LightningModule, trainer: Trainer, cfg: DictConfig, folder: Path) -> None:
    """Refuses a checkpoint that this command cannot resume; the trainer restores what was checked."""
    load_weights(model, cfg)
    checkpoint = read_checkpoint(cfg.ckpt_path)
    check_resume(checkpoint, cfg)
    trainer.strategy.checkpoint_io = ResumedCheckpoint(checkpoint, folder / "checkpoints")
    for stale in (folder / "checkpoints").glob(".*.ckpt.*"):
        if is_temporary(stale):  # of a write that was killed
            stale.unlink(missing_ok=True)


def warm_start(model: LightningModule, path: str) -> str:
    """Starts a net from the layers of a checkpoint; says which were copied and which were not.

    Raises:
        ValueError: the file cannot be used or has no layer that fits.
    """
    weights = read_checkpoint(path, "init_from")["state_dict"]
    layers = dict.fromkeys(map(layer_name, model.state_dict()))
    try:  # VGG has a rule of its own
        taken = model.warm_start(weights) if isinstance(model, ImageClassifier) else copy_layers(model, weights)
    except ValueError as error:
        raise ValueError(f"init_from={path}: {error}") from error
    new = [layer for layer in layers if layer not in taken]
    return f"taken over   {', '.join(taken)} from {path}\nleft random  {', '.join(new) or 'nothing'}"


STEP_HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)


def skip_empty_hooks(callbacks: Iterable[Callback]) -> None:
    """Spares a step the calls that do nothing: Lightning calls each hook that is callable, and opens a timer for it.

    >>> callback = Callback()
    >>> skip_empty_hooks([callback])
    >>> callback.on_after_backward, callable(callback.on_train_epoch_end)
    (None, True)
    """
    for callback in callbacks:
        for hook in STEP_HOOKS:
            if getattr(type(callback), hook) is getattr(Callback, hook):
                setattr(callback, hook, None)


def fit(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule, cfg: DictConfig, signals: StopOnSignal
) -> None:
    """Runs the training loop to its end, or to a signal.

    Raises:
        SystemExit: a signal ended it.
        ValueError: the checkpoint lacks what a resumed training needs.
    """
    loop = trainer.fit_loop
    if trainer.max_steps != -1:
        # Lightning would repeat the end of an epoch that a checkpoint was saved at
        loop._iteration_based_training = functools.partial(is_within_epoch, trainer)  # type: ignore[method-assign]
    # Lightning does this when a checkpoint has been loaded, whose float64 weights a net of float32 would have rounded
    trainer.strategy.precision_plugin.convert_module(model)
    skip_empty_hooks(trainer.callbacks)  # type: ignore[attr-defined]
    try:
        trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    except SIGTERMException:
        raise SystemExit(128 + (signals.received or 15)) from None
    except (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError) as error:
        if str(error).startswith("Early stopping conditioned on metric"):
            metrics = sorted(name for name in trainer.callback_metrics if "/" in name)
            reason = f"is not a metric of this run: {', '.join(metrics)}"
            raise ConfigError("callbacks.early_stopping.monitor", reason) from error
        if cfg.ckpt_path is None or trainer.current_epoch > read_checkpoint(cfg.ckpt_path)["epoch"] + 1:
            raise  # not a state of the checkpoint, which an optimizer may look at in its first step only
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: cannot be resumed ({' '.join(str(error).split())})") from error
    if signals.received:
        raise SystemExit(128 + signals.received)


def checkpoint_paths(trainer: Trainer, last: Path | None) -> dict[str, str]:
    """The best checkpoint by validation, which is the last where none was compared, and the last; empty without any."""
    if last is None or not last.is_file():
        return {}
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    return {"best_checkpoint": best if best and Path(best).is_file() else str(last), "last_checkpoint": str(last)}


def objective(trainer: Trainer) -> dict[str, float]:
    """The best validation metric, for sweepers; never one of the test set."""
    checkpoint = trainer.checkpoint_callback
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor and checkpoint.best_model_score is not None:
        score = checkpoint.best_model_score.item()
        return {checkpoint.monitor: score, "objective": score}
    return {}


def of_best_epoch(path: str) -> dict[str, float]:
    """The validation metrics of the checkpoint that is tested, one of this run's own, and the epoch that it is of."""
    checkpoint, clock = read_content(path, "best_checkpoint"), TrainingClock()
    clock.restore(checkpoint)
    metrics = {name: value for name, value in clock.metrics.items() if name.startswith("val/")}
    return metrics | {"best_epoch": int(checkpoint["epoch"]) + 1}


def test_model(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule, path: str | None
) -> dict[str, Any]:
    """Metrics on the official test images, or on the validation images of a set that has no others.

    Args:
        path: of the checkpoint that is tested, one of this run's own; None tests the model as it is.
    """
    has_test = getattr(datamodule, "test_split", None) is not None
    if not is_overridden("test_step" if has_test else "validation_step", model):
        return {}
    if path is not None:
        model.load_state_dict(read_content(path, "best_checkpoint")["state_dict"])
    stage = trainer.test if has_test else trainer.validate
    if isinstance(model, ImageClassifier):
        model.is_validated_again = path is not None
    stage(model, datamodule=datamodule, verbose=False)
    described = [getattr(callback, "description", "") for callback in trainer.callbacks]  # type: ignore[attr-defined]
    results: dict[str, Any] = numbers(trainer.callback_metrics)
    return results | ({"metrics_description": "; ".join(filter(None, described))} if any(described) else {})
