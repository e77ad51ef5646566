"""The published records of runs, a folder for each seed of an experiment on a data set: results, config and curves."""

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.contract import Index
from tasks.annotations import fault_of
from tasks.config import CONF, as_override, compose
from tasks.folders import short
from tasks.machine import Line, Machine
from tasks.prepare import prepare
from tasks.results import MAX_BYTES, RESULTS, atomic_writer, rounded
from tasks.run_records import Record, collect, read_run
from tasks.runs_compare import Curve, read_curves

RECORDS = Path("published", "runs")  # EXPERIMENT/DATA/seed-N/
CONFIG, CURVES = "config.json", "curves.csv"
HEADER = ("curve", "step", "value")
LEFT_OUT = ("folder", "best_checkpoint", "last_checkpoint", "started", "name", "tags", "description", "init_from")
NOT_COMPARED = (
    "trainer",
    "callbacks",
    "choices",
    "seed",
    "name",
    "tags",
    "description",
    "compile",
)  # parts of a config
MAX_POINTS = 400  # of a curve
KEPT = ("val/", "train/loss")  # curves


class Group(NamedTuple):
    """The published runs of one command: they differ in their seeds alone."""

    experiment: str
    data: str
    runs: list[Record]  # with "config" and "curves"

    @property
    def overrides(self) -> list[str]:
        """What the command changes, without the seed and the kind of processor."""
        return without_seed(self.runs[0]["overrides"])


def runs_of(path: str) -> list[Record]:
    """The finished runs of experiments below a folder.

    Raises:
        ValueError: there is none.
    """
    if not Path(path).is_dir():
        raise ValueError(f"task.add={path}: no such folder")
    found = [run for run in collect(Path(path)) if run["status"] == "finished" and run.get("experiment")]
    if not found:
        raise ValueError(f"task.add={path}: no finished run of an experiment is there")
    return found


def check_publishable(record: Record, root: Path) -> None:
    """Refuses a run of which a reader could not tell how it came about.

    Raises:
        ValueError: says of which run, and why.
    """
    where = record["folder"]
    if fault := fault_of(record.get("seed"), Index):
        raise ValueError(f"{where}: its seed {fault}")
    if fault := fault_of(record.get("machine"), Machine):
        raise ValueError(f"{where}: its results.json does not say on what it ran (machine {fault})")
    commit = record["machine"]["commit"]
    if commit is None or commit.endswith("-dirty"):
        raise ValueError(f"{where}: ran with files that are in no commit ({commit}): commit them and run it again")
    if not (CONF / "experiment" / f"{record['experiment']}.yaml").is_file():
        raise ValueError(f"{where}: {record['experiment']} is no experiment of conf/experiment")
    if fault := fault_of(record["overrides"], list[Line]):
        raise ValueError(f"{where}: its overrides {fault}")
    target = place(record, root).parent
    others = [read_run(run) for run in sorted(target.glob("seed-*"))]
    if any(set(without_seed(other["overrides"])) != set(without_seed(shared(record))) for other in others):
        raise ValueError(f"{where}: {short(target)} has runs of another command: remove that folder, or leave this one")
    if not any(key.startswith("test/") for key in record):
        raise ValueError(f"{where}: nothing was measured on test images, of which {record['data']} has none")
    checkpoint_config(record)


def place(record: Record, root: Path) -> Path:
    """Where a run's record belongs; the names are those of files of conf/, or refused before."""
    names = [str(record[key]) for key in ("experiment", "data")]
    if any(not re.fullmatch(r"\w+(/\w+)?", name) for name in names):
        raise ValueError(f"{record['folder']}: {'/'.join(names)} is no experiment and data set of conf/")
    return root / RECORDS / names[0] / names[1] / f"seed-{record['seed']}"


def shared(record: Record) -> list[str]:
    """The overrides of a run that say what it computes, without paths of its machine."""
    ignored = ("data.root=", "hydra", "name=", "tags=", "description=", "ckpt_path=", "~callbacks.progress_bar")
    return [text for text in record["overrides"] if not text.startswith(ignored)]


def without_seed(overrides: Iterable[str]) -> list[str]:
    """
    >>> without_seed(["seed=1", "experiment=lenet_mnist", "data.seed=1"])
    ['experiment=lenet_mnist', 'data.seed=1']
    """
    return [text for text in overrides if not text.startswith(("seed=", "trainer.accelerator="))]


def checkpoint_config(record: Record) -> dict[str, Any]:
    """The config of a run as its checkpoint has it: plain values, no paths.

    Raises:
        ValueError: the run left no checkpoint, or one that cannot be used.
    """
    from tasks.checkpoint import read_checkpoint

    last = Path(record["folder"], "checkpoints", "last.ckpt")
    if not last.is_file():
        raise ValueError(f"{record['folder']}: has no checkpoints/last.ckpt, from which its config is taken")
    config: dict[str, Any] = read_checkpoint(last)["config"]
    return config


def publish(record: Record, root: Path) -> None:
    """Writes record, config and curves of a run into published/runs below `root`."""
    target = place(record, root)
    target.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in record.items() if key not in LEFT_OUT and not isinstance(value, Path)}
    results = rounded(kept | {"overrides": shared(record)})
    for name, content in {RESULTS: results, CONFIG: checkpoint_config(record)}.items():
        with atomic_writer(target / name) as file:
            file.write(json.dumps(content, indent=1) + "\n")
    with atomic_writer(target / CURVES) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, curve in read_curves(Path(record["folder"])).items():
            if name.startswith(KEPT):
                points = curve[:: -(-len(curve) // MAX_POINTS)]
                writer.writerows((name, f"{step:.0f}", f"{value:.6g}") for step, value in points)


def published_groups(root: Path) -> list[Group]:
    """All published runs below `root`, by experiment and data set.

    Raises:
        ValueError: a record is damaged.
    """
    groups: dict[tuple[str, str], Group] = {}
    for path in sorted((root / RECORDS).rglob(RESULTS)):
        record = read_run(path.parent)
        if record["status"] != "finished":
            raise ValueError(f"{path}: {record.get('reason', record['status'])}")
        if fault := fault_of(record.get("machine"), Machine):
            raise ValueError(f"{path}: machine {fault}")
        record |= {"config": read_config(path.with_name(CONFIG)), "curves": read_published_curves(path.parent)}
        key = str(record["experiment"]), str(record["data"])
        groups.setdefault(key, Group(*key, [])).runs.append(record)
    return list(groups.values())


def read_config(path: Path) -> dict[str, Any]:
    """
    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        config = json.loads(path.read_bytes()[:MAX_BYTES])
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(part), dict) for part in ("model", "data")):
        raise ValueError(f"{path}: holds no config")
    return config


def read_published_curves(folder: Path) -> dict[str, Curve]:
    """The curves of a published run by their names.

    Raises:
        ValueError: the file is missing or damaged.
    """
    curves: dict[str, Curve] = {}
    try:
        with open(folder / CURVES, newline="") as file:
            header, *lines = csv.reader(file)
        if tuple(header) != HEADER:
            raise ValueError("no curves")
        for name, step, value in lines:
            curves.setdefault(name, []).append((float(step), float(value)))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{folder / CURVES}: cannot be read ({error})") from error
    return curves


def is_stale(group: Group) -> bool:
    """Whether the command of a group composes to another model, data set or evaluation now than when it was run."""
    from tasks.checkpoint import plain_config

    cfg = prepare(compose([*map(as_override, group.runs[0]["overrides"])]))
    return compared(plain_config(cfg)) != compared(group.runs[0]["config"])


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that decides what is computed."""
    parts = {key: value for key, value in config.items() if key not in NOT_COMPARED}
    trainer = config.get("trainer", {})
    budget = {key: trainer.get(key) for key in ("max_epochs", "max_steps", "precision", "gradient_clip_val")}
    return json.loads(json.dumps(parts | {"trainer": budget}))
