"""The table of a cross-validation, a sweep over data.fold: mean and deviation over the folds of each kind of run."""

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tasks.config import ConfigError
from tasks.folders import short
from tasks.leaderboard_rows import list_changes
from tasks.results import atomic_writer
from tasks.run_records import Record
from tasks.tables import Column, Row, Table, deviation, escape_markdown, format_mean, mean, one_line

FOLD = "data.fold="
METRICS = ("val/accuracy", "val/fid", "val/modes")  # the first that a run has is compared


def check_checkpoint(cfg: DictConfig) -> None:
    """Refuses a run on a fold that would be measured at the epoch at which that fold is best.

    Raises:
        ConfigError: says what to give.
    """
    if cfg.data.get("num_folds") is None:
        return
    for name, node in cfg.callbacks.items():
        if node and str(node.get("_target_")).endswith(".ModelCheckpoint") and node.get("monitor") is not None:
            reason = "would choose an epoch by the fold that is measured: give null, as experiment=cross_validate does"
            raise ConfigError(f"callbacks.{name}.monitor", reason, node.monitor)


def is_of_fold(record: Record) -> bool:
    return any(text.startswith(FOLD) for text in record["overrides"])


def write_report(records: list[Record], folder: Path) -> None:
    """Prints the table of a sweep over folds and writes it as cross_validation.md and .csv."""
    rows = summarize(records)
    others = [record for record in records if record["status"] != "finished"]
    failed = [f"{Path(record['folder']).name}: {record['status']}: {record.get('reason')}" for record in others]
    table = Table(COLUMNS, rows).without_empty_columns()
    if rows:
        table.print()
    print(*map(one_line, failed), sep="\n", end="\n" if failed else "")
    with atomic_writer(folder / "cross_validation.md") as file:
        file.write(
            "\n".join([table.to_markdown(), "", *(f"- {escape_markdown(text)}" for text in failed)]).rstrip() + "\n"
        )
    with atomic_writer(folder / "cross_validation.csv") as file:
        file.write(Table(map(Column, CSV), rows).to_csv())
    print(f"table        {one_line(short(folder.absolute()))}/cross_validation.md and .csv")


def summarize(records: list[Record]) -> list[Row]:
    """A row for each kind of run: means over its finished folds, and standard deviations (n - 1).

    A fold that several seeds were trained on counts once, with their mean: the images make the difference.

    >>> fold = {"status": "finished", "task": "train", "model": "lenet", "data": "mnist"}
    >>> values = {("1", 0): 0.2, ("1", 1): 0.3, ("2", 0): 0.5}
    >>> records = [fold | {"overrides": [f"data.fold={i}", f"seed={seed}"], "val/accuracy": value}
    ...            for (i, seed), value in values.items()]
    >>> summarize(records)[0]["mean"], summarize(records)[0]["folds"], summarize(records)[0]["runs"]
    (0.375, 2, 3)
    """
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    common = set.intersection(*(set(record["overrides"]) for record in records))
    for record in records:
        texts = [text for text in record["overrides"] if not text.startswith((FOLD, "seed="))]
        changes = list_changes(record | {"experiment": None, "overrides": texts}, common)
        kind = (*(str(record.get(key) or "") for key in ("model", "data", "name")), changes)
        if record["status"] == "finished":
            groups[kind].append(record)
    rows: list[Row] = []
    for kind, group in groups.items():
        metric = next((name for name in METRICS if name in group[0]), None)
        by_fold: dict[str, list[float]] = defaultdict(list)
        for record in group:
            if metric in record:
                by_fold[fold_of(record)].append(record[metric])
        values = [statistics.fmean(seeds) for seeds in by_fold.values()]
        row: dict[str, Any] = dict(zip(("model", "data", "name", "changes"), kind, strict=True))
        row |= {
            "metric": metric,
            "folds": len(values),
            "runs": sum(map(len, by_fold.values())),
            "mean": mean(values),
            "deviation": deviation(values),
        }
        rows.append(row | {"lowest": min(values, default=None), "highest": max(values, default=None)})
    return rows


def fold_of(record: Record) -> str:
    return next(text for text in record["overrides"] if text.startswith(FOLD))


def number(key: str, deviation: str = "") -> Any:
    """Writes a metric with four digits behind the point, and its deviation."""
    return lambda row: format_mean(row[key], row.get(deviation), ".4f")


CSV = ("model", "data", "name", "changes", "metric", "folds", "runs", "mean", "deviation", "lowest", "highest")
COLUMNS = (
    *map(Column, ("model", "name", "changes", "data", "metric")),
    Column("mean", "mean +- deviation", number("mean", "deviation"), right=True),
    Column("lowest", text=number("lowest"), right=True),
    Column("highest", text=number("highest"), right=True),
    Column("folds", right=True),
    Column("runs", right=True),
)
