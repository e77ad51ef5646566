"""task=claim: one arm of a claim, trained and measured. The sweep over arms and seeds ends with the verdict."""

import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.utils import instantiate
from lightning import LightningModule, seed_everything
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from datamodules.in_memory import InMemoryData
from tasks.build import build_model, build_part
from tasks.checkpoint import load
from tasks.claims.verdict import Expectation, check_expectations
from tasks.config import ConfigError, Name
from tasks.results import evenly_spaced
from tasks.runs_compare import Curve, read_curves
from tasks.train import train

MAX_POINTS = 60  # of a curve in a record
Text = Annotated[str, Field(min_length=1, max_length=1000)]


class MeasuredRun:
    """What a measure looks at: the run of one arm and seed, after its training, each part read when it is asked for."""

    def __init__(self, cfg: DictConfig, folder: Path, results: Mapping[str, Any]) -> None:
        self.cfg = cfg
        self.folder = folder
        self.results = results

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """What was logged, by name: pairs of step and value."""
        return read_curves(self.folder)

    @cached_property
    def trained(self) -> tuple[LightningModule, InMemoryData]:
        """The net in evaluation mode with the weights that were tested, and its data, which has been read."""
        if "best_checkpoint" in self.results:
            model, data = load(self.results["best_checkpoint"], self.cfg.data.get("root"), self.cfg.data)
        else:
            data = build_part("data", self.cfg.data)
            model = build_model(self.cfg.model, data).eval()
        assert isinstance(data, InMemoryData)
        data.prepare_data()
        data.setup()
        return model, data

    def curve(self, name: str) -> Curve:
        """
        Raises:
            ValueError: no such curve was logged.
        """
        if name not in self.curves:
            every = self.cfg.trainer.log_every_n_steps
            known = ", ".join(self.curves) or "none"
            raise ValueError(f"{name}: no such curve was logged every {every} steps (log_every_n_steps), but {known}")
        return self.curves[name]


Measure = Callable[[MeasuredRun], Mapping[str, Any]]


def claim(
    cfg: DictConfig,
    folder: Path,
    sentence: Text,
    paper: Text,
    found: Text,
    differs: Text,
    arms: dict[Name, list[str]],
    arm: Name,
    measures: list[Measure],
    expectations: list[Expectation],
    requires: list[Expectation] | None = None,
    size: Literal["small", "full"] = "small",
    full: list[str] | None = None,
    drawn: str | None = None,
    drawn_over: str = "step",
    trains: bool = True,
    start_from: dict[str, Any] | None = None,
    figure: Callable[..., Figure] | None = None,
    remark: str | None = None,
    details: Callable[..., str] | None = None,
) -> dict[str, Any]:
    """Trains an arm of a claim as task=train does, and measures what came of it.

    A measure returns numbers by name; a list of pairs (x, y) in place of a number is a curve.

    Args:
        cfg: the config of the run, with what the arm changes.
        folder: the run's own.
        sentence: the claim.
        paper: the paper that makes it, and the place.
        found: what the paper reports.
        differs: what is different here, in scale or method.
        arms: by name, the overrides that make the arm.
        arm: the one of this run.
        measures: functions of a `MeasuredRun`.
        expectations: what the claim leads one to expect.
        requires: what must hold of the runs, or they decide nothing: that a net has learned, say.
        size: of nets and training; `full` for a GPU.
        full: the overrides that make it full.
        drawn: a curve that is drawn, of a measure or of the logger.
        drawn_over: what it is drawn over.
        trains: False where the measures need no trained net.
        start_from: keys of the model in which a net differs that is trained first, to start from its layers.
        figure: draws the claim's record in place of `tasks.claims.report.draw`.
        remark: what to say of the outcome on the claim's page in docs/.
        details: writes a part of the claim's page below the figure, Markdown, from the claim's record.

    Raises:
        ValueError: a measure cannot be computed of this run, or is expected and not among those computed.
    """
    check_expectations(expectations, arms)
    check_expectations(requires or [], arms, "requires")
    if trains:
        check_checkpoints(cfg)
    start = time.perf_counter()
    if start_from is not None and cfg.ckpt_path is None:
        cfg.init_from = train_first(cfg, folder / "first", start_from)
    results = train(cfg, folder) if trains else {}
    run = MeasuredRun(cfg, folder, results)
    numbers: dict[str, float] = {}
    curves: dict[str, Curve] = {}
    for measure in map(as_function, measures):
        for name, value in measure(run).items():
            points = value if isinstance(value, list) else [(0.0, value)]
            if not all(math.isfinite(number) for point in points for number in point):
                raise ValueError(f"the measure {name} is not finite: {str(value)[:100]}")
            if isinstance(value, list):
                curves[name] = [(float(x), float(y)) for x, y in value]
            else:
                numbers[name] = float(value)
    for row in [*expectations, *(requires or [])]:
        if arm in (row["arm"], row.get("than")) and row["measure"] not in numbers:
            raise ConfigError("task.expectations", f"choose measures of {', '.join(numbers) or 'none'}", row["measure"])
    if drawn in run.curves and drawn not in curves:
        curves[drawn] = evenly_spaced(run.curves[drawn], MAX_POINTS)
    for name, number in numbers.items():
        print(f"{name.replace('_', ' '):<12} {number:.4g}", flush=True)
    cost = {} if trains else {"seconds": time.perf_counter() - start}
    return {**results, **cost, "arm": arm, "measures": numbers, "curves": curves}


def check_checkpoints(cfg: DictConfig) -> None:
    """Refuses a trainer that keeps no net to measure.

    Raises:
        ConfigError: names the key.
    """
    trainer = cfg.trainer
    if trainer.get("enable_checkpointing") is False or trainer.get("fast_dev_run"):
        key = "fast_dev_run" if trainer.get("fast_dev_run") else "enable_checkpointing"
        reason = "leaves no checkpoint, and a claim measures the net of one"
        raise ConfigError(f"trainer.{key}", reason, trainer[key])
    if not any(str(node["_target_"]).endswith(".ModelCheckpoint") for node in cfg.callbacks.values() if node):
        raise ConfigError("callbacks.checkpoint", "is left out, and a claim measures the net of a checkpoint")


def train_first(cfg: DictConfig, folder: Path, changes: Mapping[str, Any]) -> str:
    """Trains another net as the arm's own; returns the checkpoint. The random state is then that of a new run."""
    other: Any = OmegaConf.merge(cfg, {"model": changes})
    results = train(other, folder)
    if "best_checkpoint" not in results:
        raise ConfigError("task.start_from", "needs checkpoints, which this trainer does not write")
    seed_everything(cfg.seed, workers=True, verbose=False)
    return str(results["best_checkpoint"])


def as_function(node: Any) -> Measure:
    """A measure as the config has it, or as it is given from Python."""
    return node if callable(node) else instantiate(node, _convert_="all")
