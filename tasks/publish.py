"""task=publish: makes a small folder of a trained net that travels: weights, config, record, and their sums."""

from pathlib import Path
from typing import Any

from lightning import LightningModule
from omegaconf import DictConfig

from tasks.annotations import is_local_path
from tasks.build import check_all_images
from tasks.checkpoint import load_trained, read_checkpoint
from tasks.config import locate
from tasks.folders import short
from tasks.published import find_net, write_net
from tasks.report import show_results
from tasks.results import read_results
from tasks.train import test_model

KEPT = ("model", "data", "experiment", "seed", "device", "precision", "epochs", "seconds")  # of the record of its run
NET = "net"  # the folder's name


def publish(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Tests the net of `cfg.ckpt_path` and writes it, with what came out, into `net/` of the run's folder.

    The record has no path of this machine, and the metrics in it are those of exactly these weights; a net that has
    been published keeps the rest of its record.

    Raises:
        ValueError: the checkpoint is missing or cannot be used, or nothing can be measured in a net of its kind.
    """
    check_all_images(cfg.trainer, "a published net is measured", "limit_test_batches", "limit_val_batches")
    model, datamodule, trainer, facts = load_trained(cfg, folder, LightningModule)
    metrics = test_model(trainer, model, datamodule, None)
    if not metrics:
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} has no test metrics")
    checkpoint = read_checkpoint(cfg.ckpt_path)
    run = read_results(find_net(cfg.ckpt_path) or Path(cfg.ckpt_path).absolute().parents[1])
    record = {name: run[name] for name in KEPT if run.get(name) is not None}
    record |= {"overrides": without_paths(checkpoint)}
    record |= {name: facts[name] for name in ("parameters", "macs")}
    record |= {name: value for name, value in metrics.items() if "/" in name}
    size = write_net(folder / NET, {**checkpoint, "overrides": record["overrides"]}, record)
    show_results(facts | metrics, trainer)
    print(f"written      {short(folder / NET)} ({size:,} bytes), to be used as ckpt_path={short(folder / NET)}")
    return facts | metrics | {"net": str(folder / NET)}


def without_paths(checkpoint: dict[str, Any]) -> list[str]:
    """What the command lines of a run have changed, without paths of the machine it ran on."""
    paths = {"ckpt_path", "init_from", "input"}
    for part in ("model", "data"):
        _, parameters = locate(part, checkpoint["config"][part]["_target_"])
        paths |= {f"{part}.{name}" for name, kind in parameters.annotations.items() if is_local_path(kind)}
    return [text for text in checkpoint["overrides"] if text.split("=")[0] not in paths]
