"""From a checked config to a model, a data module and a trainer that fit together."""

import inspect
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from classic_cnn.classifier import ImageClassifier
from datamodules.contract import ArgumentError
from datamodules.in_memory import InMemoryData
from tasks.callback_checks import check_callbacks
from tasks.checkpoint_io import WholeCheckpoints
from tasks.config import ConfigError, locate
from tasks.folders import short
from tasks.loggers import missing_package, own_place
from tasks.messages import first_cause, is_fault
from tasks.tables import one_line


def build(cfg: DictConfig, folder: Path) -> tuple[LightningModule, LightningDataModule, Trainer]:
    """Builds what a task works with; all that it will write goes below `folder`. Nothing is written yet.

    Raises:
        ValueError: an argument is out of its range, the net cannot read such samples, or the machine lacks a device.
    """
    check_devices(cfg.trainer)
    datamodule = build_part("data", cfg.data)
    model = build_model(cfg.model, datamodule)
    check_samples(model, datamodule)
    multiply_adds(model)
    check_optimizers(model)
    return model, datamodule, build_trainer(cfg, folder, model)


def build_part(key: str, node: Mapping[Any, Any], **given: Any) -> Any:
    """Instantiates a node of the config; an error that its class raises names the key."""
    try:
        return instantiate(node, **given, _convert_="all")
    except Exception as error:
        cause = first_cause(error)
        if isinstance(cause, ArgumentError):
            raise ConfigError(f"{key}.{cause.name}", cause.reason, cause.value) from error
        if is_fault(cause):
            raise
        if isinstance(cause, ValueError | TypeError) or type(cause).__name__ == "MisconfigurationException":
            raise ValueError(f"{key}: {' '.join(str(cause).split())}") from error
        raise


def build_model(node: DictConfig, datamodule: LightningDataModule) -> LightningModule:
    """A net for the samples of a data set: gets their channels, size and classes, unless the config sets them."""
    _, parameters = locate("model", node._target_)
    spec = getattr(datamodule, "spec", None)
    given = {
        name: getattr(spec, name)
        for name in ("in_channels", "image_size", "num_classes")
        if spec is not None and name in parameters.annotations and name not in node
    }
    model: LightningModule = build_part("model", node, **given)
    if model.example_input_array is None:
        channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 1)
        size = getattr(datamodule, "image_size", 28)
        model.example_input_array = torch.zeros(1, channels, size, size)
    return model


def build_trainer(cfg: DictConfig, folder: Path, model: LightningModule) -> Trainer:
    """A Trainer whose checkpoints, logs and other files lie in `folder`."""
    named = {str(name): build_callback(name, node, folder) for name, node in cfg.callbacks.items() if node is not None}
    loggers = build_loggers(cfg.trainer.get("logger"), folder)
    # which has nowhere to write, or counts the batches of a GAN, that logs its rates itself
    without: tuple[type[Callback], ...] = () if loggers and model.automatic_optimization else (LearningRateMonitor,)
    if cfg.trainer.get("enable_checkpointing") is False:
        without += (ModelCheckpoint,)
    if cfg.trainer.get("enable_progress_bar") is False:
        without += (ProgressBar,)
    kept = {name: callback for name, callback in named.items() if not isinstance(callback, without)}
    check_callbacks(kept, model, str(cfg.trainer.precision))
    has_bar = any(isinstance(callback, ProgressBar) for callback in kept.values())
    own_bar = {} if has_bar else {"enable_progress_bar": False}  # or Lightning adds its own
    trainer: Trainer = build_part(
        "trainer",
        DictConfig(dict(cfg.trainer) | {"logger": None} | own_bar),
        callbacks=[*kept.values()] or None,
        logger=loggers or False,
        default_root_dir=str(folder),
        plugins=[WholeCheckpoints()],
    )
    if "bf16" in trainer.precision and "bf16" not in str(cfg.trainer.precision):  # Lightning only warns
        reason = "is not for a CPU, which has no mixed precision in float16: take bf16-mixed or trainer.accelerator=gpu"
        raise ConfigError("trainer.precision", reason, cfg.trainer.precision)
    if cfg.trainer.get("profiler"):  # whose tables are too wide for a terminal
        trainer.profiler.dirpath, trainer.profiler.filename = str(folder), "profile"  # type: ignore[attr-defined]
    if isinstance(trainer.strategy, DDPStrategy) and not model.automatic_optimization:
        # a step of one of a GAN's nets leaves the other's parameters out, for whose gradients DDP would wait
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    return trainer


def build_callback(name: str, node: DictConfig, folder: Path) -> Callback:
    check_package(f"callbacks={name}", node._target_)
    is_checkpoint = issubclass(get_class(node._target_), ModelCheckpoint)
    return build_part(f"callbacks.{name}", node, **({"dirpath": str(folder / "checkpoints")} if is_checkpoint else {}))


def build_loggers(node: Any, folder: Path) -> list[Logger]:
    """The loggers of a run, whose files lie in the run's folder; TensorBoard's first, which GANs draw in."""
    if not node:
        return []
    default = {"tensorboard": {"_target_": "tasks.board.Board", "default_hp_metric": False}}
    nodes: Any = default if node is True else {"": node} if "_target_" in node else node
    loggers: list[Logger] = []
    for name, part in nodes.items():
        if part is None:
            continue
        if not isinstance(part, Mapping) or "_target_" not in part:
            raise ConfigError(f"trainer.logger.{name}", "is not a logger, which trainer/logger=[csv,...] chooses", part)
        check_package(f"trainer/logger={name}", part["_target_"])
        given = own_place(get_class(part["_target_"]), folder)
        loggers.append(build_part(f"trainer.logger.{name}".rstrip("."), part, **given))
    return sorted(loggers, key=lambda logger: not isinstance(logger, TensorBoardLogger))


def check_package(option: str, target: str) -> None:
    """Refuses an option whose package is not installed."""
    if (reason := missing_package(target)) is not None:
        raise ValueError(f"{option} {reason}")


def check_all_images(trainer: DictConfig, what: str, *limits: str) -> None:
    """Refuses to measure on a part of the images `what` is said of all: "an ensemble is compared".

    Raises:
        ConfigError: names the key that leaves some out.
    """
    for key in ("fast_dev_run", "overfit_batches", *limits):
        value = trainer.get(key)
        is_whole = isinstance(value, float) and value == 1.0 if key in limits else not value  # 1 is one batch
        if value is not None and not is_whole:
            raise ConfigError(f"trainer.{key}", f"{what} on all images, leave it out", value)


def check_samples(model: LightningModule, datamodule: LightningDataModule) -> None:
    """Refuses a classifier that cannot read the samples of the data, or has no output for one of their classes.

    Raises:
        ConfigError: names the key of the model.
        ValueError: the samples are no images.
    """
    if not isinstance(model, ImageClassifier) or not isinstance(datamodule, InMemoryData):
        return
    name, spec = type(model).__name__, datamodule.spec
    if spec is None:
        raise ValueError(f"{datamodule.name}: its samples are no images, of which a {name} tells the class")
    if model.num_classes < spec.num_classes:
        reason = f"{datamodule.name} has {spec.num_classes} classes: leave it out"
        raise ConfigError("model.num_classes", reason, model.num_classes)
    if model.in_channels != spec.in_channels:
        reason = f"images of {datamodule.name} have {spec.in_channels}: leave it out"
        raise ConfigError("model.in_channels", reason, model.in_channels)
    if model.image_size != spec.image_size:
        model.example_input_array = torch.zeros(1, *datamodule.sample_shape)
        try:
            multiply_adds(model)
        except ConfigError as error:
            reason = f"the net is for such images, those of {datamodule.name} have {spec.image_size} pixels a side"
            raise ConfigError("model.image_size", f"{reason}: give both the same", model.image_size) from error


def check_devices(trainer: DictConfig) -> None:
    """Refuses more CPU processes than cores, and several machines where nothing starts processes on the others."""
    cores, on_gpu = os.cpu_count() or 1, torch.cuda.is_available() and trainer.accelerator != "cpu"
    if isinstance(trainer.devices, int) and trainer.devices > cores and not on_gpu:
        raise ConfigError("trainer.devices", f"each is a process, and this machine has {cores} cores", trainer.devices)
    nodes = trainer.get("num_nodes", 1)
    if nodes > 1 and not {"SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "MASTER_ADDR"} & os.environ.keys():
        raise ConfigError(
            "trainer.num_nodes", "nothing starts the other machines' processes: use SLURM or torchrun", nodes
        )


def check_optimizers(model: LightningModule) -> None:
    """Tries a model's optimizers and schedule on a dummy parameter, so that their classes check their arguments.

    Raises:
        ConfigError: one of them refuses its arguments.
    """
    makers = {
        "optimizer": getattr(model, "generator_optimizer", None) or getattr(model, "optimizer", None),
        "discriminator_optimizer": getattr(model, "discriminator_optimizer", None),
    }
    schedule = getattr(model, "lr_scheduler", None)
    every_batch = schedule is not None and "total_steps" in inspect.signature(schedule).parameters
    if every_batch and not model.automatic_optimization:
        reason = f"a {type(model).__name__}'s is stepped after every epoch: choose none, cosine or decay"
        raise ConfigError("model.lr_scheduler", reason)
    for name, make in makers.items():
        if make is None:
            continue
        key = f"model.{name}"
        try:
            optimizer = make([nn.Parameter(torch.zeros(1))])
            if schedule is not None:
                key = "model.lr_scheduler"
                schedule(optimizer, **({"total_steps": 10} if every_batch else {}))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(key, " ".join(str(error).split())) from error


def multiply_adds(model: LightningModule) -> int:
    """Multiply-accumulate operations (MACs) of one forward pass of `model.example_input_array`.

    Raises:
        ValueError: the net cannot read images of that size.
    """
    assert isinstance(model.example_input_array, torch.Tensor)
    training = model.training
    model.eval()
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            outputs = model(model.example_input_array)
    except RuntimeError as error:
        size, made_for = model.example_input_array.shape[-1], getattr(model, "image_size", 28)
        if size == made_for:
            raise  # whatever the images, a fault of the net
        raise ConfigError(
            "data.image_size", f"a {type(model).__name__} cannot read such images: use data.image_size={made_for}", size
        ) from error
    finally:
        model.train(training)
    if isinstance(model, ImageClassifier) and outputs.shape != (len(model.example_input_array), model.num_classes):
        shape = ", ".join(map(str, ("N", *outputs.shape[1:])))
        needed = f"(N, {model.num_classes}) is needed, a logit for each class"
        raise ValueError(f"model: forward of {type(model).__name__} returns ({shape}): {needed}")
    return counter.get_total_flops() // 2


def describe(model: LightningModule, datamodule: LightningDataModule, trainer: Trainer) -> dict[str, Any]:
    """Prints what a run consists of and returns the facts that belong in the results.

    Raises:
        ValueError: the data's samples are not the net's.
    """
    if (check := getattr(model, "check_data", None)) is not None:
        check(datamodule)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    operations = multiply_adds(model)
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    on_cpu = f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    devices = f"{trainer.world_size} x {name}" if trainer.world_size > 1 else name
    if trainer.is_global_zero:
        print(f"model        {type(model).__name__}: {parameters:,} parameters, {operations:,} multiply-adds per image")
        data = f"data         {datamodule.describe()}"  # type: ignore[attr-defined]
        print(textwrap.fill(data, 80, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False))
        print(f"device       {devices}, precision {trainer.precision}")
        print(one_line(f"folder       {short(Path(trainer.default_root_dir).absolute())}"), flush=True)
    return {"parameters": parameters, "macs": operations, "device": devices, "precision": trainer.precision}
