"""The outcomes of the runs below a folder, from their results.json, which may be missing, half-written or anything."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.folders import is_locked, short
from tasks.results import MAX_BYTES, RESULTS, SUMS, read_json

MOST = 1e18  # the size of a number that is summed up, drawn and written
SWEEP = "sweep.json"  # in the folder of a sweep: the command that began it
STATUSES = ("finished", "failed", "interrupted", "diverged")
TEXTS = (
    *("task", "model", "data", "experiment", "name", "description", "init_from", "device", "precision", "reason"),
    *("started", "best_checkpoint", "last_checkpoint"),
)
LISTS = ("overrides", "tags")  # of texts
COUNTS = ("parameters", "macs", "epochs", "seconds", "cpu_seconds", "images_per_second")  # 0 or more
NUMBERS = ("objective", "seed")
STAGES = ("test", "val", "samples")  # where a metric was measured, the first that a run has counts
SHARES = (
    *("accuracy", "high_quality", "nearest_neighbour_accuracy"),
    *("nearest_neighbour_accuracy_real", "nearest_neighbour_accuracy_fake"),
)
TRAINING = ("train", "claim")  # tasks whose runs can be resumed
WITHOUT_NET = (
    "leaderboard",
    "runs",
    "fetch",
    "claims",
    "records",
)  # tasks that build nothing, and so wait for no framework
USED_BY = {  # what only some tasks use, of the keys that belong to none
    "compile": ("train", "claim", "benchmark"),
    "init_from": ("train", "claim", "find_lr"),
    "input": ("predict", "explain"),
}
WITHOUT_MODEL = (*WITHOUT_NET, "ensemble")  # tasks that `model=` and `data=` say nothing of
METRICS = (*SHARES, "fid", "fid_floor", "fid_relative", "modes", "modes_kl")  # that a table of results needs

Record = dict[str, Any]


def collect(folder: Path, every_task: bool = False) -> list[Record]:
    """The records of the training runs below a folder, with `every_task` of all runs there.

    A run whose results.json is missing has a record too, of status "killed", or "running" while a process writes into
    its folder, and one whose results.json cannot be used of status "unknown", with the reason.
    """
    records = [read_run(run) for run in run_folders(folder)]
    return [record for record in records if every_task or record["task"] == "train"]


def existing(runs: str) -> Path:
    """The folder `task.runs`.

    Raises:
        ValueError: there is none.
    """
    if not Path(runs).is_dir():
        raise ValueError(f"task.runs={runs}: no such folder")
    return Path(runs)


def select(runs: str, records: list[Record], **wanted: str | None) -> list[Record]:
    """The records, of the folder `runs`, with these values; a tag is one of several that a run may have.

    Raises:
        ValueError: there is none; says which values there are.
    """
    if not records:
        raise ValueError(f"task.runs={runs}: no run is there")
    for key, value in wanted.items():
        if value is None:
            continue
        found = {id(record): record.get("tags") or [] if key == "tag" else [record.get(key)] for record in records}
        known = sorted({str(text) for texts in found.values() for text in texts if text})
        records = [record for record in records if value in found[id(record)]]
        if not records:
            raise ValueError(f"task.{key}={value}: no such run; there are {', '.join(known[:20]) or 'none with any'}")
    return records


def run_folders(folder: Path) -> Iterator[Path]:
    """Folders with the config of a run that began, or with the record of one that was refused before."""
    begun = {config.parent.parent for config in folder.rglob(".hydra/overrides.yaml")}
    records = {record.parent for record in folder.rglob(RESULTS) if not (record.parent / SUMS).is_file()}  # of a net
    yield from sorted(begun | records)


def read_run(folder: Path) -> Record:
    """The record of one run; `folder` in it is where the run lies now."""
    overrides = read_overrides(folder / ".hydra" / "overrides.yaml")
    typed = {key: value for key, equals, value in (text.partition("=") for text in overrides) if equals}
    known: Record = {key: typed[key] for key in ("model", "data", "name", "seed") if key in typed}
    if not (folder / RESULTS).exists():
        known = read_choices(folder / ".hydra" / "config.yaml") | known
    otherwise = {"task": typed.get("task", "train"), "overrides": overrides, **known}
    try:
        record = read_json(folder / RESULTS)
        check_record(record)
        record = otherwise | record
    except FileNotFoundError:
        if is_running(folder):
            record = otherwise | {"status": "running", "reason": "a process is writing into it"}
        else:
            record = otherwise | {"status": "killed", "reason": "no results.json: killed, or the computer stopped"}
    except ValueError as error:
        reason = f"results.json: {str(error).removeprefix(f'{folder / RESULTS}: ')}"
        record = otherwise | {"status": "unknown", "reason": reason}
    return record | {"folder": short(folder.absolute())}


def read_choices(path: Path) -> Record:
    """Model and data of a run that has no record, by its config; what is there of them."""
    try:
        is_readable = path.is_file() and path.stat().st_size <= MAX_BYTES
        text = path.read_text(errors="replace") if is_readable else ""
    except OSError:
        text = ""
    block = re.search(r"^choices:\n((?:  .*\n)+)", text, re.MULTILINE)
    return dict(re.findall(r"^  (model|data): ([\w/]+)$", block[1], re.MULTILINE)) if block else {}


def is_running(folder: Path) -> bool:
    """Whether a process is writing into a run's folder; False also where nobody may try."""
    lock = folder / ".lock"
    try:
        return lock.is_file() and not lock.is_symlink() and is_locked(folder)
    except OSError:
        return False


def read_sweep(folder: Path) -> dict[str, Any]:
    """What is recorded of a sweep.

    Raises:
        ValueError: the file is damaged, or not of a sweep.
    """
    path = folder / SWEEP
    try:
        record = read_json(path)
        lists = [record["overrides"], record["shared"]]
        if all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
            return {"sweeper": None} | record
    except (ValueError, LookupError, TypeError):
        pass
    raise ValueError(f"{path}: is damaged, or not of a sweep: begin a new one, without hydra.sweep.dir")


def read_overrides(path: Path) -> list[str]:
    """The command line's changes as Hydra keeps them, a YAML list of words; empty where it is none."""
    try:
        is_readable = path.is_file() and path.stat().st_size <= MAX_BYTES
        lines = path.read_text(errors="replace").splitlines() if is_readable else []
    except OSError:
        lines = []
    texts = (line.removeprefix("- ").strip() for line in lines if line.startswith("- "))
    return [text.strip("'") if text.startswith("'") else text for text in texts]


def check_record(record: Any) -> None:
    """Refuses what a run would not write, or a table of results could not show.

    Raises:
        ValueError: says what.

    >>> check_record({"status": "finished", "val/accuracy": "nan"})
    Traceback (most recent call last):
    ValueError: val/accuracy should be a number from 0 to 1, got 'nan'
    """
    if not isinstance(record, dict):
        raise ValueError("is not a dictionary")
    if record.get("status") not in STATUSES:
        refuse("status", record, f"one of {', '.join(STATUSES)}")
    for key in TEXTS:
        if not isinstance(record.get(key), str | None) or (key == "task" and record.get(key, "") is None):
            refuse(key, record, "text")
    for key in LISTS:
        texts = record.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            refuse(key, record, "a list of texts")
    for key in {*COUNTS, *NUMBERS} & record.keys():
        if record[key] is not None and not is_number(record[key], 0 if key in COUNTS else -MOST):
            refuse(key, record, "a number" if key in NUMBERS else "a number of 0 or more")
    if record["status"] == "finished":
        for key in record:
            check_metric(key, record)


def check_metric(key: str, record: Record) -> None:
    stage, _, name = key.partition("/")
    if stage in STAGES and name in METRICS:
        share = name in SHARES
        if not is_number(record[key], 0 if share else -MOST, 1 if share else MOST):
            refuse(key, record, "a number from 0 to 1" if share else "a number")


def is_number(value: Any, least: float = -MOST, most: float = MOST) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) and least <= value <= most
    except OverflowError:  # an integer beyond what a float holds
        return False


def refuse(key: str, record: Record, allowed: str) -> None:
    raise ValueError(f"{key} should be {allowed}, got {repr(record.get(key))[:60]}")
