"""task=runs: a list of all runs, two of them side by side, and the end of those that failed."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig
from pydantic import Field

from datamodules.contract import LocalPath
from tasks import folders
from tasks.config import ConfigError
from tasks.leaderboard_rows import list_changes, summarize, tags_of
from tasks.results import RESULTS, is_temporary
from tasks.run_records import WITHOUT_NET, Record, collect, existing, select
from tasks.tables import Column, Row, Table, format_number, one_line

TwoFolders = Annotated[list[LocalPath], Field(min_length=2, max_length=2)]
Deleted = Literal["failed", "diverged", "interrupted", "killed"]
# What runs write. A file of another name is a person's, and so is one that was changed after the run had ended.
WRITTEN = re.compile(
    r"(first/)?("  # the net from which a claim's arm starts is trained there
    r"results\.json|\.lock|\.hydra/(config|overrides)\.yaml|checkpoints/[^/]+\.ckpt|hparams\.yaml|"
    r"events\.out\.tfevents\.[^/]+|csv_\d+/(metrics\.csv|hparams\.yaml)|projector_config\.pbtxt|"
    r"mlruns/(\d+/)?(meta\.yaml|[0-9a-f]{32}/(meta\.yaml|(metrics|params|tags|artifacts)/.+))|"
    r"wandb/(debug(-internal)?\.log|(offline-)?run-\w+-\w+/.+)|[\w\-]+-profile(-\d+)?\.txt|"
    r"\d+/[\w.%\-]+/(tensors\.tsv|metadata\.tsv|sprite\.png)|"
    r"(leaderboard|comparison|benchmark|summary|predictions|small_data|ensemble|find_lr)\.(csv|md)|"
    r"(leaderboard|comparison|predictions|small_data|generated|find_lr|samples_\w+)\.png|net\.(onnx|pt2)|samples\.gif|"
    r"(interpolations|nearest_neighbours|real_and_generated|filters|feature_maps|occlusion|attributions)\.png|"
    r"excites_\d+_[\w.]+\.png|explain\.html|samples/step_\d+\.png|"
    r"\.(generated|net)\.[\w.]*part(/.+)?|\.fake-\w+/.+|\.lr_find_[\w\-]+\.ckpt|"  # what a killed one left
    r"generated(\.csv|\.json|/(MNIST/raw/)?[\w\-]+-idx\d-ubyte(\.gz)?|/[\w/ \-]+\.png)|"
    r"net/(weights\.safetensors|config\.json|results\.json|SHA256SUMS)"
    r")"
)
TOUCHED_LATER = re.compile(r"\.lock|events\.out\.tfevents\..+")  # by libraries, as the process ends
SECONDS = 5  # within which the last files of a run are written
# A file in each of the folders that runs write into: one that is empty and could hold none of them is a person's.
EXAMPLES = (
    *("results.json", "config.yaml", "last.ckpt", "metrics.csv", "step_1.png", "weights.safetensors", "meta.yaml"),
    *("metrics/loss", "run-1-a/x", "x", "x.png", "MNIST/raw/x-idx1-ubyte", "x/sprite.png", "sprite.png"),
)


def runs(
    cfg: DictConfig,
    folder: Path,
    runs: str,
    model: str | None,
    data: str | None,
    tag: str | None,
    compare: TwoFolders | None,
    delete: Deleted | None,
    yes: bool,
) -> dict[str, Any]:
    """task=runs: lists the runs below a folder, compares two, or deletes those that did not finish.

    Args:
        cfg: the config of the task.
        folder: the task's own, for a comparison; a list leaves none.
        runs: a folder.
        model: only runs of this model.
        data: only runs on this data set.
        tag: only runs with this tag.
        compare: the folders of two runs.
        delete: how a run ended that is to be deleted.
        yes: deletes without asking.

    Raises:
        ValueError: there is no such folder, or no such run in it; or nobody can be asked.
    """
    if compare is not None and delete is not None:
        raise ConfigError("task.delete", "compares nothing: give task.compare or task.delete", delete)
    if compare is not None:
        from tasks.runs_compare import compare_runs

        return compare_runs(Path(compare[0]), Path(compare[1]), folder)
    found = [record for record in collect(existing(runs), every_task=True) if record["task"] not in WITHOUT_NET]
    records = select(runs, found, model=model, data=data, tag=tag)
    if delete is not None:
        delete_runs([record for record in records if record["status"] == delete], delete, yes)
    else:
        Table(LISTED, rows_of(records)).without_empty_columns().print()
    return {}


def rows_of(records: list[Record]) -> list[Row]:
    """One row per run, in the order in which they were started."""
    ordered = sorted(records, key=lambda record: (record.get("started") or "", record["folder"]))
    return [
        record
        | {"tags": tags_of([record]), "changes": list_changes(record, set()), "metrics": metrics_of(record)}
        | {"started": (record.get("started") or "")[:16].replace("T", " ")}
        for record in ordered
    ]


def metrics_of(record: Record) -> str:
    """The few metrics that tell how good a run's net is."""
    if record["status"] != "finished":
        return ""
    row = summarize(("",) * 5, [record])
    texts = {"accuracy": ("{} %", ".2f", 100), "fid": ("FID {}", ".3g", 1), "modes": ("{} modes", ".4g", 1)}
    found = [
        text.format(format_number(scale * row[key], digits))
        for key, (text, digits, scale) in texts.items()
        if row[key] is not None
    ]
    return ", ".join(found) + (" (val)" if found and row["measured_on"] == "validation" else "")


LISTED = (
    Column("started", no_wrap=True, optional=True),
    Column("task", text=lambda row: "" if row["task"] == "train" else row["task"]),
    Column("model"),
    Column("data"),
    Column("name"),
    Column("tags"),
    Column(
        "changes", text=lambda row: re.sub(r"(^| )(model|trainer|callbacks)\.", r"\1", row["changes"]), optional=True
    ),
    Column("status"),
    Column("metrics"),
    Column("folder", no_wrap=True),
)


def delete_runs(records: list[Record], ended: str, yes: bool) -> None:
    """Deletes the folders of runs, of which nothing but files that runs write may be in them.

    Raises:
        ValueError: there is no terminal to ask on.
    """
    faults = {Path(record["folder"]): fault_of(Path(record["folder"])) for record in records}
    chosen = [folder for folder, fault in faults.items() if fault is None]
    for folder, fault in faults.items():
        print(one_line(f"delete       {folder}" if fault is None else f"keep         {folder}: {fault}"))
    if not chosen:
        print(f"Nothing to delete: there is no {ended} run that holds nothing else.")
        return
    if not yes and not (sys.stdin and sys.stdin.isatty()):
        raise ValueError(f"task.delete={ended}: there is no terminal to ask on, add task.yes=true to delete these")
    if not yes and input(f"Delete {len(chosen)} folders? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was deleted.")
        return
    for folder in chosen:
        delete_run(folder)
    print(f"Deleted {len(chosen)}.")


def delete_run(folder: Path) -> None:
    """Removes the files of a run one by one, and the folders that are empty then.

    Raises:
        ValueError: something came up meanwhile.
    """
    if (fault := fault_of(folder)) is not None:
        raise ValueError(f"{folder}: {fault}")
    held = folders.lock(folder)
    try:
        paths = sorted(folder.rglob("*"), reverse=True)
        for path in (path for path in paths if not path.is_dir()):
            path.unlink()
    finally:
        held.release()
    for path in [*(path for path in paths if path.is_dir()), folder]:
        path.rmdir()


def fault_of(folder: Path) -> str | None:
    """Why a folder is not deleted: it is not a run's, or something in it may be a person's."""
    try:
        return strange(folder) or ("a process is writing into it" if folders.is_locked(folder) else None)
    except OSError as error:  # also if files go or come meanwhile
        return str(error)


def strange(folder: Path) -> str | None:
    """What in a folder may be a person's."""
    if folder.is_symlink() or not ((folder / folders.CONFIG).is_file() or is_early_failure(folder)):
        return "not the folder of a run"
    end = end_of(folder) + SECONDS
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return f"{name} is not a file of the run"
        if path.is_dir():
            if not any(path.iterdir()) and not any(WRITTEN.fullmatch(f"{name}/{example}") for example in EXAMPLES):
                return f"{name} is not a folder of the run"
            continue
        if not WRITTEN.fullmatch(name) and not is_temporary(path):
            return f"{name} is not a file of the run"
        if changed(path) > end and not TOUCHED_LATER.fullmatch(name):
            return f"{name} was changed after the run"
    return None


def is_early_failure(folder: Path) -> bool:
    """Whether a folder holds the record of a sweep's job whose config was refused, and nothing else."""
    names = {path.name for path in folder.iterdir()}
    return RESULTS in names <= {RESULTS, ".lock"}


def end_of(folder: Path) -> float:
    """When a run wrote for the last time; one that was killed: by its log and last checkpoint, or else its config."""
    if (record := folder / RESULTS).is_file():
        return changed(record)
    known = [*folder.glob("checkpoints/last.ckpt"), *folder.glob("events.out.tfevents.*")]
    return max(changed(path) for path in known or [folder / folders.CONFIG])


def changed(path: Path) -> float:
    """When a file was written or came to its place: `mv`, `cp -p` and archives keep the time of writing alone."""
    status = path.lstat()
    return max(status.st_mtime, status.st_ctime)
