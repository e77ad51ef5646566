"""results.json: what came out of a run, or why nothing did, written atomically into its folder."""

import functools
import json
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import seed_everything
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from tasks.checkpoint import all_overrides, complete, given_overrides

NAME = "results.json"


def recorded(task: Callable[[DictConfig], dict[str, Any]]) -> Callable[[DictConfig], float | None]:
    """Makes a task of a function from config to results: completes and seeds it and keeps what it returns.

    The task gives a sweeper `results["objective"]`, a metric on validation data, never on the test set.
    """

    @functools.wraps(task)
    def run(cfg: DictConfig) -> float | None:
        cfg = complete(cfg)
        folder = Path(HydraConfig.get().runtime.output_dir)
        if cfg.ckpt_path is not None:
            save_config(cfg, folder / ".hydra" / "config.yaml")  # what is run, not what was composed without it
        seed_everything(cfg.seed, workers=True, verbose=False)
        record = {
            "status": "finished",
            "task": cfg.task._target_.rsplit(".", 1)[-1],
            **OmegaConf.to_container(cfg.choices, resolve=True),  # type: ignore[dict-item]
            "seed": cfg.seed,
            "overrides": all_overrides(cfg),
            "folder": str(folder),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        try:
            record |= task(cfg)
        except (KeyboardInterrupt, SystemExit) as stop:
            number = stopped_by(stop)
            record |= {"status": "interrupted", "reason": f"stopped by {number.name}"}
            raise SystemExit(128 + number) from stop
        except Exception as error:
            record |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
            raise
        finally:
            before = read(folder / NAME)
            if record["status"] == "finished" or before.get("status") != "finished":  # a finished run's stay
                write(folder / NAME, record)
        return record.get("objective")

    return run


def record_early_failure(cfg: DictConfig, error: Exception) -> None:
    """Leaves a reason in the folder of a sweep's job that failed before its task began."""
    folder, overrides = Path(HydraConfig.get().runtime.output_dir), given_overrides()
    if not (folder / NAME).exists():
        record = {"status": "failed", "task": cfg.task._target_.rsplit(".", 1)[-1], "overrides": overrides}
        write(folder / NAME, record | {"folder": str(folder), "reason": f"{type(error).__name__}: {error}"})


def stopped_by(stop: BaseException) -> signal.Signals:
    """The signal behind an exit: `train` tells it by its status, Lightning has an exception of its own for SIGTERM."""
    terminated = isinstance(stop, SIGTERMException) or (
        isinstance(stop, SystemExit) and stop.code == 128 + signal.SIGTERM
    )
    return signal.SIGTERM if terminated else signal.SIGINT


@rank_zero_only
def save_config(cfg: DictConfig, path: Path) -> None:
    OmegaConf.save(cfg, path)


@rank_zero_only
def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON file so that a reader sees the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(rounded(record), indent=2) + "\n")
    temporary.replace(path)


def read(path: Path) -> dict[str, Any]:
    """The content of a results.json, empty where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def rounded(value: Any) -> Any:
    """Numbers to 7 significant digits, as many as a float32 has; what JSON has no number for becomes a word.

    >>> rounded({"test/accuracy": 0.9891000390052795, "val/loss": float("nan")})
    {'test/accuracy': 0.9891, 'val/loss': 'nan'}
    """
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
