"""Where a run is logged besides TensorBoard: Weights & Biases and MLflow, which are optional packages."""

import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from matplotlib.figure import Figure
from torch import Tensor

from datamodules.contract import CheckedArguments
from tasks.folders import dashboard, short
from tasks.tables import one_line

FILE_STORE = "MLFLOW_ALLOW_FILE_STORE"  # without which MLflow 3 takes nothing but a database


class Wandb(CheckedArguments, WandbLogger):
    """Weights & Biases: a run in the run's own folder, to be uploaded by `wandb sync`, or one on the server at once.

    Args:
        save_dir: the run's folder.
        name: of the run, as the dashboard shows it.
        project: that it belongs to.
        offline: nothing is sent anywhere.
        entity: user or team on the server; None is the account's own.
    """

    def __init__(
        self, save_dir: str, name: str, project: str = "classic-nets", offline: bool = True, entity: str | None = None
    ) -> None:
        quiet = {"silent": True, "console": "off", "symlink": False}
        WandbLogger.__init__(self, name, save_dir, project=project, offline=offline, entity=entity, settings=quiet)
        self._wandb_init.pop("anonymous")  # which wandb warns of


class MLFlow(CheckedArguments, MLFlowLogger):
    """MLflow: on the server of `tracking_uri`, or as files in the run's own folder.

    Args:
        save_dir: the run's folder.
        name: of the run, as the dashboard shows it.
        experiment_name: that it belongs to.
        tracking_uri: http://..., sqlite:///..., file:...; None is a folder mlruns in `save_dir`.
    """

    def __init__(
        self, save_dir: str, name: str, experiment_name: str = "classic-nets", tracking_uri: str | None = None
    ) -> None:
        os.environ.setdefault(FILE_STORE, "true")
        MLFlowLogger.__init__(self, experiment_name, name, tracking_uri=tracking_uri or local_store(save_dir))

    @rank_zero_only
    def log_image(self, key: str, images: Sequence[Any], step: int | None = None) -> None:
        """Keeps pictures as PNG files: figures, or tensors (C, H, W) in [0, 1]; as `WandbLogger.log_image`."""
        for image in images:
            file = f"{key}, step {step}.png"
            if isinstance(image, Figure):
                self.experiment.log_figure(self.run_id, image, file)
            else:
                pixels = image.permute(1, 2, 0).numpy() if isinstance(image, Tensor) else image
                self.experiment.log_image(self.run_id, pixels, file)


def local_store(folder: str | Path) -> str:
    return f"file:{folder}/mlruns"


# What has to be installed for a class, and the name that `import` knows it by.
PACKAGES = {
    "tasks.loggers.Wandb": ("wandb", "wandb"),
    "tasks.loggers.MLFlow": ("mlflow-skinny", "mlflow"),
    "lightning.pytorch.callbacks.DeviceStatsMonitor": ("psutil", "psutil"),
}


def missing_package(target: str) -> str | None:
    """What a class needs and is not there, with the command that installs it."""
    package, module = PACKAGES.get(target, (None, ""))
    return f"needs a package: pip install {package}" if package and find_spec(module) is None else None


def own_place(cls: type[Logger], folder: Path) -> dict[str, str]:
    """The arguments of a logger by which all that it writes lies in a run's folder."""
    name = "/".join(folder.absolute().parts[-3:])  # as the folder is called in outputs/
    if issubclass(cls, TensorBoardLogger):
        return {"save_dir": str(folder), "name": "", "version": ""}
    if issubclass(cls, CSVLogger):  # which would remove the file of the run that is resumed
        number = next(number for number in itertools.count() if not (folder / f"csv_{number}").exists())
        return {"save_dir": str(folder), "name": "", "version": f"csv_{number}"}
    return {"save_dir": str(folder), "name": name} if issubclass(cls, Wandb | MLFlow) else {"save_dir": str(folder)}


def where_to_look(trainer: Trainer) -> list[str]:
    """A line for each logger of a run: the file, or the command or page that shows what was logged."""
    places = [(logger, place_of(logger)) for logger in trainer.loggers]
    names = {logger: "log" if isinstance(logger, CSVLogger) else "dashboard" for logger, _ in places}
    return [one_line(f"{names[logger]:<13}{place}") for logger, place in places if place]


def place_of(logger: Logger) -> str | None:
    if isinstance(logger, TensorBoardLogger):
        return dashboard(logger.log_dir)
    if isinstance(logger, CSVLogger):
        return f"{short(logger.log_dir)}/metrics.csv"
    if isinstance(logger, WandbLogger):
        run: Any = logger.experiment
        return f"wandb sync {shlex.quote(short(Path(run.dir).parent))}" if logger._offline else str(run.url)
    if isinstance(logger, MLFlowLogger):
        uri = logger._tracking_uri
        is_local = uri.startswith("file:")
        store = shlex.quote(short(uri[5:]))
        return f"{FILE_STORE}=true mlflow ui --backend-store-uri {store}" if is_local else uri
    return None


def close_loggers(folder: Path) -> None:
    """Ends a run's logs where the next run of this process would go on with them."""
    if (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
        wandb.finish()
    if os.environ.get("MLFLOW_TRACKING_URI") == local_store(folder):  # where MLflow itself puts it
        del os.environ["MLFLOW_TRACKING_URI"]
