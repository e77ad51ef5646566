"""What the tests share: a folder of their own, and runs built as run.py builds them, on a few real digits."""

import functools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning import LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

import run
from datamodules.images import ImageData
from datamodules.in_memory import InMemoryData, first_of_each_class
from datamodules.mnist import MNIST, MNIST5k
from tasks import records
from tasks.build import build
from tasks.prepare import prepare
from tasks.process import configure_process

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
MODELS = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))

os.environ.setdefault("DATA_ROOT", str(ROOT / "data"))  # tests run elsewhere; fetched there once where it is empty
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is started with Ctrl-C ignored
torch.set_num_threads(1)  # threads that wait for a busy core make such small nets up to 30 times slower


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in an empty folder, where outputs/ then lies, and from the same random state."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def compose(*overrides: str) -> DictConfig:
    """The checked config that `run.py OVERRIDES` gives to its task."""
    reads_files = any(text.startswith("ckpt_path=") for text in overrides)
    return prepare(compose_once.__wrapped__(overrides) if reads_files else compose_once(overrides))


@functools.cache
def compose_once(overrides: tuple[str, ...]) -> DictConfig:
    """What Hydra composes, which takes it a quarter of a second; not to be changed."""
    GlobalHydra.instance().clear()
    return run.compose(*overrides)


def small_run(*overrides: str, folder: Path | None = None) -> tuple[LightningModule, Any, Trainer]:
    """Model, data and trainer of a run on the CPU: 20 real digits in batches of 8, and 10 to validate."""
    small = (
        "data=mnist_5k",
        "data.train_images_per_class=2",
        "data.batch_size=8",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
    )
    quiet = "~callbacks.progress_bar"
    cfg = compose(*small, quiet, *overrides)
    configure_process()
    seed_everything(cfg.seed, verbose=False)
    model, data, trainer = build(cfg, folder or Path.cwd())
    assert isinstance(data, InMemoryData)
    data.setup()
    assert data.val_split is not None
    data.val_split = first_of_each_class(data.val_split, 1)
    return model, data, trainer


def model_class(name: str) -> type[LightningModule]:
    return hydra.utils.get_class(OmegaConf.load(CONF / "model" / f"{name}.yaml")._target_)


def quick(name: str) -> tuple[str, ...]:
    """Overrides that make a model quick: a GAN of narrow nets that step at every batch, a small reservoir."""
    settings = compose(f"model={name}").model
    if "snapshots" in settings:
        return ("model.units=50",)
    if "discriminator_steps" not in settings:
        return ()
    keys = {"discriminator_steps": 1, "warm_up_steps": "null"}
    return ("model.network.width=0.1", *(f"model.{key}={value}" for key, value in keys.items() if key in settings))


def models_of(family: type) -> list[str]:
    """The names in conf/model whose class belongs to a family: all of `ImageClassifier`, say."""
    return [name for name in MODELS if issubclass(model_class(name), family)]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: LeNet-5 on 4,000 real digits, with everything that is on by default."""
    from command_line import only_run, run_well

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        budget = ("data.batch_size=50", "trainer.max_epochs=3", "trainer.log_every_n_steps=16")
        run_well("model=lenet", "data=mnist_5k", "trainer.accelerator=cpu", *budget)
        return only_run()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of an experiment on MNIST's official files, as of a commit."""
    from command_line import change, only_run, results_of, run_well

    small = ("data.train_images_per_class=10", "trainer.max_epochs=2", "trainer.accelerator=cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("finished"))
        run_well("experiment=lenet_fast", *small, "data.batch_size=20", "~callbacks.plots")
        change(only_run(), machine=results_of(only_run())["machine"] | {"commit": "1234567"})
        return only_run()


@pytest.fixture
def checkout(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout, with the run of `finished` in runs/one; the folder of its records, which is not there yet."""
    monkeypatch.setattr(records, "ROOT", Path.cwd())
    Path("docs").mkdir()
    shutil.copytree(finished, "runs/one")
    return Path("published/runs/lenet_fast/mnist")


def flat(net: nn.Module) -> Tensor:
    """A copy of all parameters in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@pytest.fixture(scope="session")
def mnist_5k() -> ImageData:
    """5,000 real digits; not to be changed."""
    data = MNIST5k()
    data.setup()
    return data


@pytest.fixture(scope="session")
def mnist() -> ImageData:
    """All of MNIST; not to be changed."""
    data = MNIST()
    data.prepare_data()
    data.setup()
    return data
