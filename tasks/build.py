"""From a config to (model, datamodule, trainer), checked to fit each other and described in a line a fact."""

import ctypes
import logging
import os
import sys
import warnings
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, open_dict
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gan.adversarial import GAN
from gan.networks import SHAPES

QUIET = (
    r".*LeafSpec|The number of training batches|You passed in a `val_dataloader` but have no|"
    r".*does not have many workers|"  # the images lie in memory: nothing to wait for
    r"You're resuming from a checkpoint that ended before the epoch ended|"  # TrainLoader goes on there
    r"Checkpoint directory .* exists and is not empty|"  # of a resumed run; no other run has a folder that exists
    r"The dirpath has changed from|"  # of a run that goes on in a folder of its own: its best is chosen anew there
    r"`ModelCheckpoint\(monitor=.* could not find the monitored key"  # before the first validation
)


def build(cfg: DictConfig) -> tuple[LightningModule, LightningDataModule, Trainer]:
    """Builds what a task works with.

    Raises:
        ValueError: the images are of a size that the net cannot read, or more CPU processes are asked for than cores.
    """
    cores, on_gpu = os.cpu_count() or 1, torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    if isinstance(cfg.trainer.devices, int) and cfg.trainer.devices > cores and not on_gpu:
        raise ValueError(
            f"trainer.devices={cfg.trainer.devices}: each is a process, and this machine has {cores} cores"
        )
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)  # its greetings and tips
    warnings.filterwarnings("ignore", message=QUIET)
    torch.set_float32_matmul_precision("high")  # TensorFloat-32 where a GPU has it; nothing changes on a CPU
    keep_freed_memory()
    datamodule = instantiate(cfg.data)
    model = instantiate(cfg.model)
    if model.example_input_array is None:
        channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 1)
        model.example_input_array = torch.zeros(1, channels, datamodule.image_size, datamodule.image_size)
    multiply_adds(model)
    with open_dict(cfg):
        cfg.callbacks = {name: callback for name, callback in cfg.callbacks.items() if callback is not None}
    trainer = instantiate(cfg.trainer)
    if isinstance(trainer.strategy, DDPStrategy) and not model.automatic_optimization:
        # a step of one of a GAN's nets leaves the other's parameters out, for whose gradients DDP would wait
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    return model, datamodule, trainer


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next tensor: a CPU step with fresh pages takes 1.05 to 1.5 times as long."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: no pages of its own for a tensor below 1 GiB
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


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
            model(model.example_input_array)
    except RuntimeError as error:
        size, made_for = model.example_input_array.shape[-1], model.image_size
        raise ValueError(
            f"data.image_size={size}: {type(model).__name__} cannot read such images: use data.image_size={made_for}"
        ) from error
    finally:
        model.train(training)
    return counter.get_total_flops() // 2


def describe(model: LightningModule, datamodule: LightningDataModule, trainer: Trainer) -> dict[str, Any]:
    """Reads the data, prints the facts of a run and returns those that belong into its results.

    Raises:
        ValueError: the net was made for images in colour, or a GAN for samples of another shape.
    """
    datamodule.prepare_data()
    datamodule.setup("fit")
    reads, given = model.example_input_array.shape[1], datamodule.train_split.images.shape[1]  # type: ignore
    if model.example_input_array.dim() == 4 and reads != given:  # type: ignore[union-attr]
        raise ValueError(f"model.in_channels={reads}: these images have {given} channel: leave model.in_channels out")
    if isinstance(model, GAN):
        check_samples(model, datamodule)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    operations = multiply_adds(model)
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    on_cpu = f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    devices = f"{trainer.world_size} x {name}" if trainer.world_size > 1 else name
    if trainer.is_global_zero:
        print(f"model        {type(model).__name__}: {parameters:,} parameters, {operations:,} multiply-adds an image")
        print(f"data         {datamodule.describe()}")  # type: ignore[attr-defined]
        print(f"device       {devices}, precision {trainer.precision}")
        print(f"folder       {os.path.relpath(trainer.default_root_dir)}", flush=True)
    return {"parameters": parameters, "macs": operations, "device": devices, "precision": trainer.precision}


def check_samples(model: GAN, datamodule: Any) -> None:
    """Refuses a GAN whose samples are of another shape than those of the data set."""
    made, given = (
        tuple(model.images_of(torch.zeros(1, model.latent_dim), averaged=False).shape[1:]),
        tuple(datamodule.examples(1).shape[1:]),
    )
    networks = [name for name, shape in SHAPES.items() if shape == given]
    if made != given and networks:
        raise ValueError(
            f"model.network makes samples of shape {made}, those of {datamodule.name} are {given}: "
            f"use model.network={' or '.join(networks)}"
        )
