"""task=publish: makes a small folder of a trained net that travels: weights, config, record, and their sums."""

from pathlib import Path
from typing import Annotated, Any

from lightning import LightningModule
from omegaconf import DictConfig
from pydantic import Field, with_config
from typing_extensions import TypedDict

from datamodules.contract import STRICT, Count, Index, NonNegative
from tasks.annotations import fault_of, is_local_path
from tasks.build import check_all_images
from tasks.checkpoint import load_trained, read_checkpoint
from tasks.config import ConfigError, locate
from tasks.folders import run_of_checkpoint, short
from tasks.published import find_net, write_net
from tasks.report import show_results
from tasks.results import read_results
from tasks.saved_config import check_as_saved
from tasks.train import test_model

Text = Annotated[str, Field(max_length=100)]
NET = "net"  # the folder's name


@with_config(STRICT)
class Kept(TypedDict, total=False):
    """What is kept of the record of a net's run."""

    model: str
    data: str
    experiment: str
    seed: Index
    device: Text
    precision: Text
    epochs: Count
    seconds: NonNegative


def publish(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Tests the net of `cfg.ckpt_path` and writes it, with what came out, into `net/` of the run's folder.

    The record has no path of this machine, and the metrics in it are those of exactly these weights; a net that has
    been published keeps the rest of its record.

    Raises:
        ValueError: the checkpoint is missing or cannot be used, or nothing can be measured in a net of its kind.
    """
    check_all_images(cfg.trainer, "a published net is measured", "limit_test_batches", "limit_val_batches")
    record: dict[str, Any] = {}
    if cfg.ckpt_path is not None:
        check_as_saved(cfg, ("model", "data"), "a net is published with what its checkpoint has")
        before = read_checkpoint(cfg.ckpt_path)["overrides"]
        for key in (text.partition("=")[0] for text in cfg.overrides if text not in before):
            if key.startswith("callbacks."):
                raise ConfigError(key, "a net is published with the scores that its run has: leave it out")
        record = record_of_run(cfg.ckpt_path)
    model, datamodule, trainer, facts = load_trained(cfg, folder, LightningModule)
    metrics = test_model(trainer, model, datamodule, None)
    if not metrics:
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} has no test metrics")
    checkpoint = read_checkpoint(cfg.ckpt_path)
    record |= {"overrides": without_paths(checkpoint)}
    record |= {name: facts[name] for name in ("parameters", "macs")}
    record |= {name: value for name, value in metrics.items() if "/" in name}
    size = write_net(folder / NET, {**checkpoint, "overrides": record["overrides"]}, record, datamodule.state_dict())
    show_results(facts | metrics, trainer)
    print(f"written      {short(folder / NET)} ({size:,} bytes), to be used as ckpt_path={short(folder / NET)}")
    return facts | metrics | {"net": str(folder / NET)}


def record_of_run(path: str) -> dict[str, Any]:
    """What is kept of the record of a checkpoint's run, where it lies in one's folder or is a published net.

    Raises:
        ValueError: the record cannot be read.
    """
    folder = find_net(path) or run_of_checkpoint(path)
    run = read_results(folder) if folder is not None else {}
    config = read_checkpoint(path)["config"]
    known = {name: config["choices"].get(name) for name in ("model", "data", "experiment")} | {"seed": config["seed"]}
    known = {name: value for name, value in known.items() if value is not None}
    is_its_own = all(run.get(name) == value for name, value in known.items())
    kept = {name: run[name] for name in Kept.__annotations__ if run.get(name) is not None} if is_its_own else {}
    if fault := fault_of(kept, Kept):
        raise ValueError(f"{folder}: its results.json is not the record of a run, {fault}")
    return kept | known


def without_paths(checkpoint: dict[str, Any]) -> list[str]:
    """What the command lines of a run have changed, without paths of the machine it ran on."""
    paths = {"ckpt_path", "init_from", "input"}
    for part in ("model", "data"):
        _, parameters = locate(part, checkpoint["config"][part]["_target_"])
        paths |= {f"{part}.{name}" for name, kind in parameters.annotations.items() if is_local_path(kind)}
    return [text for text in checkpoint["overrides"] if text.split("=")[0] not in paths]
