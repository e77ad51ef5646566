"""The rows of the leaderboard: runs that differ in nothing but their seed share one."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from tasks.metrics import best_of
from tasks.run_records import METRICS, STAGES, Record
from tasks.tables import Row, deviation, mean

WITH_DEVIATION = tuple(name for name in METRICS if not name.endswith("_floor"))
NAMES = ("model", "data", "name", "changes", "device")  # what makes runs of one kind
UNFINISHED = ("status", "reason")
IGNORED_OVERRIDES = (  # nothing of the run itself, or in another column
    *("model=", "data=", "seed=", "experiment=", "name=", "tags=", "description=", "hydra", "trainer.accelerator="),
    *("[]", "~callbacks.progress_bar"),
)


def make_rows(records: list[Record]) -> list[Row]:
    """One row per kind of run, over its seeds, the best of each data set first; then one per unfinished run."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    others: list[Row] = []
    common = set.intersection(*(set(record["overrides"]) for record in records)) if records else set()
    for record in records:
        model, data, name = (record.get(key) or "" for key in NAMES[:3])
        names = (model or Path(record["folder"]).name, data, name, list_changes(record, common))
        if record["status"] == "finished":
            groups[*names, record.get("device") or ""].append(record)
        else:
            row = dict(zip(NAMES, names, strict=False)) | {"seeds": record.get("seed", ""), "folder": record["folder"]}
            others.append(row | {"tags": tags_of([record])} | {key: record.get(key) or "" for key in UNFINISHED})
    rows = [summarize(names, group) for names, group in groups.items()]
    return [*sorted(rows, key=rank), *others]


def rank(row: Row) -> tuple[Any, ...]:
    """By data set; then the highest accuracy, the most modes or the lowest FID first."""
    return row["data"], -(row["accuracy"] or row["modes"] or 0.0), row["fid"] or 0.0, row["model"]


def list_changes(record: Record, common: set[str]) -> str:
    """What tells a run from others of the same model and data: its experiment and its overrides, without the seed."""
    resumed = ("ckpt_path=",) if record["task"] == "train" else ()  # the same run went on
    ignored = (*IGNORED_OVERRIDES, *resumed)
    kept = [text for text in record["overrides"] if text not in common and not text.startswith(ignored)]
    return " ".join(([record["experiment"]] if record.get("experiment") else []) + kept)


def summarize(names: tuple[str, ...], group: list[Record]) -> dict[str, Any]:
    """The row of one kind of run: means over its seeds, and standard deviations (n - 1)."""
    tags, group = tags_of(group), latest_per_seed(group)
    first, best = group[0], best_of(group)
    row: dict[str, Any] = dict(zip(NAMES, names, strict=True)) | {"tags": tags}
    row |= {"status": "finished", "reason": "", "folder": best["folder"], "checkpoint": checkpoint_of(best)}
    row |= {key: first.get(key) for key in ("parameters", "macs", "epochs", "precision")}
    row |= {"seeds": len(group), "measured_on": measured_on(first)}
    row |= {key: mean(values(group, key)) for key in ("seconds", "cpu_seconds", "images_per_second")}
    for name in METRICS:
        numbers = values(group, *(f"{stage}/{name}" for stage in STAGES))
        row |= {name: mean(numbers), f"{name}_sd": deviation(numbers)}
    return row


def latest_per_seed(group: list[Record]) -> list[Record]:
    """One record per seed: a run that was repeated must not count twice in a mean."""
    ordered = sorted(group, key=lambda record: record.get("started") or "")
    return list({record.get("seed"): record for record in ordered}.values())


def tags_of(group: list[Record]) -> str:
    return " ".join(dict.fromkeys(tag for record in group for tag in record.get("tags") or ()))


def checkpoint_of(record: Record) -> str:
    """The best checkpoint of a run where the run lies now, if it is there."""
    path = Path(record["folder"], "checkpoints", Path(record.get("best_checkpoint") or "none").name)
    return str(path) if os.path.isfile(path) else ""  # also where the name is longer than any file's


def values(group: list[Record], *keys: str) -> list[float]:
    """The numbers under the first of the keys that any of the records has."""
    key = next((key for key in keys if any(record.get(key) is not None for record in group)), "")
    return [record[key] for record in group if record.get(key) is not None]


def measured_on(record: Record) -> str:
    """The images behind a record's metrics: "test", "validation", or none of a set that has no such split."""
    stage = next((stage for stage in STAGES if any(f"{stage}/{name}" in record for name in METRICS)), "samples")
    return {"test": "test", "val": "validation", "samples": ""}[stage]


def finished(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "finished"]


def unfinished(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] != "finished"]
