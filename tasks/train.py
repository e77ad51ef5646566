"""task=train: fit, then measure with the chosen checkpoint."""

import math
import os
import signal
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from classic_cnn.classifier import ImageClassifier
from gan.scores.evaluation import Evaluation
from tasks.build import build, describe
from tasks.checkpoint import all_overrides, load_weights, read, warm_start
from tasks.results import recorded


@recorded
def train(cfg: DictConfig) -> dict[str, Any]:
    """Fits the model, tests the best checkpoint by validation (or the last), returns metrics, cost and paths."""
    record = RunRecord(cfg)  # before `build`, which resolves the folder in it
    model, datamodule, trainer = build(cfg)
    facts = describe(model, datamodule, trainer)
    trainer.callbacks.insert(0, record)  # type: ignore[attr-defined]
    if cfg.ckpt_path is not None:
        check_resumable(model, trainer, cfg)
    elif isinstance(model, ImageClassifier) and model.init_from is not None:
        account = warm_start(model)
        if trainer.is_global_zero:
            print(account)
    if cfg.compile:
        model.compile()
    fit = trainer.fit_loop
    # with max_steps, Lightning would go through the end of an epoch again that a checkpoint was saved at
    fit._iteration_based_training = lambda: trainer.max_steps != -1 and not fit.epoch_loop.batch_progress.is_last_batch  # type: ignore[method-assign]
    try:
        trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    except SIGTERMException:
        record.stopped_by = record.stopped_by or signal.SIGTERM
    if record.stopped_by:
        say_how_to_resume(record.last_checkpoint(trainer))
        raise SystemExit(128 + record.stopped_by)
    results = record.metrics | numbers(trainer.callback_metrics)
    checkpoint = trainer.checkpoint_callback
    paths, objective = {}, None
    if isinstance(checkpoint, ModelCheckpoint):
        last = str(record.last_checkpoint(trainer))
        if trainer.global_step == 0:  # Lightning saves nothing of a GAN whose discriminator alone has learned so far
            trainer.save_checkpoint(last)
        paths = {"best_checkpoint": checkpoint.best_model_path or last, "last_checkpoint": last}
        if checkpoint.monitor and checkpoint.best_model_score is not None:
            objective = results[checkpoint.monitor] = checkpoint.best_model_score.item()
    results |= measure(model, datamodule, trainer, paths.get("best_checkpoint") or None)
    results |= facts | record.cost(trainer) | paths | ({} if objective is None else {"objective": objective})
    log_hyperparameters(trainer, cfg, results)
    show_metrics(results, trainer)
    return results


def check_resumable(model: LightningModule, trainer: Trainer, cfg: DictConfig) -> None:
    """Refuses a checkpoint that this command cannot go on from."""
    load_weights(model, cfg)
    checkpoint = read(cfg.ckpt_path)
    done = checkpoint["epoch"] + 1
    planned, given = checkpoint["config"]["trainer"]["max_epochs"], cfg.trainer.max_epochs
    if given is not None and 0 <= given < done:
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: has {done} epochs, trainer.max_epochs={given}")
    shorter = planned in (None, -1) or (given not in (None, -1) and given <= planned)
    if not shorter and any("total_steps" in state for state in checkpoint["lr_schedulers"]):
        raise ValueError(
            f"ckpt_path={cfg.ckpt_path}: its learning rate was planned for {planned} epochs, not for "
            f"trainer.max_epochs={given}: start a new run from it with model.init_from={cfg.ckpt_path}"
        )


def measure(
    model: LightningModule, datamodule: LightningDataModule, trainer: Trainer, path: str | None
) -> dict[str, Any]:
    """Metrics on the official test images, or on the validation images of a set that has no others."""
    if not is_overridden("test_step", model):
        if path is not None and judging(trainer):
            model.load_state_dict(read(path)["state_dict"])
        scores: dict[str, Any] = {}
        for judge in judging(trainer) if trainer.is_global_zero else ():  # it looks at one process's samples
            scores |= judge.measure(trainer, model, datamodule)
        return scores
    stage = trainer.test if getattr(datamodule, "test_split", None) is not None else trainer.validate
    stage(model, datamodule=datamodule, ckpt_path=path, weights_only=True, verbose=False)
    return numbers(trainer.callback_metrics)


def judging(trainer: Trainer) -> list[Evaluation]:
    """The callback that measures a GAN, if it has one."""
    return [callback for callback in trainer.callbacks if isinstance(callback, Evaluation)]  # type: ignore[attr-defined]


def numbers(metrics: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


class RunRecord(Callback):
    """Puts the config into checkpoints, takes the time, and turns Ctrl-C and SIGTERM into a checkpoint."""

    def __init__(self, cfg: DictConfig) -> None:
        self.config = OmegaConf.to_container(cfg)
        self.config["choices"] = OmegaConf.to_container(cfg.choices, resolve=True)  # type: ignore[call-overload,index]
        self.overrides = all_overrides(cfg)
        self.seconds = 0.0  # of training alone, validation left out
        self.images = 0
        self.clock = 0.0
        self.metrics: dict[str, float] = {}  # of the last epoch: a run resumed after that has no others
        self.stopped_by: int | None = None  # a signal

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"config": self.config, "overrides": self.overrides}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Follows a run's folder that was moved: ModelCheckpoint would go on without knowing the best so far."""
        callback = trainer.checkpoint_callback
        state = checkpoint["callbacks"].get(callback.state_key) if isinstance(callback, ModelCheckpoint) else None
        if state:
            old, new = str(state["dirpath"]), str(callback.dirpath)  # type: ignore[union-attr]
            if Path(state["best_model_path"].replace(old, new)).is_file():
                paths = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path")
                state |= {name: state[name].replace(old, new) for name in paths}
                state["best_k_models"] = {path.replace(old, new): v for path, v in state["best_k_models"].items()}

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "images": self.images, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.images, self.metrics = (state_dict[key] for key in ("seconds", "images", "metrics"))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_clock(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock = time.perf_counter()
        self._stop_if_asked()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch[1]) * trainer.world_size
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches == 0 and done % (trainer.val_check_batch or math.inf):
            self._stop_if_asked()  # gradients are not saved, and half a validation is none: these are finished first

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_clock(trainer)
        self.metrics = numbers(trainer.callback_metrics)
        self._stop_if_asked()

    def _stop_clock(self, trainer: Trainer) -> None:
        if not trainer.sanity_checking and self.clock:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - self.clock
            self.clock = 0.0

    def cost(self, trainer: Trainer) -> dict[str, Any]:
        return {
            "epochs": trainer.current_epoch,
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds if self.seconds else 0.0,
        }

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
            text = OmegaConf.to_yaml(OmegaConf.create(self.config))
            trainer.logger.experiment.add_text("config", f"```yaml\n{text}\n```")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.lightnings_handler: Any = signal.getsignal(signal.SIGTERM)

        def stop(number: int, frame: FrameType | None) -> None:
            if self.stopped_by is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopped_by = number
            os.write(1, b"\nStopping after this batch; Ctrl-C to stop at once\n")  # print() may be at work right now

        for number in (signal.SIGINT, signal.SIGTERM):  # Lightning puts the old handlers back at the end of the fit
            signal.signal(number, stop)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = self.last_checkpoint(trainer)
        if path is not None and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            trainer.save_checkpoint(path)  # max_steps or max_time ended within an epoch: not ModelCheckpoint's business

    def _stop_if_asked(self) -> None:
        if self.stopped_by is not None:
            self.lightnings_handler(signal.SIGTERM, None)  # it heeds that after this hook's batch or epoch

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        path = self.last_checkpoint(trainer)
        if isinstance(exception, SIGTERMException) and path is not None:
            self._stop_clock(trainer)
            epochs = trainer.fit_loop.epoch_progress
            if epochs.current.completed == epochs.current.ready:  # a finished epoch is saved as ModelCheckpoint does
                epochs.current.completed -= 1
                epochs.total.completed -= 1
            trainer.save_checkpoint(path)

    def last_checkpoint(self, trainer: Trainer) -> Path | None:
        callback = trainer.checkpoint_callback
        return (
            Path(callback.dirpath) / "last.ckpt" if isinstance(callback, ModelCheckpoint) and callback.dirpath else None
        )


@rank_zero_only
def say_how_to_resume(path: Path | None) -> None:
    if path is not None:
        print(f"Stopped. To go on: python run.py ckpt_path={short(path)}")


def short(path: str | Path) -> str:
    """A path as one types it: relative to here where it lies below."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@rank_zero_only
def log_hyperparameters(trainer: Trainer, cfg: DictConfig, results: dict[str, Any]) -> None:
    """The config and the final metrics, once and together, or TensorBoard's HParams tab stays empty."""
    if isinstance(trainer.logger, TensorBoardLogger):
        metrics = {name: value for name, value in results.items() if "/" in name}
        plain = {name: OmegaConf.to_container(cfg[name]) for name in ("model", "data")}
        kept = {"accelerator", "precision", "max_epochs"}
        trainer_facts = {name: value for name, value in cfg.trainer.items() if name in kept}
        with warnings.catch_warnings(action="ignore"):
            facts = {**plain, "trainer": trainer_facts, "seed": cfg.seed}
            trainer.logger.log_hyperparams(facts, metrics, step=trainer.global_step)
        trainer.logger.save()


@rank_zero_only
def show_metrics(results: dict[str, Any], trainer: Trainer) -> None:
    """The end of a run on the console: its figures, its folder, and how to look at it."""
    table = Table(show_header=False, caption=results.get("judged"))
    for name, value in results.items():
        if "/" in name and isinstance(value, float) and not name.endswith("_floor"):
            floor = results.get(f"{name}_floor")  # of a GAN's score: the same of real images
            table.add_row(name, f"{value:.4f}", *([] if floor is None else [f"floor {floor:.4f}"]))
    if "seconds" in results:
        table.add_row("training", f"{results['seconds']:.1f} s, {results['images_per_second']:,.0f} images/s")
    Console().print(table)
    print(f"folder       {short(trainer.default_root_dir)}\ndashboard    tensorboard --logdir outputs")
