"""The published records of runs, a folder for each seed of an experiment on a data set: results, config and curves."""

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from datamodules.contract import Index
from tasks.annotations import fault_of
from tasks.checkpoint import read_checkpoint
from tasks.folders import short
from tasks.machine import Line, Machine, fault_of_commit
from tasks.messages import MISTAKES, message_of
from tasks.overrides import CONF
from tasks.publish import without_paths
from tasks.results import RESULTS, atomic_writer, read_json, rounded
from tasks.run_records import COUNTS, METRICS, Record, collect, is_number, read_run
from tasks.runs_compare import Curve, read_curves
from tasks.saved_config import plain_config
from tasks.small_data_report import PART_FACTS, is_alike, is_part
from tasks.stale import compared, composed
from tasks.untrusted import check_plain

RECORDS = Path("published", "runs")  # EXPERIMENT/[MODEL/]DATA/[AUGMENTATION/]seed-N/
PARTS = Path("published", "small_data")  # of that task: PER_CLASS/seed-N/
AUGMENT = "data/augment"
CONFIG, CURVES = "config.json", "curves.csv"
HEADER = ("curve", "step", "value")
FACTS = ("status", "task", "model", "data", "experiment", "seed", "device", "precision", "machine", *COUNTS)
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

    @property
    def is_stale(self) -> bool:
        """Whether the command composes to other values now than those that one of the runs had."""
        now = compared(plain_config(recompose(self.runs[0]["folder"], self.runs[0]["overrides"])))
        return any(compared(run["config"]) != now for run in self.runs)


def runs_of(path: str) -> list[Record]:
    """The finished runs of experiments below a folder; says how many others are there.

    Raises:
        ValueError: there is none.
    """
    if not Path(path).is_dir():
        raise ValueError(f"task.add={path}: no such folder")
    runs = [run for run in collect(Path(path), every_task=True) if run["task"] in ("train", "small_data")]
    found = [run for run in runs if run["status"] == "finished" and run.get("experiment")]
    if not found:
        raise ValueError(f"task.add={path}: no finished run of an experiment is there")
    if left := len(runs) - len(found):
        print(f"left out     {left} of {len(runs)} runs in {path}: not finished, damaged, or of no experiment")
    return found


def check_publishable(records: Iterable[Record], root: Path) -> None:
    """Refuses runs of which a reader could not tell how they came about, or that differ in more than the seed.

    Raises:
        ValueError: says of which run, and why.
    """
    same: dict[Path, tuple[set[str], dict[str, Any], str]] = {}  # command, config and kind of device of a group
    taken: dict[Path, str] = {}
    for record in records:
        where = record["folder"]
        check_facts(record)
        if not any(f"test/{name}" in record for name in METRICS):
            raise ValueError(f"{where}: nothing was measured on test images, of which {record['data']} has none")
        checkpoint = checkpoint_without_files(record)
        read_curves(Path(where))
        recompose(where, shared(record))
        target = place(record, root).parent
        if (other := taken.setdefault(place(record, root), where)) != where:
            raise ValueError(f"{where}: {other} has seed {record['seed']} of {short(target)}: leave one of them")
        for path in sorted(target.glob("seed-*")) if target not in same else ():
            there, config = read_run(path), read_config(path / CONFIG)
            check_facts(there)
            same.setdefault(target, ({*without_seed(there["overrides"])}, compared(config), kind_of_device(there)))
        mine = {*without_seed(shared(record))}, compared(checkpoint["config"]), kind_of_device(record)
        if same.setdefault(target, mine) != mine:
            name = f"{short(target)} is of another command, recipe or kind of device"
            raise ValueError(f"{where}: {name}: remove that folder, or leave this run")


def check_same_run(record: Record, checkpoint: Mapping[str, Any]) -> None:
    """Refuses a results.json that is of another run than the checkpoint from which the config is taken.

    Raises:
        ValueError: names the fact that differs.
    """
    choices = checkpoint["config"]["choices"]
    facts = {"seed": checkpoint["config"]["seed"], **{key: choices.get(key) for key in ("model", "data", "experiment")}}
    for key, was in facts.items():
        if record[key] != was:
            message = f"{key}={record[key]} in its results.json and {key}={was} in its last.ckpt: of two runs"
            raise ValueError(f"{record['folder']}: {message}")
    if {*shared(record)} != {text for text in checkpoint["overrides"] if not is_ignored(text)}:
        raise ValueError(f"{record['folder']}: its results.json has other overrides than its last.ckpt: of two runs")


def recompose(where: str, overrides: Iterable[str]) -> DictConfig:
    """What the command of a record composes to now.

    Raises:
        ValueError: it does not; says whose it is.
    """
    try:
        return composed(overrides)
    except MISTAKES as error:
        raise ValueError(f"{where}: its command does not compose here: {message_of(error)[:300]}") from error


def is_on_gpu(record: Record) -> bool:
    """Whether a run was trained on a GPU, which has no core seconds."""
    return "cpu" not in str(record.get("device", "cpu"))


def kind_of_device(record: Record) -> str:
    """What a run's seconds were taken on, for they compare with no others: a GPU, or what a processor can do."""
    return str(record["device"] if is_on_gpu(record) else record["machine"]["capability"])


def check_facts(record: Record) -> None:
    """Refuses a results.json without what a reader has to know, or with names that are no options here."""
    where = record["folder"]
    kinds = {"seed": Index, "machine": Machine, "overrides": list[Line]}
    for key, kind in (kinds | ({"device": Line} if record["task"] == "train" else {})).items():
        if fault := fault_of(record.get(key), kind):
            raise ValueError(f"{where}: {key} in its results.json {fault}")
    for group in ("model", "data", "experiment"):
        name = str(record.get(group))
        if not re.fullmatch(r"\w+(/\w+)?", name) or not (CONF / group / f"{name}.yaml").is_file():
            raise ValueError(f"{where}: {group}={name} is no option of conf/{group}")
    if not all((CONF / AUGMENT / f"{name}.yaml").is_file() and re.fullmatch(r"\w+", name) for name in augments(record)):
        raise ValueError(f"{where}: an override in its results.json is no option of conf/{AUGMENT}")
    if fault := fault_of_commit(record["machine"]):
        raise ValueError(f"{where}: {fault}")
    if "commits" in record:
        raise ValueError(f"{where}: was trained by several commits, after it had been resumed: run it again by one")


def augments(record: Record) -> list[str]:
    """The augmentations that a run's command chooses, of which the last one counts."""
    return [text.partition("=")[2] for text in record["overrides"] if text.startswith(f"{AUGMENT}=")]


def place(record: Record, root: Path) -> Path:
    """Where a run's record belongs: each augmentation that a command chooses has a folder of its own."""
    return place_of_recipe(record, root).joinpath(*augments(record)[-1:], f"seed-{record['seed']}")


def place_of_recipe(record: Record, root: Path) -> Path:
    """Where all runs of a recipe on a data set belong; each model that a command chooses has a folder of its own."""
    chosen = record["model"] if f"model={record['model']}" in record["overrides"] else ""
    return root / RECORDS / record["experiment"] / chosen / record["data"]


def is_ignored(text: str) -> bool:
    """Whether an override says nothing of what a run computes."""
    ignored = ("data.root=", "hydra", "name=", "tags=", "description=", "ckpt_path=", "~callbacks.progress_bar")
    return text.startswith(ignored)


def shared(record: Record) -> list[str]:
    """The overrides of a run that say what it computes."""
    return [text for text in record["overrides"] if not is_ignored(text)]


def without_seed(overrides: Iterable[str]) -> list[str]:
    """
    >>> without_seed(["seed=1", "experiment=lenet_mnist", "data.seed=1"])
    ['experiment=lenet_mnist', 'data.seed=1']
    """
    return [text for text in overrides if not text.startswith(("seed=", "trainer.accelerator="))]


def checkpoint_without_files(record: Record) -> dict[str, Any]:
    """The last checkpoint of a run that anyone can repeat.

    Raises:
        ValueError: there is none that can be used, or it is of another run, or one that read a file of this machine.
    """
    checkpoint = checkpoint_of(record)
    lost = {*checkpoint["overrides"]} - {*without_paths(checkpoint)}
    if files := [text for text in lost if not is_ignored(text)]:
        raise ValueError(f"{record['folder']}: {files[0]} is a file of this machine, which no reader has")
    check_same_run(record, checkpoint)
    return checkpoint


def checkpoint_of(record: Record) -> dict[str, Any]:
    """The last checkpoint of a run.

    Raises:
        ValueError: there is none, or one that cannot be used.
    """
    last = Path(record["folder"], "checkpoints", "last.ckpt")
    if not last.is_file():
        raise ValueError(f"{record['folder']}: has no checkpoints/last.ckpt, from which its config is taken")
    return read_checkpoint(last)


def publish(record: Record, root: Path) -> None:
    """Writes config, curves and record of a run into published/runs below `root`; the last makes it one."""
    config, curves = checkpoint_of(record)["config"], read_curves(Path(record["folder"]))  # before anything is written
    target = place(record, root)
    target.mkdir(parents=True, exist_ok=True)
    with atomic_writer(target / CONFIG) as file:
        file.write(json.dumps(config, indent=1) + "\n")
    with atomic_writer(target / CURVES) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, curve in curves.items():
            if name.startswith(KEPT):
                points = curve[:: -(-len(curve) // MAX_POINTS)]
                writer.writerows((name, f"{step:.0f}", f"{value:.6g}") for step, value in points)
    kept = {key: value for key, value in record.items() if key in FACTS or ("/" in key and is_number(value))}
    with atomic_writer(target / RESULTS) as file:
        file.write(json.dumps(rounded(kept | {"overrides": shared(record)}), indent=1) + "\n")


def check_parts(records: Iterable[Record], root: Path) -> None:
    """Refuses runs of task=small_data that would not stand in one table with each other and those that are published.

    Raises:
        ValueError: says which, and why.
    """
    alike, places = published_parts(root), set[Path]()
    for record in records:
        check_facts(record)
        if not is_part(record) or not is_alike([record, *alike]):
            raise ValueError(
                f"{record['folder']}: is not comparable with runs in {PARTS} or beside it: leave one of them"
            )
        if place_of_part(record, root) in places:
            raise ValueError(f"{record['folder']}: another run has its task.per_class and seed: leave one of them")
        alike.append(record)
        places.add(place_of_part(record, root))


def place_of_part(record: Record, root: Path) -> Path:
    return root / PARTS / f"{record['per_class']:.0f}" / f"seed-{record['seed']}"


def publish_part(record: Record, root: Path) -> None:
    """Writes the record of a run of task=small_data, which leaves nothing else, into published/small_data."""
    target = place_of_part(record, root)
    target.mkdir(parents=True, exist_ok=True)
    kept = {key: record[key] for key in (*FACTS, *PART_FACTS) if key in record}
    with atomic_writer(target / RESULTS) as file:
        file.write(json.dumps(rounded(kept | {"overrides": shared(record)}), indent=1) + "\n")


def published_parts(root: Path) -> list[Record]:
    """The published runs of task=small_data.

    Raises:
        ValueError: a record is damaged.
    """
    parts = [read_run(path.parent) for path in sorted((root / PARTS).rglob(RESULTS))]
    for part in parts:
        check_facts(part)
        if not is_part(part):
            raise ValueError(f"{part['folder']}/{RESULTS}: is not the record of a run of task=small_data")
    return parts


def published_groups(root: Path) -> list[Group]:
    """All published runs below `root`, by experiment, model and data set.

    Raises:
        ValueError: a record is damaged.
    """
    groups: dict[Path, Group] = {}
    for path in sorted((root / RECORDS).rglob(RESULTS)):
        record = read_run(path.parent)
        if record["status"] != "finished":
            raise ValueError(f"{path}: {record.get('reason', record['status'])}")
        check_facts(record)
        if place(record, root) != path.parent:
            raise ValueError(f"{path}: is of another experiment, model, data set or seed than its folder says")
        record |= {"config": read_config(path.with_name(CONFIG)), "curves": read_published_curves(path.parent)}
        group = groups.setdefault(path.parent.parent, Group(str(record["experiment"]), str(record["data"]), []))
        group.runs.append(record)
        if kind_of_device(record) != kind_of_device(group.runs[0]):
            raise ValueError(f"{path}: different kinds of devices have computed runs of one folder")
    return list(groups.values())


def read_config(path: Path) -> dict[str, Any]:
    """
    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    check_config_of_run(config, str(path))
    return config


def check_config_of_run(config: Any, where: str) -> None:
    """Refuses what is not the plain config of a run, or the part of one that `compared` keeps.

    Raises:
        ValueError: it holds none.
    """
    parts: dict[str, Any] = {} if not isinstance(config, dict) else {"trainer": {}, "callbacks": {}} | config
    if not all(isinstance(parts.get(part), dict) for part in ("model", "data", "trainer", "callbacks")):
        raise ValueError(f"{where}: holds no config")
    nodes = (parts["model"].get("network"), parts["data"].get("augment"), *parts["callbacks"].values())
    if not all(isinstance(node, dict | None) for node in nodes):
        raise ValueError(f"{where}: holds no config")
    try:
        check_plain(config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


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
        for name, *point in lines:
            step, value = map(float, point)
            if not (is_number(step) and is_number(value)):
                raise ValueError(f"{name} is not finite")
            curves.setdefault(name, []).append((step, value))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{folder / CURVES}: cannot be read ({error})") from error
    return curves
