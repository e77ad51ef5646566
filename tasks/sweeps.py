"""Sweeps: one folder per job below the sweep's own, a table at the end; the same command goes on with a stopped one."""

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from tasks import cross_validation, folders, search
from tasks.config import ConfigError
from tasks.leaderboard import describe_unfinished, make_rows, unfinished, write_table
from tasks.messages import command, report
from tasks.overrides import CONF
from tasks.prepare import check_jobs_of_claim, task_name, typed
from tasks.results import atomic_writer
from tasks.run_records import SWEEP, Record, collect, read_run, read_sweep
from tasks.tables import Row, one_line

OWN = {SWEEP, "multirun.yaml"}  # the latter is Hydra's
PATIENCE = 60  # seconds in which jobs that were told to stop write their checkpoints


class RunningSweep(NamedTuple):
    """The sweep that this process runs."""

    folder: Path
    command: str  # that goes on with it


new_folders: list[Path] = []  # folders of sweeps that this process made
running: list[RunningSweep] = []


def sweep_folder(overrides: Iterable[str] = ()) -> str:
    """A new folder outputs/sweeps/<date_time>[_<experiment>][_<name>]; a resolver of conf/config.yaml."""
    typed = dict(text.lstrip("+").split("=", 1) for text in overrides if "=" in text)
    labels = (text for key in ("experiment", "name") if (text := typed.get(key)) and "," not in text)
    new_folders.append(folders.new_folder(Path("outputs", "sweeps"), *labels))
    return str(new_folders[-1])


def job_folder(number: int, overrides: Iterable[str], choices: DictConfig, sweep: str) -> str:
    """The name of a job's folder in its sweep: number, model, data, experiment, and what tells it from other jobs."""
    shared = set(read_sweep(Path(sweep))["shared"])
    return job_name(number, [text for text in overrides if text not in shared], choices)


def job_name(number: int, differing: Iterable[str], choices: Any) -> str:
    """
    >>> job_name(3, ["model=lenet", "++seed=1", "data/augment=crop"], {"model": "lenet", "data": "mnist"})
    '003_lenet_mnist_seed-1_data_augment-crop'
    """
    names = ("model", "data", "experiment")
    typed = [text.removeprefix("++") for text in differing if not text.startswith("ckpt_path=")]
    changes = [re.sub("^(name|task.arm)=", "", text) for text in typed if text.split("=")[0] not in names]
    if any(text.startswith("task.arm=") for text in typed):  # which may change model and data
        return folders.folder_name(f"{number:03d}", *changes)
    return folders.folder_name(f"{number:03d}", *(choices.get(name) for name in names), *changes)


class SweepCallback(Callback):
    """Begins a sweep or goes on with one, and writes its table when it ends, failed jobs or not: then status 1."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            begin(config)
        except Exception as error:  # which Hydra would turn into a warning
            raise SystemExit(report(error)) from error

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if sys.exc_info()[0] is not None:
            return  # Hydra 1.4 calls this on the way of an error that ends the sweep, which is reported then
        folder = Path(config.hydra.sweep.dir)
        if not jobs_of(folder):
            print("Error: this sweep has no jobs, one of its options stands for no value", file=sys.stderr)
            raise SystemExit(2)
        records = collect(folder, every_task=True)
        rows = make_rows(records)
        if any(record["task"] == "claim" for record in records):
            write_claim(config, records, rows)
        elif any(map(cross_validation.is_of_fold, records)):
            cross_validation.write_report(records, folder)
        else:
            write_table(folder, folder, rows)
        if (folder / search.OUTCOME).is_file():
            search.report_best(folder, records)
        if any(record["task"] == "small_data" for record in records):
            from tasks.small_data_report import write_report  # with matplotlib, which other sweeps need not wait for

            write_report(records, folder)
        if unfinished(rows):
            if sys.stdout is not None:
                sys.stdout.flush()
            raise SystemExit(1)


def write_claim(config: DictConfig, records: list[Record], rows: list[Row]) -> None:
    """The verdict of a claim in place of the leaderboard, after the jobs that did not finish."""
    from tasks.claims.report import write_report

    for row in unfinished(rows):
        print(one_line(describe_unfinished(row)))
    write_report(records, config, read_sweep(Path(config.hydra.sweep.dir))["overrides"])


def begin(config: DictConfig) -> None:
    """Records which command a new sweep is of; checks that it is the same for one that goes on.

    Raises:
        ValueError: `hydra.sweep.dir` holds another sweep, or files of another kind; or the command sets what a claim's
            arms differ in, or a size or an arm that it does not have, or names a value twice.
    """
    if any(text.startswith("hydra.sweep.subdir=") for text in config.hydra.overrides.hydra):
        raise ValueError("hydra.sweep.subdir: each job has a folder with its number in hydra.sweep.dir, leave it out")
    if "direction" in config.hydra.sweeper:
        search.check_search(config)
    values = grid(config.hydra)
    check_grid(values, config)
    if task_name(config) == "claim" and not OmegaConf.is_missing(config.task, "sentence"):
        check_jobs_of_claim(config, values.get("++task.arm", []))
        for key, texts in values.items():
            if len(texts) > 1 and (name := key.lstrip("+")) not in ("task.arm", "seed"):
                raise ValueError(f"{name}={','.join(texts)}: a claim compares arms over seeds, give one value")
    number = math.prod(map(len, values.values()))
    folder = Path(config.hydra.sweep.dir)
    folders.check_literal(folder)
    settings = json.loads(json.dumps(OmegaConf.to_container(config.hydra.sweeper), default=str))
    wanted = {
        "overrides": typed(config.hydra),
        "sweeper": settings,
        "shared": shared_overrides(config.hydra.overrides.task),
    }
    others = [text for text in config.hydra.overrides.hydra if not text.startswith(("hydra.mode", "hydra.sweep.dir"))]
    go_on = command(*wanted["overrides"], *others, f"hydra.sweep.dir={folders.short(folder.absolute())}", multirun=True)
    if (folder / SWEEP).is_file():
        check_same(folder, wanted)
        if links := [path for path in folder.iterdir() if path.is_symlink()]:
            raise ValueError(f"{links[0]}: a link, which a sweep does not write through: remove it")
        for job in jobs_of(folder):
            folders.check_links(job)
        statuses = [read_run(job)["status"] for job in jobs_of(folder)]
        jobs = f"its {number} jobs" if values else "its jobs"
        print(f"sweep        goes on; {statuses.count('finished')} of {jobs} have finished")
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"hydra.sweep.dir={folder}: is no sweep's folder; name one of outputs/sweeps/, or a new one")
    else:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            new_folders.append(folder)
        with atomic_writer(folder / SWEEP) as file:
            file.write(json.dumps(wanted, indent=2) + "\n")
        if values and number:
            print(f"sweep        {number} job{'s' * (number > 1)}, numbered from 0")
    running.append(RunningSweep(folder, go_on))


def grid(hydra: DictConfig) -> dict[str, list[str]]:
    """The values of each option of a sweep over a grid, as its jobs get them; nothing of a search.

    >>> overrides = {"task": ["++seed=range(0,3)", "model=glob(le*)", "++name=a"]}
    >>> grid(OmegaConf.create({"sweeper": {"params": {"++seed": "0,1"}}, "overrides": overrides}))
    {'++seed': ['0', '1', '2'], 'model': ['lenet'], '++name': ['a']}
    """
    if "direction" in hydra.sweeper:
        return {}
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *hydra.overrides.task])
    return {override.get_key_element(): values_of(override) for override in parsed}


def values_of(override: Override) -> list[str]:
    """What one override of a sweep sets in its jobs."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise ConfigError(override.key_or_group, "an interval is for a search, hydra/sweeper=optuna; write a range")
    value = override.value()
    if isinstance(value, Glob):
        return value.filter([file.stem for file in (CONF / override.key_or_group).glob("*.yaml")])
    return list(override.sweep_string_iterator())


def check_grid(values: Mapping[str, list[str]], config: DictConfig) -> None:
    """Refuses a value that a sweep names twice, and a sweeper that makes no job at a time.

    Raises:
        ValueError: names the option.
    """
    if (most := config.hydra.sweeper.get("max_batch_size")) is not None and most < 1:
        raise ConfigError("hydra.sweeper.max_batch_size", "should be at least 1", most)
    for key, texts in values.items():
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise ValueError(f"{key.lstrip('+')}={','.join(texts)}: {twice[0]} is named twice")


def shared_overrides(overrides: Iterable[str]) -> list[str]:
    """The overrides of a sweep that all its jobs have, as Hydra hands them to each.

    >>> shared_overrides(["model=lenet,vgg", "++seed=0", "tags=[a, b]", "data=glob(*)"])
    ['++seed=0', 'tags=[a,b]']
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    alike = [override for override in parsed if not override.is_sweep_override()]
    return [f"{override.get_key_element()}={override.get_value_element_as_str()}" for override in alike]


def check_same(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuses to go on with a sweep that another command began: its jobs have other numbers or other settings."""
    found = read_sweep(folder)
    if found["overrides"] != wanted["overrides"]:
        began = command(*found["overrides"], f"hydra.sweep.dir={folder}", multirun=True)
        raise ValueError(f"hydra.sweep.dir={folder}: resumed only by the command that began it: {began}")
    if found["sweeper"] != wanted["sweeper"]:
        raise ValueError(f"hydra.sweep.dir={folder}: resumed only with the hydra.sweeper that began it")


def jobs_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def stop_jobs() -> bool:
    """Ends the processes of a parallel sweep, after each job has written its checkpoint; False where there is none."""
    processes = multiprocessing.active_children()
    for process in processes:
        process.terminate()
    end = time.monotonic() + PATIENCE
    jobs = jobs_of(running[-1].folder) if running else []
    while processes and time.monotonic() < end and any(map(folders.is_locked, jobs)):
        time.sleep(0.1)
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGKILL)  # joblib's have no kill()
    return bool(processes)


def how_to_go_on() -> str:
    """What a user reads when a signal has ended a sweep; empty where no job has begun."""
    return f"To go on with the sweep: {running[-1].command}\n" if running and jobs_of(running[-1].folder) else ""


def clean_up() -> None:
    """Removes the folders of sweeps that were refused before their first job; this process's sweep is over."""
    for folder in new_folders:
        if folder.is_dir() and {path.name for path in folder.rglob("*") if not path.is_dir()} <= OWN:
            shutil.rmtree(folder)
    new_folders.clear()
    running.clear()
