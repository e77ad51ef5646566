"""What a run shows in TensorBoard: its charts, and the choices and metrics by which the HParams tab compares runs."""

import re
from collections.abc import Mapping
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard.summary import hparams

METRICS = ("test/accuracy", "val/accuracy", "test/fid", "val/fid")  # that the HParams tab compares
NOT_DRAWN = re.compile(r"epoch|.*_floor|.*/(gan_train_)?count|.*/evaluation_seconds")
# the keys that every run has, under the names of their columns
COMMON = {
    "optimizer": "model.optimizer._target_",
    "lr": "model.optimizer.lr",
    "batch_size": "data.batch_size",
    "epochs": "trainer.max_epochs",
    "seed": "seed",
}
NOT_COMPARED = re.compile(  # of the command line: in another column, or without effect on what comes out
    r"(task|ckpt_path|init_from|input|name|tags|description|~.*|hydra.*|trainer/logger.*|"
    r"task\..*|callbacks\.(plots|progress_bar|evaluation)\b.*|trainer\.(accelerator|devices|enable_.*|log_every.*)|"
    r"data\.(root|num_workers))(=.*|$)"
)


class Board(TensorBoardLogger):
    """TensorBoard's logger with train/..., val/... and test/... before everything else, and only charts worth a look.

    The floors of a GAN's scores do not change: the table of results has them, as a text. Learning rates are
    train/lr-NAME.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        drawn = {name: value for name, value in metrics.items() if not NOT_DRAWN.fullmatch(name)}
        named = {f"train/{name}" if name.startswith("lr-") else name: value for name, value in drawn.items()}
        super().log_metrics(named, step)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()  # and no hparams.yaml, which .hydra/config.yaml makes superfluous


@rank_zero_only
def log_outcome(trainer: Trainer, cfg: DictConfig, results: Mapping[str, Any], table: str) -> None:
    """Once, at the end: the table of results as a text, and the columns of the HParams tab."""
    if not isinstance(trainer.logger, TensorBoardLogger):
        return
    board = trainer.logger.experiment
    board.add_text("results", table, trainer.global_step)
    # TensorBoard takes the columns of all runs from one of them: a classifier names a GAN's metrics too
    metrics = sorted(METRICS, key=lambda name: name not in results)
    for summary in hparams(compared_values(cfg), dict.fromkeys(metrics, 0.0)):
        board.file_writer.add_summary(summary)
    board.flush()


def compared_values(cfg: DictConfig) -> dict[str, Any]:
    """What tells a run from others, by plain names: first what its command line chose, then what every run has."""
    every = {name: cfg.choices[name] for name in ("model", "data", "experiment") if cfg.choices.get(name)}
    common = {name: OmegaConf.select(cfg, key) for name, key in COMMON.items()}
    every |= {name: value for name, value in common.items() if value is not None}
    keys = {key: name for name, key in COMMON.items()} | {name: name for name in every}
    chosen: dict[str, Any] = {}
    for override in cfg.overrides:
        key, _, typed = override.partition("=")
        if (name := keys.get(key)) in every:
            chosen[name] = every[name]
        elif not NOT_COMPARED.fullmatch(override):
            name = re.split(r"[./]", key)[-1]  # model/optimizer=sgd says more than the class
            name = key if name in chosen or (name in every and "/" not in key) else name
            chosen[name] = typed if "/" in key else OmegaConf.select(cfg, key)
    return {name: plain(name, value) for name, value in (chosen | {**every, **chosen}).items()}


def plain(name: str, value: Any) -> Any:
    """A value as a cell of the table.

    >>> plain("optimizer", "torch.optim.Adam"), plain("lr", 1e-3), plain("betas", [0.5, 0.9])
    ('Adam', 0.001, '[0.5, 0.9]')
    """
    if name == "optimizer" and "." in value:
        return str(value).rpartition(".")[2]
    return value if isinstance(value, bool | int | float | str) else str(value)
