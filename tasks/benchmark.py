"""task=benchmark: the same training on each device of this machine, its speed and its result."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, open_dict
from torchvision.utils import save_image

from datamodules.contract import Count, Index
from gan.adversarial import GAN
from gan.callbacks.sample_plots import grid
from tasks.budget import check_length_is_its_own
from tasks.build import build, describe
from tasks.callbacks import numbers
from tasks.compiling import check_compile, compile_nets
from tasks.folders import short
from tasks.results import atomic_writer
from tasks.tables import Column, Table, escape_markdown, one_line

MEMORY = "Peak memory: on the CPU that of the whole process, on a GPU what the training allocated there."


class Stopwatch(Callback):
    """Times `steps` batches after `warm_up` others, without validation, and then ends the fit.

    A batch is a step, also for a GAN whose generator takes a step only every k batches.
    """

    def __init__(self, warm_up: int, steps: int) -> None:
        self.warm_up = warm_up
        self.steps = steps
        self.done = 0
        self.images = 0
        self.seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.done += 1
        if self.done > self.warm_up:
            self.images += len(batch[1])
        if self.done == self.warm_up:
            self.start(pl_module)
        if self.done == self.warm_up + self.steps:
            self.stop(pl_module)
            trainer.should_stop = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.warm_up == 0:
            self.start(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.warm_up <= self.done < self.warm_up + self.steps:
            self.stop(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.warm_up <= self.done < self.warm_up + self.steps:
            self.start(pl_module)

    def start(self, model: LightningModule) -> None:
        finish_work(model)
        self.clock = time.perf_counter()

    def stop(self, model: LightningModule) -> None:
        finish_work(model)
        self.seconds += time.perf_counter() - self.clock


def finish_work(model: LightningModule) -> None:
    """Waits until a GPU is idle."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def benchmark(cfg: DictConfig, folder: Path, steps: Count, warm_up: Index) -> dict[str, Any]:
    """Trains on the CPU and, where there is one, on the GPU, from the same weights and batches.

    Writes benchmark.md and benchmark.csv, and for a GAN samples_<device>.png; prints the table.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        steps: batches that are timed on each device.
        warm_up: batches before them.

    Raises:
        ValueError: a checkpoint is named, or something cannot be built.
    """
    if cfg.ckpt_path is not None:
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: task=benchmark trains from scratch")
    check_length_is_its_own(cfg, "benchmark")
    rows = [measure(cfg, device, folder, steps, warm_up) for device in devices(cfg)]
    for row in rows:
        row["ratio"] = row["images_per_second"] / rows[0]["images_per_second"]
    remarks = [
        f"{steps} steps of {cfg.data.batch_size} images, after {warm_up} steps of warm-up.",
        *only_cpu(rows),
    ]
    table = Table(COLUMNS, rows)
    with atomic_writer(folder / "benchmark.csv") as file:
        file.write(table.to_csv())
    with atomic_writer(folder / "benchmark.md") as file:
        file.write("\n".join([table.to_markdown(), "", *map(escape_markdown, [*remarks, MEMORY]), ""]))
    table.print()
    print("\n".join(remarks))
    print(f"written      {one_line(short(folder))}/benchmark.md and benchmark.csv")
    return {"benchmark": rows}


def devices(cfg: DictConfig) -> list[str]:
    """The CPU and, unless the command chose the CPU alone, the GPU."""
    return ["cpu", "gpu"] if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else ["cpu"]


def only_cpu(rows: list[dict[str, Any]]) -> list[str]:
    """Why there is only one device, if so."""
    if len(rows) > 1:
        return []
    reason = "trainer.accelerator=cpu" if torch.cuda.is_available() else "PyTorch finds no GPU on this machine"
    return [f"Only the CPU was measured: {reason}."]


def measure(cfg: DictConfig, device: str, folder: Path, steps: int, warm_up: int) -> dict[str, Any]:
    """The row of one device."""
    cfg = cfg.copy()
    total = warm_up + steps
    with open_dict(cfg):
        cfg.callbacks = {}
        cfg.trainer.update(accelerator=device, devices=1, max_steps=-1, logger=False)
        cfg.trainer.update(enable_checkpointing=False, enable_progress_bar=False)
    seed_everything(cfg.seed, workers=True, verbose=False)
    model, datamodule, trainer = build(cfg, folder)
    datamodule.prepare_data()
    datamodule.setup("fit")
    facts = describe(model, datamodule, trainer)
    if cfg.compile:
        check_compile(model, trainer.strategy.root_device)
        compile_nets(model)
    batches = len(datamodule.train_dataloader())
    trainer.limit_train_batches = min(total, batches)  # so that a learning-rate schedule ends with the steps
    trainer.fit_loop.max_epochs = math.ceil(total / batches)
    stopwatch = Stopwatch(warm_up, steps)
    trainer.callbacks.append(stopwatch)  # type: ignore[attr-defined]
    if device == "gpu":
        torch.cuda.reset_peak_memory_stats()
    trainer.fit(model, datamodule=datamodule)
    memory = torch.cuda.max_memory_allocated() if device == "gpu" else peak_memory()
    return {
        "device": device,
        "name": facts["device"],
        "steps_per_second": stopwatch.steps / stopwatch.seconds,
        "images_per_second": stopwatch.images / stopwatch.seconds,
        "seconds_per_epoch": batches * stopwatch.seconds / stopwatch.steps,
        "peak_mib": memory / 2**20,
        "result": result(model, datamodule, trainer, folder / f"samples_{device}.png"),
    }


def peak_memory() -> float:
    """The peak memory of this process in bytes, with the images and the libraries, unlike a GPU's; NaN on Windows."""
    try:
        import resource
    except ImportError:
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def result(model: LightningModule, datamodule: LightningDataModule, trainer: Trainer, path: Path) -> str:
    """The outcome of the training: accuracy on validation images, or the file of a GAN's samples."""
    if isinstance(model, GAN):
        with atomic_writer(path, "wb") as file:
            save_image(grid(model.fixed_samples(), 8), file, format="png")
        return path.name
    if not is_overridden("validation_step", model):
        return ""
    trainer.validate(model, datamodule=datamodule, verbose=False)
    accuracy = numbers(trainer.callback_metrics).get("val/accuracy")  # none of limit_val_batches=0
    return "" if accuracy is None else f"val/accuracy {accuracy:.4f}"


def rate(key: str, digits: str) -> Any:
    return lambda row: f"{row[key]:{digits}}"


COLUMNS = (
    *(Column("device"), Column("name")),
    Column("steps_per_second", "steps/s", rate("steps_per_second", ",.1f"), right=True),
    Column("images_per_second", "images/s", rate("images_per_second", ",.0f"), right=True),
    Column("seconds_per_epoch", text=rate("seconds_per_epoch", ",.1f"), right=True),
    Column("peak_mib", "peak MiB", rate("peak_mib", ",.0f"), right=True),
    Column("ratio", text=rate("ratio", ".1f"), right=True),
    Column("result"),
)
