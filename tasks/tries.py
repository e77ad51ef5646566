"""What was tried for a recipe: short runs that never saw test images, by what they reached on validation images."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from datamodules.contract import STRICT, Index, Positive
from tasks.annotations import fault_of
from tasks.machine import Line, Machine
from tasks.messages import command
from tasks.results import MAX_BYTES, atomic_writer, rounded
from tasks.run_records import Record
from tasks.tables import Column, Table

TRIES = "tries.json"  # in published/runs/EXPERIMENT/DATA
UNTESTED = "trainer.limit_test_batches=0"  # what makes a run a try
SCORES = {
    "val/accuracy": (max, lambda value: f"{100 * value:.2f} %"),
    "val/fid": (min, lambda value: f"FID {value:.3g}"),
}


@with_config(STRICT)
class Try(TypedDict):
    """A run of a recipe on its way."""

    overrides: list[Line]
    seed: Index
    metric: Line
    value: float
    cpu_seconds: NotRequired[Positive]
    machine: Machine


class Tries(NamedTuple):
    """All that was tried for one recipe on one data set."""

    experiment: str
    data: str
    runs: Sequence[Try]


def is_try(record: Record) -> bool:
    """Whether a run was told to leave the test images alone."""
    return UNTESTED in record["overrides"]


def as_try(record: Record, overrides: list[str]) -> Try:
    """What is kept of a run that has `overrides`.

    Raises:
        ValueError: it has no score on validation images, or has seen test images.
    """
    metric = next((name for name in SCORES if name in record), None)
    if metric is None or any(key.startswith("test/") for key in record):
        raise ValueError(f"{record['folder']}: a try needs one of {', '.join(SCORES)} and no score of test images")
    kept = {key: record[key] for key in ("seed", "cpu_seconds", "machine") if key in record}
    made: Any = {"overrides": overrides, "metric": metric, "value": record[metric], **kept}
    return made


def add_tries(folder: Path, tries: Iterable[Try]) -> None:
    """Puts tries beside those of their recipe in `folder`; one that is made again takes its place."""
    file = folder / TRIES
    same = {(*one["overrides"], one["seed"]): one for one in [*(read_tries(file) if file.exists() else ()), *tries]}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_writer(file) as stream:
        stream.write(json.dumps([rounded(dict(one)) for one in same.values()], indent=1) + "\n")


def read_tries(file: Path) -> list[Try]:
    """
    Raises:
        ValueError: the file is damaged.
    """
    try:
        tries: list[Try] = json.loads(file.read_bytes()[:MAX_BYTES])
        fault = fault_of(tries, list[Try])
    except (OSError, ValueError, RecursionError) as error:
        fault = " ".join(str(error).split())
    metrics = set() if fault else {one["metric"] for one in tries}
    if len(metrics) != 1 or not metrics <= SCORES.keys():
        raise ValueError(f"{file}: holds no tries ({fault or 'by one score of validation images'})")
    return tries


def published_tries(records: Path) -> list[Tries]:
    """The tries below published/runs, by experiment and data set."""
    found = []
    for file in sorted(records.rglob(TRIES)):
        experiment, data = file.parent.parent.relative_to(records).as_posix(), file.parent.name
        found.append(Tries(experiment, data, read_tries(file)))
    return found


def tries_table(tries: Iterable[Tries], titles: Mapping[str, str]) -> Table:
    """A row for each recipe: what the best try changed, the score of each, and the commands that repeat them.

    Args:
        titles: of the data sets that readers know by another name.
    """
    rows = []
    for one in tries:
        shared = [part for part in one.runs[0]["overrides"] if all(part in run["overrides"] for run in one.runs)]
        changed = [[part for part in run["overrides"] if part not in shared] for run in one.runs]
        names = [", ".join(re.sub(r"^[^=]*\.", "", part) for part in parts) or "as it is" for parts in changed]
        best, text = SCORES[one.runs[0]["metric"]]
        values = [run["value"] for run in one.runs]
        row = {
            "net": one.experiment.split("/")[-1],
            "data": titles.get(one.data, one.data),
            "best": names[values.index(best(values))],
            "tried": "; ".join(f"{name}: {text(value)}" for name, value in zip(names, values, strict=True)),
            "seconds": round(sum(run.get("cpu_seconds", 0.0) for run in one.runs)),
            "commands": commands(shared, changed),
        }
        rows.append(row)
    return Table(COLUMNS, rows)


def commands(shared: Sequence[str], changed: Sequence[Sequence[str]]) -> list[str]:
    """One command of a sweep where one key was changed, or one for each try.

    >>> commands(["model=vgg"], [["seed=0"], ["seed=1"]])
    ['python run.py -m model=vgg seed=0,1']
    """
    keys = {part.partition("=")[0] for parts in changed for part in parts}
    if len(changed) > 1 and len(keys) == 1 and all(changed):
        [key] = keys
        values = ",".join(part.partition("=")[2] for [part] in changed)
        return [command(*shared, f"{key}={values}", multirun=True)]
    return [command(*shared, *parts) for parts in changed]


COLUMNS = (
    *(Column("net"), Column("data"), Column("best"), Column("tried", "reached on validation images")),
    Column("seconds", "core seconds", right=True),
)
