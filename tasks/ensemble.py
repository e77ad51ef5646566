"""task=ensemble: several trained classifiers as one, by the mean of their probabilities."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from omegaconf import DictConfig
from torch import Tensor

from classic_cnn.classifier import ImageClassifier
from datamodules.contract import LocalPath
from datamodules.in_memory import InMemoryData, Split
from tasks.build import build_trainer, check_all_images
from tasks.checkpoint import check_finite, load, read_checkpoint
from tasks.config import ConfigError
from tasks.folders import short
from tasks.published import find_net
from tasks.results import atomic_writer
from tasks.tables import Column, Table, one_line

MAX_MEMBERS = 100
COLUMNS = (
    Column("member"),
    Column("model"),
    Column("accuracy", text=lambda row: f"{row['accuracy']:.4f}", right=True),
    Column("agreement", text=lambda row: f"{row['agreement']:.4f}", right=True),
)


def ensemble(cfg: DictConfig, folder: Path, checkpoints: LocalPath | list[LocalPath]) -> dict[str, Any]:
    """Compares several classifiers with their ensemble on test images, or on validation images of a set without any.

    Prints a table, with the share of images on which each agrees with the ensemble, and writes it as ensemble.csv.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        checkpoints: files, or a folder whose best checkpoints are taken.

    Raises:
        ValueError: there are fewer than two, one cannot be used, or they are of different data sets.
    """
    check_all_images(cfg.trainer, "an ensemble is compared", "limit_predict_batches")
    paths = find_checkpoints(checkpoints)
    probabilities: list[Tensor] = []
    rows: list[dict[str, Any]] = []
    images: Images | None = None
    loaded: list[tuple[Path, ImageClassifier, InMemoryData]] = []
    read: dict[str, Any] = {}  # the data of members that were trained on the same
    for path in paths:
        net, data = load(path, cfg.data.get("root"), cfg.data)
        if not (isinstance(net, ImageClassifier) and isinstance(data, InMemoryData)):
            raise ConfigError("task.checkpoints", f"{short(path)} is a {type(net).__name__}, not a classifier")
        if not data.stores_samples:
            reason = f"{short(path)} is of {data.name}, whose images are made of several stored ones"
            raise ConfigError("task.checkpoints", reason)
        data = read.setdefault(json.dumps(read_checkpoint(path)["config"]["data"]), data)
        found = images_of(data)
        images = images or found
        if not all(map(torch.equal, found.split, images.split)):
            raise ConfigError("task.checkpoints", f"{short(path)} is of {data.name}, the first one of other images")
        loaded.append((path, net, data))
    for path, net, data in loaded:
        trainer = build_trainer(cfg, folder, net)
        if trainer.world_size > 1:
            raise ConfigError("trainer.devices", "an ensemble is compared on one device", cfg.trainer.devices)
        batches = cast("list[Tensor]", trainer.predict(net, data))
        probabilities.append(torch.cat(batches).float().cpu())
        check_finite(probabilities[-1], short(path))
        rows.append({"member": short(path), "model": type(net).__name__})
    assert images is not None
    mean = torch.stack(probabilities).mean(0)  # (N, K)
    rows.append({"member": f"ensemble of {len(paths)}", "model": ""})
    for row, predicted in zip(rows, [*probabilities, mean], strict=True):
        row["accuracy"] = share(predicted.argmax(1) == images.split.labels)
        row["agreement"] = share(predicted.argmax(1) == mean.argmax(1))
    table = Table(COLUMNS, rows)
    table.print()
    with atomic_writer(folder / "ensemble.csv") as file:
        file.write(table.to_csv())
    kind_of_images = {"val": "validation", "test": "test"}[images.stage]
    print(f"accuracy     on {len(images.split.labels):,} {kind_of_images} images")
    print("agreement    the share of them on which a net and the ensemble choose the same class")
    print(f"written      {one_line(short(folder))}/ensemble.csv")
    members = {row["member"]: row["accuracy"] for row in rows[:-1]}
    kind = {"model": "ensemble", "data": read_checkpoint(paths[0])["config"]["choices"].get("data")}
    return {**kind, f"{images.stage}/accuracy": rows[-1]["accuracy"], "members": members}


class Images(NamedTuple):
    """The images that nets are compared on, and whether they are the "test" or the "val" images."""

    stage: str
    split: Split


def images_of(data: InMemoryData) -> Images:
    data.prepare_data()
    data.setup("test")
    stage, split = ("test", data.test_split) if data.test_split else ("val", data.val_split)
    assert split is not None
    return Images(stage, split)


def share(correct: Tensor) -> float:
    return correct.float().mean().item()


def find_checkpoints(given: str | Sequence[str]) -> list[Path]:
    """The checkpoints that are named, or the best ones below a folder.

    Raises:
        ConfigError: one is not there, there are fewer than two, or more than a hundred.
    """
    paths = [Path(path) for path in ([given] if isinstance(given, str) else given)]
    for path in paths:
        if not path.exists() and find_net(path) is None:
            raise ConfigError("task.checkpoints", "no such file or folder", str(path))
    is_folder = {path: path.is_dir() and find_net(path) is None for path in paths}
    found = [path for place in paths for path in (sorted(place.rglob("best.ckpt")) if is_folder[place] else [place])]
    found = list(dict.fromkeys(found))
    if not 2 <= len(found) <= MAX_MEMBERS:
        reason = f"two to {MAX_MEMBERS} checkpoints are needed, {len(found)} found; name files, or a sweep's folder"
        raise ConfigError("task.checkpoints", reason, given)
    return found
