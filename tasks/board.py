"""What a run shows in TensorBoard: its charts, and the choices and metrics by which the HParams tab compares runs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams

from tasks.run_records import read_sweep

METRICS = ("test/accuracy", "val/accuracy", "test/fid", "val/fid")  # that the HParams tab compares
NOT_DRAWN = re.compile(
    r"epoch|.*_floor|.*/(gan_train_)?count|.*/evaluation_seconds|DeviceStatsMonitor\.(?!on_train_batch_end/).*"
)
CHOICES = ("model", "data", "experiment")
SETTINGS = {  # that every run has: where the config has them, and the names of their columns
    "model.optimizer.lr": "lr",
    "data.batch_size": "batch_size",
    "trainer.max_epochs": "epochs",
    "seed": "seed",
}
NOT_COMPARED = re.compile(  # of the command line: without effect on what comes out
    r"(task|ckpt_path|init_from|input|name|tags|description|~.*|hydra.*|trainer/logger.*|task\..*|data\.root|"
    r"callbacks\.(plots|progress_bar|evaluation)\b.*|trainer\.(accelerator|devices|enable_.*|log_every.*))(=.*|$)"
)


class Board(TensorBoardLogger):
    """TensorBoard's logger with train/..., val/... and test/... before everything else, and only charts worth a look.

    The floors of a GAN's scores do not change: the table of results has them, as a text. Learning rates are
    train/lr-NAME, a device's load and memory watch/device_NAME.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        drawn = {name: value for name, value in metrics.items() if not NOT_DRAWN.fullmatch(name)}
        super().log_metrics({renamed(name): value for name, value in drawn.items()}, step)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()  # and no hparams.yaml, which .hydra/config.yaml makes superfluous


def renamed(metric: str) -> str:
    """
    >>> renamed("lr-Adam"), renamed("DeviceStatsMonitor.on_train_batch_end/cpu_percent")
    ('train/lr-Adam', 'watch/device_cpu_percent')
    """
    if metric.startswith("lr-"):
        return f"train/{metric}"
    return metric.replace("DeviceStatsMonitor.on_train_batch_end/", "watch/device_")


@rank_zero_only
def log_outcome(trainer: Trainer, cfg: DictConfig, results: Mapping[str, Any], table: str) -> None:
    """Once, at the end: the table of results as a text, and the columns of the HParams tab."""
    boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    if not boards:
        return
    board = boards[0]
    board.add_text("results", table, trainer.global_step)
    values, first = compared_values(cfg, overrides_of_sweep(Path(trainer.default_root_dir)))
    # TensorBoard takes the columns of all runs from one of them: a classifier names a GAN's metrics too
    metrics = sorted(METRICS, key=lambda name: name not in results)
    experiment, start, end = hparams(values, dict.fromkeys(metrics, 0.0))
    plugin = experiment.value[0].metadata.plugin_data
    columns = HParamsPluginData.FromString(plugin.content)
    for column in columns.experiment.hparam_infos:
        column.differs = column.name in first  # TensorBoard shows these before the others
    plugin.content = columns.SerializeToString()
    for part in (experiment, start, end):
        board.file_writer.add_summary(part)
    board.flush()


def overrides_of_sweep(folder: Path) -> set[str]:
    """What all jobs of a sweep have in common, from the record of the sweep that a run's folder lies in, if any."""
    try:
        return {text.removeprefix("++") for text in read_sweep(folder.parent)["shared"]}
    except (OSError, ValueError):
        return set()


def compared_values(cfg: DictConfig, shared: set[str]) -> tuple[dict[str, Any], set[str]]:
    """What tells a run from others, by plain names; which of them the command line chose, not for all jobs of a sweep.

    Args:
        cfg: of the run.
        shared: overrides that all jobs have.
    """
    values = {name: cfg.choices[name] for name in CHOICES if cfg.choices.get(name)}
    if optimizer := OmegaConf.select(cfg, "model.optimizer._target_"):
        values["optimizer"] = optimizer.rpartition(".")[2]
    values |= {name: OmegaConf.select(cfg, key) for key, name in SETTINGS.items() if OmegaConf.select(cfg, key)}
    values["seed"] = cfg.seed
    first = set()
    for override in cfg.overrides:
        key, _, typed = override.partition("=")
        name = key if key in CHOICES else SETTINGS.get(key, "")
        if not name:
            if NOT_COMPARED.fullmatch(override):
                continue
            last = re.split(r"[./]", key)[-1]
            name = key if last in values and key != "model/optimizer" else last  # its option says more than its class
            values[name] = typed if "/" in key or key == "callbacks" else OmegaConf.select(cfg, key)
        if override not in shared:
            first.add(name)
    plain = (bool, int, float, str)
    return {name: value if isinstance(value, plain) else str(value) for name, value in values.items()}, first
