"""task=generate: a set of images, labelled if the GAN is conditional, as CSV, IDX or PNGs."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from datamodules.contract import Count, Index
from datamodules.formats import image_set_writer
from datamodules.generated import REAL
from gan.adversarial import GAN
from tasks.checkpoint import load_trained
from tasks.folders import short
from tasks.messages import command
from tasks.published import WEIGHTS, find_net
from tasks.results import atomic_writer
from tasks.runs import WRITTEN
from tasks.saved_config import check_as_saved
from tasks.signals import stoppable

CHUNK = 1_000  # images in memory at a time
LARGEST_LABEL = 255  # a byte, in IDX and in CSV

Format = Literal["csv", "idx", "png"]


def generate(
    cfg: DictConfig, folder: Path, count: Count, format: Format, labels: Index | list[Index] | None
) -> dict[str, Any]:
    """Writes images of the GAN of `cfg.ckpt_path` and, beside them, generated.json: how they were made.

    Images of an unconditional GAN have no labels: they are written as PNGs in one folder and refused for CSV and IDX,
    which need labels.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        count: images.
        format: csv = Kaggle's label,pixel0..pixel783; idx = MNIST's files; png = one folder per class.
        labels: the classes of a conditional GAN to generate, equally many of each; None = all.

    Raises:
        ValueError: there is no checkpoint, it holds no GAN, an option does not fit it, or its images are not finite.
    """
    if cfg.ckpt_path is not None:
        check_as_saved(cfg, ("data",), "the images are like those that the GAN has learned")
    model, datamodule, _, _ = load_trained(cfg, folder, GAN, reads_data=False)
    if model.generate(torch.zeros(1, model.latent_dim, device=model.device)).shape[1:] != (1, 28, 28):
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: this GAN does not generate gray images of 28x28 pixels")
    classes = choose_classes(model, format, labels)
    path = folder / ("generated.csv" if format == "csv" else "generated")
    remove_unfinished(path)
    counts = write_set(model, path, format, count, classes)
    net = find_net(cfg.ckpt_path)
    weights = net / WEIGHTS if net else Path(cfg.ckpt_path)
    imitates = datamodule.domain
    sidecar = {
        "path": path.name,
        "format": format,
        "count": count,
        "labels": counts,
        "imitates": imitates,
        "model": type(model).__name__,
        "checkpoint": str(weights.resolve()),
        "checkpoint_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "seed": cfg.seed,
        "device": str(model.device),
    }
    with atomic_writer(folder / "generated.json") as file:
        file.write(json.dumps(sidecar, indent=2) + "\n")
    print(f"written      {count:,} images to {short(path)}, and how they were made to generated.json beside it")
    if classes is not None and imitates in REAL:
        print("to train    ", command("data=generated", f"data.real={imitates}", f"data.path={short(path)}"))
    return {"generated": sidecar}


def remove_unfinished(path: Path) -> None:
    """Removes the set of a job of a sweep that was killed before it had its record, and now begins again.

    Raises:
        ValueError: there is a file that no run writes.
    """
    found = [one for one in sorted((path, *path.rglob("*")), reverse=True) if one.exists() or one.is_symlink()]
    files = [one for one in found if one.is_symlink() or not one.is_dir()]
    for file in files:
        if file.is_symlink() or not WRITTEN.fullmatch(file.relative_to(path.parent).as_posix()):
            raise ValueError(f"{file}: is not a file of this run: move it elsewhere")
    for one in found:  # what lies in a folder before the folder
        one.unlink() if one in files else one.rmdir()


def choose_classes(model: GAN, format: str, labels: int | Sequence[int] | None) -> list[int] | None:
    """The classes to generate images of; None for an unconditional GAN.

    Raises:
        ValueError: `labels` or `format` asks for classes that the GAN does not know.
    """
    if model.num_classes is None:
        if labels is not None or format != "png":
            option = f"task.labels={labels}" if labels is not None else f"task.format={format}"
            raise ValueError(f"{option}: images of a {type(model).__name__} have no labels, use task.format=png")
        return None
    known = list(range(model.num_classes))
    classes = known if labels is None else [labels] if isinstance(labels, int) else list(labels)
    if not classes or any(label not in known for label in classes):
        raise ValueError(f"task.labels={labels}: should be null or integers from 0 to {model.num_classes - 1}")
    if format != "png" and max(classes) > LARGEST_LABEL:
        reason = f"has no room for labels above {LARGEST_LABEL}, of {model.num_classes} classes: use task.format=png"
        raise ValueError(f"task.format={format}: {reason}")
    return classes


def write_set(
    model: GAN, path: Path, form: str, count: int, classes: Sequence[int] | None, quiet: bool = False
) -> dict[str, int]:
    """Writes `count` new images, equally many of each of `classes`, or none at all; returns the number of each class.

    Raises:
        ValueError: an image is not finite.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    counts = dict.fromkeys(map(str, sorted(set(classes or ()))), 0)
    with (
        stoppable(),  # or an unfinished file would be left behind
        image_set_writer(path, form, count) as writer,
        Progress(*columns, transient=True, disable=quiet) as progress,
    ):
        bar = progress.add_task("generating", total=count)
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            labels = None
            if classes is not None:
                labels = torch.tensor(classes)[torch.arange(start, start + size) % len(classes)]
                for label in labels.tolist():
                    counts[str(label)] += 1
            images = to_pixels(model.sample(size, labels))
            writer.write(images, None if labels is None else labels.numpy())
            progress.advance(bar, size)
    return counts


def to_pixels(images: Tensor) -> np.ndarray:
    """From images (N, 1, 28, 28) in [-1, 1] to uint8 (N, 28, 28), the inverse of `ImageData.transform`.

    Raises:
        ValueError: an image is not finite.
    """
    if not images.isfinite().all():
        raise ValueError("the generated images are not finite: the GAN has diverged, use an earlier checkpoint")
    return ((images[:, 0].float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
