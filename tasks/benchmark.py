"""task=benchmark: the same training on each device at hand, and what each makes of it."""

import csv
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table
from torchvision.utils import save_image

from gan.adversarial import GAN
from gan.callbacks.sample_plots import grid
from tasks.build import build, describe
from tasks.results import recorded
from tasks.train import numbers, short

COLUMNS = ("device", "name", "steps_per_second", "images_per_second", "seconds_an_epoch", "peak_mib", "ratio", "result")


class Stopwatch(Callback):
    """Takes the time of `steps` batches after `warm_up` others, then ends the fit; validation is left out.

    A batch is a step: of a GAN whose generator moves every k batches it is one of the discriminator.
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
    """Waits for what a GPU still has to do."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


@recorded
def benchmark(cfg: DictConfig) -> dict[str, Any]:
    """Trains `task.steps` steps on the CPU and, where there is one, on the GPU, from the same weights and batches.

    Writes benchmark.md and benchmark.csv, and of a GAN samples_<device>.png; prints the table.

    Raises:
        ValueError: a number of steps is out of its range, or a checkpoint is named.
    """
    for name, least in {"steps": 1, "warm_up": 0}.items():
        value = cfg.task[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"task.{name}={value}: a whole number from {least} is needed")
    if cfg.ckpt_path is not None:
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: task=benchmark trains from the start")
    folder = Path(HydraConfig.get().runtime.output_dir)
    rows = [measured(cfg, device, folder) for device in devices(cfg)]
    for row in rows:
        row["ratio"] = row["images_per_second"] / rows[0]["images_per_second"]
    remarks = [f"{cfg.task.steps} steps of {cfg.data.batch_size} images after {cfg.task.warm_up} that do not count."]
    remarks += [alone] if (alone := why_alone(cfg, rows)) else []
    with open(folder / "benchmark.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (folder / "benchmark.md").write_text(markdown(rows, remarks))
    show(rows, remarks)
    print(f"written      {short(folder)}/benchmark.md and benchmark.csv")
    return {"benchmark": rows}


def devices(cfg: DictConfig) -> list[str]:
    """The CPU and, unless the command chose the CPU alone, the GPU."""
    return ["cpu", "gpu"] if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else ["cpu"]


def why_alone(cfg: DictConfig, rows: list[dict[str, Any]]) -> str:
    if len(rows) > 1:
        return ""
    reason = "trainer.accelerator=cpu" if torch.cuda.is_available() else "this machine has no GPU that PyTorch can use"
    return f"Only the CPU was measured: {reason}."


def measured(cfg: DictConfig, device: str, folder: Path) -> dict[str, Any]:
    """The row of one device."""
    cfg = cfg.copy()
    total = cfg.task.warm_up + cfg.task.steps
    with open_dict(cfg):
        cfg.trainer.update(accelerator=device, devices=1, max_steps=-1, logger=False, callbacks=None)
        cfg.trainer.update(enable_checkpointing=False, enable_progress_bar=False)
    seed_everything(cfg.seed, workers=True, verbose=False)
    model, datamodule, trainer = build(cfg)
    facts = describe(model, datamodule, trainer)
    batches = len(datamodule.train_dataloader())
    trainer.limit_train_batches = min(total, batches)  # so that a schedule of the learning rate ends with the steps
    assert trainer.fit_loop.epoch_loop.max_steps == -1
    trainer.fit_loop.max_epochs = math.ceil(total / batches)
    stopwatch = Stopwatch(cfg.task.warm_up, cfg.task.steps)
    trainer.callbacks.append(stopwatch)  # type: ignore[attr-defined]
    if device == "gpu":
        torch.cuda.reset_peak_memory_stats()
    trainer.fit(model, datamodule=datamodule)
    memory = torch.cuda.max_memory_allocated() if device == "gpu" else most_memory()
    return {
        "device": device,
        "name": facts["device"],
        "steps_per_second": stopwatch.steps / stopwatch.seconds,
        "images_per_second": stopwatch.images / stopwatch.seconds,
        "seconds_an_epoch": batches * stopwatch.seconds / stopwatch.steps,
        "peak_mib": memory / 2**20,
        "result": result(model, datamodule, trainer, folder / f"samples_{device}.png"),
    }


def most_memory() -> int:
    """The most memory, in bytes, that this process ever had: the images and the program too, unlike a GPU's figure."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def result(model: LightningModule, datamodule: LightningDataModule, trainer: Trainer, path: Path) -> str:
    """What the training came to: accuracy on validation images, or samples drawn into `path`."""
    if isinstance(model, GAN):
        save_image(grid(model.images_of_fixed_latents(), 8), path)
        return path.name
    if not is_overridden("validation_step", model):
        return ""
    trainer.validate(model, datamodule=datamodule, verbose=False)
    return f"val/accuracy {numbers(trainer.callback_metrics)['val/accuracy']:.4f}"


def cells(row: dict[str, Any]) -> list[str]:
    """A row as people read it, in the order of `COLUMNS`.

    >>> cells({"device": "cpu", "name": "cpu, 1 thread", "steps_per_second": 81.3, "images_per_second": 10406.4,
    ...        "seconds_an_epoch": 5.291, "peak_mib": 812.4, "ratio": 1.0, "result": "val/accuracy 0.9691"})
    ['cpu', 'cpu, 1 thread', '81.3', '10,406', '5.3', '812', '1.0', 'val/accuracy 0.9691']
    """
    rates = [f"{row['steps_per_second']:,.1f}", f"{row['images_per_second']:,.0f}", f"{row['seconds_an_epoch']:,.1f}"]
    return [row["device"], row["name"], *rates, f"{row['peak_mib']:,.0f}", f"{row['ratio']:.1f}", row["result"]]


def shown() -> list[str]:
    return [name.replace("_per_", "/").replace("_", " ").replace("mib", "MiB") for name in COLUMNS]


def markdown(rows: list[dict[str, Any]], remarks: list[str]) -> str:
    lines = [shown(), ["---"] * len(COLUMNS), *map(cells, rows)]
    memory = (
        "Peak memory: of a CPU the whole process with its data and libraries, of a GPU what the training took there."
    )
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *remarks, memory, ""])


def show(rows: list[dict[str, Any]], remarks: list[str]) -> None:
    table = Table(*shown())
    for row in rows:
        table.add_row(*cells(row))
    Console(width=max(140, Console().width)).print(table)
    print("\n".join(remarks))
