"""The end of a run on the console: the few metrics that matter, and which way is better."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tasks.folders import short
from tasks.loggers import where_to_look
from tasks.metrics import BETTER, direction
from tasks.tables import Column, Table, one_line

WIDTH = 80  # characters of a line
MAX_METRICS = 9  # in the table
STAGES = ("test", "val", "samples", "train")
COLUMNS = (
    Column("metric"),
    Column("value", right=True),
    Column("floor", "real images", right=True),  # the same score of real images
    Column("better"),
)


def results_table(results: Mapping[str, Any]) -> Table:
    """The most important metrics of a record, each with its floor, if it has one, and with what is better.

    >>> print(results_table({"train/loss": 0.25, "val/fid": 9.5, "val/fid_floor": 2.0, "epochs": 3}).to_markdown())
    | metric | value | real images | better |
    |---|---:|---:|---|
    | val/fid | 9.5000 | 2.0000 | lower |
    | train/loss | 0.2500 |  | lower |
    """
    order = list(BETTER)

    def rank(name: str) -> tuple[int, int]:
        stage, _, metric = name.partition("/")
        known = order.index(metric) if metric in order else len(order)
        return STAGES.index(stage) if stage in STAGES else len(STAGES), known

    names = sorted(metrics_of(results), key=rank)
    if len(names) > MAX_METRICS:
        names = [name for name in names if direction(name.partition("/")[2])]
    rows = [
        {
            "metric": name,
            "value": format_value(results[name]),
            "floor": format_value(results.get(f"{name}_floor")),
            "better": direction(name.partition("/")[2]),
        }
        for name in names[:MAX_METRICS]
    ]
    return Table(COLUMNS, rows).without_empty_columns()


def metrics_of(results: Mapping[str, Any]) -> list[str]:
    """The names of a record's metrics, without floors, counts and times."""
    skipped = ("_floor", "count", "_seconds")
    named = [name for name, value in results.items() if "/" in name and isinstance(value, float)]
    return [name for name in named if not name.endswith(skipped)]


def format_value(value: float | None) -> str:
    """A value with four digits behind the point, less where it is large."""
    if value is None:
        return ""
    return f"{value:.1f}" if abs(value) >= 1000 else f"{value:.4f}"


@rank_zero_only
def show_results(results: Mapping[str, Any], trainer: Trainer) -> None:
    """Prints the metrics of a run, how they were measured, its folder, and how to look at it."""
    table = results_table(results)
    if table.rows:
        table.print(min_width=WIDTH)
    if description := results.get("metrics_description"):
        print(textwrap.fill(one_line(description), WIDTH))
    if "seconds" in results:
        print(f"training     {results['seconds']:.1f} s, {results['images_per_second']:,.0f} images/s")
    if (best := results.get("best_epoch")) not in (None, results.get("epochs")):
        print(f"best epoch   {best} of {results['epochs']}, by the objective; train/ is of the last one")
    if reason := results.get("stopped_early"):
        print(textwrap.fill(f"stopped      {reason}", WIDTH, subsequent_indent=" " * 13))
    if more := len(metrics_of(results)) - len(table.rows):
        print(f"metrics      {more} more in results.json")
    print(one_line(f"folder       {short(Path(trainer.default_root_dir).absolute())}"))
    for profile in sorted(Path(trainer.default_root_dir).glob("*-profile*.txt")):
        print(f"profile      {short(profile.absolute())}")
    for line in where_to_look(trainer):
        print(line)
