"""One run of the command line: its config is checked, it gets a folder and a lock, and its outcome is recorded."""

import gc
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, ListConfig, OmegaConf

from tasks import folders
from tasks.config import HYDRA_KEYS, ConfigError, local_paths
from tasks.messages import command, is_mistake
from tasks.prepare import choices_of, prepare, task_name, typed
from tasks.results import RESULTS, read_results, write_results
from tasks.run_records import TRAINING, WITHOUT_MODEL, WITHOUT_NET, read_run
from tasks.signals import signal_of, stoppable

STARTED = "%Y-%m-%dT%H:%M:%S%z"  # how a record has the time
REQUEUED = -1  # the status by which submitit ends a process that it starts again
FOLDER_VARIABLE = "CLASSIC_NETS_FOLDER"  # tells the processes that Lightning starts beside this one where the run lies
stopped: list[int] = []  # signals that ended a task in this process


def run_task(cfg: DictConfig, hydra: DictConfig | None = None) -> float | None:
    """Runs the task of a composed config; returns the objective, a metric on validation data, for a sweeper.

    Args:
        cfg: as Hydra composes it.
        hydra: Hydra's own config; None where `cfg` holds it, as `run.compose` returns it.

    Raises:
        ValueError: a user's mistake; nothing was written unless the message names a folder.
        SystemExit: a signal ended the run, with status 128 + its number.
    """
    if hydra is not None and hydra.mode == RunMode.MULTIRUN:
        return run_job(cfg, hydra)
    try:
        with importing():
            cfg = prepare(cfg, hydra)
            task = get_method(cfg.task._target_)  # with its imports, which an interrupt can leave half done
    except Exception:
        if hydra is not None and names_folder(hydra) and folders.is_new(named := Path(hydra.runtime.output_dir)):
            named.rmdir()
        raise
    with stoppable():
        resumed = folders.run_of_checkpoint(cfg.ckpt_path) if cfg.ckpt_path and task_name(cfg) in TRAINING else None
        folder = folder_of(cfg, hydra, resumed)
        return record_task(cfg, task, folder.absolute(), resumed is not None)


@contextmanager
def importing() -> Iterator[None]:
    """For imports: collecting garbage meanwhile takes a quarter of their time, and what they made is never garbage."""
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # later there may be garbage of an earlier run
            gc.freeze()
        gc.enable()


def run_job(cfg: DictConfig, hydra: DictConfig) -> float | None:
    """Runs a job of a sweep in the folder that Hydra made: begins it, or goes on with it, if it has not finished.

    Raises:
        SystemExit: a signal ended it, or an earlier job of this process of a parallel sweep.
    """
    folder = Path(hydra.runtime.output_dir)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # the sweep was killed
    if parent is not None and stopped:
        raise SystemExit(128 + stopped[0])
    earlier = read_run(folder) if (folder / RESULTS).exists() else {}
    if earlier.get("status") == "finished":
        return earlier.get("objective")
    try:
        with importing():
            cfg = prepare(cfg, hydra)
            task = get_method(cfg.task._target_)
        check_strategy(cfg.trainer)
        last = folder / "checkpoints" / "last.ckpt"
        resumed = task_name(cfg) in TRAINING and last.is_file() and folders.run_of_checkpoint(last) is not None
    except Exception as error:
        record_early_failure(hydra, cfg, error)
        raise
    if resumed:
        cfg.ckpt_path, cfg.init_from = str(last), None
    with stoppable():
        return record_task(cfg, task, folder.absolute(), resumed, alone=False)


def check_strategy(trainer: DictConfig) -> None:
    """Refuses several devices by a strategy that would start the whole sweep again in a second process."""
    devices, strategy = trainer.devices, str(trainer.get("strategy", "auto"))
    if devices in (1, "1"):
        return
    if devices in ("auto", -1, "-1"):
        from torch.cuda import device_count  # heavy, and only needed here

        several = trainer.accelerator != "cpu" and device_count() > 1
    else:
        several = not isinstance(devices, ListConfig) or len(devices) > 1
    if several and not re.fullmatch(r"ddp_(spawn|fork|notebook)(_.+)?", strategy):
        advice = "cannot be used in a sweep with several devices: use ddp_spawn or ddp_fork there"
        raise ConfigError("trainer.strategy", advice, strategy)


def names_folder(hydra: DictConfig) -> bool:
    """Whether a command says which folder the run is to have."""
    return hydra.run.dir != "." or any(text.lstrip("+").startswith("hydra.run.dir=") for text in hydra.overrides.hydra)


def folder_of(cfg: DictConfig, hydra: DictConfig | None, resumed: Path | None) -> Path:
    """That of the run that goes on; else a new outputs/<model>/<data>/<date_time>[_<task>][_<experiment>][_<name>].

    That of a task without a model is outputs/<task>/<date_time>[_<name>], a helper's its parent's; `hydra.run.dir`
    names any other new or empty one.

    Raises:
        ValueError: `hydra.run.dir` has files, or is not the folder of the run that goes on; or its name has a variable.
    """
    if (folder := os.environ.get(FOLDER_VARIABLE)) and is_helper_process():
        return Path(folder)
    if hydra is not None and names_folder(hydra):
        named = Path(hydra.runtime.output_dir)  # Hydra has made it
        if folders.is_new(named):
            folders.made.add(named.absolute())
        if resumed is not None and named.resolve() != resumed.resolve():
            raise ValueError(
                f"hydra.run.dir={hydra.run.dir}: the run of ckpt_path goes on in its own folder, leave it out"
            )
        folders.check_literal(named)
        if resumed is None and any(named.iterdir()):
            raise ValueError(f"hydra.run.dir={hydra.run.dir}: there are files already, name a new folder")
        return named
    folders.check_literal(resumed or Path.cwd())
    if resumed is not None:
        return resumed
    if task_name(cfg) in WITHOUT_MODEL:
        return folders.new_folder(Path("outputs", task_name(cfg)), cfg.name)
    names = [str(cfg.choices.get(part) or "own") for part in ("model", "data")]
    task = None if task_name(cfg) in TRAINING else task_name(cfg)
    return folders.new_folder(Path("outputs", *names), task, cfg.choices.get("experiment"), cfg.name)


def is_helper_process() -> bool:
    """Whether Lightning or a cluster started this process beside the one of rank 0, which keeps the record."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def record_task(
    cfg: DictConfig, task: Callable[..., Any], folder: Path, resumed: bool = False, alone: bool = True
) -> float | None:
    """Calls a task and writes its outcome into the folder.

    Args:
        cfg: checked.
        task: of the config, `tasks.train.train` say.
        folder: of the run.
        resumed: the folder holds the record of a run that goes on; what is refused leaves it as it was.
        alone: not a job of a sweep, whose table lists what was refused.
    """
    settings = {name: value for name, value in cfg.task.items() if name not in HYDRA_KEYS}
    if task_name(cfg) not in WITHOUT_NET:
        set_up(cfg.seed)
    if is_helper_process():
        return task(cfg, folder, **settings).get("objective")
    held = folders.lock(folder)
    os.environ[FOLDER_VARIABLE] = str(folder)
    record = {
        "status": "finished",
        "task": task_name(cfg),
        **OmegaConf.to_container(cfg.choices),  # type: ignore[dict-item]
        "name": cfg.name,
        "tags": list(cfg.tags),
        "description": cfg.description,
        "seed": cfg.seed,
        "init_from": init_from(cfg),
        "overrides": list(cfg.overrides),
        "folder": str(folder),
        "started": time.strftime(STARTED),
    }
    if task_name(cfg) in (*TRAINING, "small_data"):
        record |= {"machine": get_method("tasks.machine.machine")(str(cfg.trainer.accelerator))}
    if not resumed:
        folders.write_config(cfg, folder)
    keep = resumed  # the record of a resumed run, until there is a better one
    last = folder / "checkpoints" / "last.ckpt"
    begun_with, config = stamp(last), folders.config_files(folder)
    try:
        outcome = task(cfg, folder, **settings)
        record |= outcome
        keep = not outcome and alone and folders.remove_unused(folder)  # a list leaves nothing
        return record.get("objective")
    except (KeyboardInterrupt, SystemExit) as stop:
        number = signal_of(stop)
        is_requeued = isinstance(stop, SystemExit) and stop.code == REQUEUED
        reason = "the cluster took its place, and starts it again" if is_requeued else f"stopped by {number.name}"
        record |= {"status": "interrupted", "reason": reason}
        keep = read_results(folder).get("status") == "finished" and stamp(last) == begun_with
        if is_requeued:
            raise
        stopped.append(number)
        print(how_to_resume(cfg, folder) if alone else "Stopped.", flush=True)  # a sweep's own command goes on
        raise SystemExit(128 + number) from stop
    except Exception as error:
        record |= {"status": getattr(error, "status", "failed"), "reason": f"{type(error).__name__}: {error}"}
        is_refused = is_mistake(error) and record["status"] == "failed"
        keep = resumed and is_refused and stamp(last) == begun_with
        if keep:
            folders.restore_config(folder, config)
        if is_refused and alone and folders.remove_unused(folder):
            keep = True
        raise
    finally:
        if {"wandb", "mlflow"} & sys.modules.keys():
            get_method("tasks.loggers.close_loggers")(folder)
        del os.environ[FOLDER_VARIABLE]
        if not keep:
            write_results(folder, record)
        held.release()


def stamp(file: Path) -> tuple[int, int] | None:
    """Time and size of a file: whether a checkpoint has been written meanwhile."""
    return (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None


def set_up(seed: int) -> None:
    """Settings of the process and the random state that every run starts from."""
    from lightning import seed_everything

    from tasks.process import configure_process

    configure_process()
    seed_everything(seed, workers=True, verbose=False)


def record_early_failure(hydra: DictConfig, cfg: DictConfig, error: Exception) -> None:
    """Leaves a reason in the folder of a sweep's job that was refused before its task began."""
    folder = Path(hydra.runtime.output_dir)
    overrides = typed(hydra)
    record = {"status": "failed", "task": hydra.runtime.choices.task, **choices_of(hydra), "overrides": overrides}
    record |= {"started": time.strftime(STARTED)}
    if type(cfg.get("seed")) is int:
        record |= {"seed": cfg.seed}
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, record | {"folder": str(folder), "reason": f"{type(error).__name__}: {error}"})


def init_from(cfg: DictConfig) -> str | None:
    """The checkpoint that a run started from, also of one that goes on."""
    typed = (text.removeprefix("init_from=") for text in cfg.overrides if text.startswith("init_from="))
    return cfg.init_from or next(typed, None)


def places(cfg: DictConfig) -> list[str]:
    """The paths that a command line gave a run, which no checkpoint holds."""
    keys = [f"{part}.{name}" for part in ("model", "data") for name in local_paths(part, cfg[part])]
    given = {text.split("=")[0] for text in cfg.overrides}
    return [f"{key}={OmegaConf.select(cfg, key)}" for key in keys if key in given and OmegaConf.select(cfg, key)]


def how_to_resume(cfg: DictConfig, folder: Path) -> str:
    last = folder / "checkpoints" / "last.ckpt"
    if task_name(cfg) not in TRAINING:
        return "Stopped."
    if last.is_file():
        own = places(cfg)
        if "arms" in cfg.task:  # whose experiment brings what its arm changes
            changes = cfg.task.arms[cfg.task.arm]
            own = [*(text for text in cfg.overrides if text not in changes), "hydra.mode=RUN"]
        return f"Stopped. To resume: {command(*own, f'ckpt_path={folders.short(last)}')}"
    return "Stopped before the first checkpoint: there is nothing to resume."
