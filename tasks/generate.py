"""task=generate: a labelled set of images that a trained GAN makes, as CSV, IDX or PNGs."""

import hashlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from datamodules.formats import WRITERS, written
from gan.adversarial import GAN
from tasks.build import build
from tasks.checkpoint import load_weights
from tasks.results import recorded, write
from tasks.train import short

CHUNK = 1_000  # images in memory at a time


@recorded
def generate(cfg: DictConfig) -> dict[str, Any]:
    """Writes `task.count` images of `ckpt_path` into the run's folder and, beside them, generated.json: how they came.

    A conditional GAN makes as many of each of its classes, or of `task.labels`. What an unconditional one makes has no
    labels: that is written as PNGs in one folder and refused for CSV and IDX, which would need them.

    Raises:
        ValueError: there is no checkpoint, it holds no GAN, or an option does not fit it.
    """
    if cfg.ckpt_path is None:
        raise ValueError("task=generate needs a trained GAN: ckpt_path=outputs/.../checkpoints/last.ckpt")
    check(cfg.task.count, cfg.task.format)
    model, _, trainer = build(cfg)
    if not isinstance(model, GAN):
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} makes no images")
    if model.images_of(torch.zeros(1, model.latent_dim)).shape[1:] != (1, 28, 28):
        raise ValueError(
            f"ckpt_path={cfg.ckpt_path}: what this GAN makes are no gray images, which task=generate writes"
        )
    classes = classes_of(model, cfg)
    load_weights(model, cfg)
    model.to(trainer.strategy.root_device)
    folder = Path(HydraConfig.get().runtime.output_dir)
    path = folder / ("generated.csv" if cfg.task.format == "csv" else "generated")
    counts = write_set(model, path, cfg.task.format, cfg.task.count, classes)
    sidecar = {
        "path": path.name,
        "format": cfg.task.format,
        "count": cfg.task.count,
        "labels": counts,
        "model": type(model).__name__,
        "checkpoint": str(Path(cfg.ckpt_path).resolve()),
        "checkpoint_sha256": hashlib.sha256(Path(cfg.ckpt_path).read_bytes()).hexdigest(),
        "seed": cfg.seed,
        "device": str(model.device),
    }
    write(folder / "generated.json", sidecar)
    print(f"written      {cfg.task.count:,} images to {short(path)}, how they came to generated.json beside it")
    if classes is not None:
        print(f"to train     python run.py data=generated data.path={short(path)}")
    return {"generated": sidecar}


def check(count: Any, form: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"task.count={count}: a whole number above 0 is needed")
    if form not in WRITERS:
        raise ValueError(f"task.format={form}: choose one of {', '.join(WRITERS)}")


def classes_of(model: GAN, cfg: DictConfig) -> list[int] | None:
    """The classes to make images of; None for a GAN that knows none.

    Raises:
        ValueError: `task.labels` or `task.format` asks for classes that the GAN does not know.
    """
    asked = cfg.task.labels
    if model.num_classes is None:
        if asked is not None or cfg.task.format != "png":
            option = f"task.labels={asked}" if asked is not None else f"task.format={cfg.task.format}"
            name = type(model).__name__
            raise ValueError(f"{option}: a {name} makes images without labels: use task.format=png, or model=cgan")
        return None
    known = list(range(model.num_classes))
    classes = known if asked is None else list(asked) if isinstance(asked, ListConfig) else [asked]
    if not classes or any(isinstance(label, bool) or label not in known for label in classes):
        raise ValueError(f"task.labels={asked}: null, or a list of numbers from 0 to {model.num_classes - 1}")
    return classes


def write_set(
    model: GAN, path: Path, form: str, count: int, classes: Sequence[int] | None, quiet: bool = False
) -> dict[str, int]:
    """Writes `count` new images, as many of each of `classes`, or none of it; returns the number of each class."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    counts = dict.fromkeys(map(str, sorted(set(classes or ()))), 0)
    before = signal.signal(signal.SIGTERM, stop)  # its default would leave the unfinished file behind
    try:
        with written(path, form, count) as writer, Progress(*columns, transient=True, disable=quiet) as progress:
            bar = progress.add_task("generating", total=count)
            for start in range(0, count, CHUNK):
                size = min(CHUNK, count - start)
                labels = None
                if classes is not None:
                    labels = torch.tensor(classes)[torch.arange(start, start + size) % len(classes)]
                    for label in labels.tolist():
                        counts[str(label)] += 1
                writer.write(pixels(model.sample(size, labels)), None if labels is None else labels.byte().numpy())
                progress.advance(bar, size)
    finally:
        signal.signal(signal.SIGTERM, before)
    return counts


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def pixels(images: Tensor) -> np.ndarray:
    """From images (N, 1, 28, 28) in [-1, 1] to uint8 (N, 28, 28): the way back of `ImageData.transform`."""
    return ((images[:, 0].float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
