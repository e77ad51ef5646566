"""A search by a sweeper of Hydra (Optuna): what it compares, and what it has found."""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tasks.config import ConfigError
from tasks.folders import short
from tasks.messages import command
from tasks.run_records import Record, read_sweep
from tasks.tables import one_line

OUTCOME = "optimization_results.yaml"  # which the sweeper writes
EXPERIMENTS = ("experiment=search_lr",)  # that say nothing of a run but how it is searched for


def check_search(config: DictConfig) -> None:
    """Refuses a search without a metric, or one for its worst value; quietens Optuna.

    Raises:
        ConfigError: what has to be set.
    """
    for name in ("optuna.storages", "optuna.study"):
        logging.getLogger(name).setLevel(logging.WARNING)
    direction = getattr(config.hydra.sweeper.direction, "name", config.hydra.sweeper.direction)
    monitor, mode = (OmegaConf.select(config, f"callbacks.checkpoint.{name}") for name in ("monitor", "mode"))
    if monitor is None:
        reason = "a search compares this metric; of a GAN: val/fid with callbacks.checkpoint.mode=min"
        raise ConfigError("callbacks.checkpoint.monitor", reason, None)
    wanted = {"min": "minimize", "max": "maximize"}.get(str(mode))
    if isinstance(direction, str) and wanted is not None and direction != wanted:
        reason = f"should be {wanted}, as callbacks.checkpoint.mode={mode} says"
        raise ConfigError("hydra.sweeper.direction", reason, direction)


def report_best(folder: Path, records: list[Record]) -> None:
    """Prints what a search has found, if it has one best run: the values, the run, and the command that repeats it."""
    outcome = OmegaConf.load(folder / OUTCOME)
    if not isinstance(outcome, DictConfig) or "best_params" not in outcome:
        return
    best = [f"{key}={value}" for key, value in outcome.best_params.items()]
    print(f"best         {outcome.best_value:.6g} with {' '.join(best)}")
    runs = [record for record in records if set(best) <= set(record["overrides"]) and record["status"] == "finished"]
    if runs:
        print(f"its run      {one_line(short(Path(runs[0]['folder']).absolute()))}")
    others = [text for text in read_sweep(folder)["overrides"] if not text.startswith((*EXPERIMENTS, "hydra"))]
    keys = {text.split("=")[0] for text in best}
    kept = [text for text in others if text.split("=")[0] not in keys]
    print(f"to repeat    {command(*kept, *best)}")
