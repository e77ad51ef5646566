"""What a run shows in TensorBoard: its charts, and the choices and metrics by which the HParams tab compares runs."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

HEADLINES = ("accuracy", "fid", "nearest_neighbour_accuracy", "modes", "high_quality")  # that runs are compared by
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
    r"(model|data|experiment|seed|task|ckpt_path|init_from|input|name|tags|description|~.*|hydra.*|trainer/logger.*|"
    r"task\..*|callbacks\.(plots|progress_bar|evaluation)\b.*|trainer\.(accelerator|devices|enable_.*|log_every.*)|"
    r"data\.(root|path|num_workers))(=.*|$)"
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
def log_outcome(trainer: Trainer, cfg: DictConfig, results: Mapping[str, Any], table: str) -> None:
    """Once, at the end: the table of results as a text, and the columns of the HParams tab."""
    logger = trainer.logger
    if not isinstance(logger, TensorBoardLogger):
        return
    logger.experiment.add_text("results", table, trainer.global_step)
    own = {name: value for name, value in results.items() if name.startswith(("test/", "val/", "samples/"))}
    metrics = {name: value for name, value in own.items() if name.partition("/")[2] in HEADLINES}
    with warnings.catch_warnings(action="ignore"):
        logger.log_hyperparams(compared_values(cfg), metrics or own, step=trainer.global_step)
    logger.save()


def compared_values(cfg: DictConfig) -> dict[str, Any]:
    """What tells a run from others, by plain names: its choices, what every run has, what its command line changed."""
    values = {name: cfg.choices[name] for name in ("model", "data", "experiment") if cfg.choices.get(name)}
    common = {name: OmegaConf.select(cfg, key) for name, key in COMMON.items()}
    values |= {name: plain(name, value) for name, value in common.items() if value is not None}
    for override in cfg.overrides:
        key, _, typed = override.partition("=")
        if NOT_COMPARED.fullmatch(override) or key in COMMON.values():
            continue
        name = re.split(r"[./]", key)[-1]
        value = typed if "/" in key else OmegaConf.select(cfg, key)
        values[key if name in values and key != "model/optimizer" else name] = plain(name, value)
    return values


def plain(name: str, value: Any) -> Any:
    """A value as a cell of the table.

    >>> plain("optimizer", "torch.optim.Adam"), plain("lr", 1e-3), plain("betas", [0.5, 0.9])
    ('Adam', 0.001, '[0.5, 0.9]')
    """
    if name == "optimizer":
        return str(value).rpartition(".")[2]
    return value if isinstance(value, bool | int | float | str) else str(value)
