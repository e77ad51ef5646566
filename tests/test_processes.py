"""What only processes of their own show: how fast run.py answers, two devices, a compiled net."""

import gc
import itertools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from command_line import PLAIN, checkpoint_of, finish, only_run, results_of, run, run_well, start
from conftest import MODELS, ROOT, flat, models_of, quick
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from PIL import Image
from torch import equal

from gan.adversarial import GAN
from tasks.checkpoint_io import ResumedCheckpoint

pytestmark = pytest.mark.extended


def test_config_is_printed_at_once_and_without_torch() -> None:
    before = os.times()
    outcome = finish(start("--cfg", "job", "model=resnet", "data=fashion_mnist", before=("-X", "importtime")))
    after = os.times()
    assert outcome.status == 0
    assert OmegaConf.create(outcome.out).model._target_ == "classic_cnn.resnet.ResNet"
    imported = {line.rpartition("|")[2].strip() for line in outcome.err.splitlines()}
    assert "omegaconf" in imported
    assert not imported & {"torch", "lightning", "torchvision", "tensorboard", "matplotlib", "kornia", "numpy"}
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.5
    assert not list(Path().iterdir())


def test_help_teaches_groups_tasks_and_examples() -> None:
    outcome = finish(start("--help"))
    assert (outcome.status, outcome.err) == (0, "")
    for name in MODELS:
        assert name in outcome.out
    for words in ("task=predict", "task=test", "-m model=", "--cfg job", "outputs/", "experiment="):
        assert words in outcome.out
    assert len(outcome.out.splitlines()) < 55


def test_run_on_two_devices_is_one_run() -> None:
    arguments = ("trainer.strategy=ddp", "trainer.devices=2", "trainer.max_epochs=1", "trainer.log_every_n_steps=1")
    outcome = finish(start("model=lenet", *PLAIN, *arguments))
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("model        LeNet5") == outcome.out.count("dashboard  ") == 1
    results = results_of(only_run())
    assert results["status"] == "finished"
    assert results["device"].startswith("2 x cpu")
    assert checkpoint_of(only_run())["global_step"] == 5  # 400 images, 2 x 40 a step
    assert results["seconds"] * results["images_per_second"] == pytest.approx(400, rel=1e-4)
    run_well("task=test", f"ckpt_path={only_run()}/checkpoints/best.ckpt", "trainer.devices=1", "trainer.strategy=auto")
    tested = max(Path("outputs/lenet/mnist_5k").iterdir())
    assert results_of(tested)["val/accuracy"] == pytest.approx(results["val/accuracy"])


def test_two_devices_count_each_image_of_an_evaluation_once() -> None:
    for part, number in (("train", 12), ("val", 7), ("test", 3)):
        for index in range(number):
            folder = Path("set", part, "ab"[index % 2])
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), 20 * index).save(folder / f"{index}.png")
    two = ("trainer.strategy=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=1")
    outcome = finish(
        start("model=lenet", "data=folder", "data.path=set", "data.batch_size=4", "~callbacks.plots", *two)
    )
    assert outcome.status == 0, outcome.err
    assert "DistributedSampler" not in outcome.err
    results = results_of(only_run())
    for metric, number in (("val/accuracy", 7), ("test/accuracy", 3)):
        assert results[metric] * number == pytest.approx(round(results[metric] * number), abs=1e-4)
    one = ("trainer.devices=1", "trainer.strategy=auto", "trainer.accelerator=cpu", "~callbacks.plots", "data.path=set")
    run_well("task=test", f"ckpt_path={only_run()}/checkpoints/best.ckpt", *one)
    tested = max(Path("outputs/lenet/folder").iterdir())
    for metric in ("test/accuracy", "test/loss"):
        assert results_of(tested)[metric] == pytest.approx(results[metric], rel=1e-5)


class SameWeights(Callback):
    """Writes at the end whether the processes' weights are equal, and whether they are what they were before."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = flat(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        after = flat(pl_module)
        first, second = pl_module.all_gather(after)
        if trainer.is_global_zero:
            Path("weights.json").write_text(json.dumps([equal(first, second), equal(after, self.before)]))


@pytest.mark.parametrize(
    "model", [name if name == "gan" else pytest.param(name, marks=pytest.mark.slow) for name in models_of(GAN)]
)
def test_gan_on_two_devices_is_one_run(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    arguments = (
        *("trainer.strategy=ddp", "trainer.devices=2", "trainer.max_epochs=2", *quick(model)),
        *("callbacks.evaluation.final_count=50", "+callbacks.same._target_=test_processes.SameWeights"),
    )
    outcome = finish(start(f"model={model}", *PLAIN, *arguments))
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("dashboard  ") == 1
    results = results_of(only_run())
    assert results["status"] == "finished"
    assert results["device"].startswith("2 x cpu")
    assert results["val/count"] == 50
    same_in_both, same_as_before = json.loads(Path("weights.json").read_text())
    assert same_in_both
    assert not same_as_before


SMALL_NETS = {
    "lenet": ("model/lr_scheduler=none",),
    "gan": ("model.network.width=0.1", "callbacks.evaluation.final_count=50"),
    "esn": ("model.units=50",),
}
ONE_OF_ALL = ("esn", "ddp_fork")  # the others start up to six processes more


@pytest.mark.parametrize(
    ("model", "strategy"),
    [
        pytest.param(model, strategy, marks=() if (model, strategy) == ONE_OF_ALL else pytest.mark.slow)
        for model, strategy in itertools.product(SMALL_NETS, ("ddp", "ddp_fork", "ddp_spawn"))
    ],
)
def test_two_processes_end_with_equal_weights_in_one_folder_and_when_resumed(
    model: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    two = (f"model={model}", *SMALL_NETS[model], *PLAIN, f"trainer.strategy={strategy}", "trainer.devices=2")
    same = "callbacks.same._target_=test_processes.SameWeights"
    # a finished echo state network is not gone on with
    first, then = (
        (("max_epochs=2", "max_steps=3"), "max_steps=-1") if model == "esn" else (("max_epochs=1",), "max_epochs=2")
    )
    for command in ((*two, *(f"trainer.{budget}" for budget in first)), (f"trainer.{then}",)):
        last = [f"ckpt_path={path}" for path in Path().rglob("last.ckpt")]
        outcome = finish(start(*last, *command, same))
        assert outcome.status == 0, outcome.err
        assert "All distributed processes" not in outcome.err
        assert json.loads(Path("weights.json").read_text()) == [True, False]
        Path("weights.json").unlink()
    assert results_of(only_run())["epochs"] == 2


def test_each_process_of_a_resumed_run_has_the_checkpoint_for_itself(trained: Path) -> None:
    path = trained / "checkpoints" / "last.ckpt"
    plugin = ResumedCheckpoint(torch.load(path, weights_only=True), path.parent)
    first, second = (plugin.load_checkpoint(path)["optimizer_states"][0]["state"][0]["exp_avg"] for _ in range(2))
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()  # ddp_spawn shares memory, which both optimizers would write into


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("model", ["lenet", "gan"])
def test_compiled_net_trains_and_leaves_an_ordinary_checkpoint(model: str) -> None:
    small = (*quick(model), "callbacks.evaluation.final_count=50") if model == "gan" else ()
    outcome = finish(start(f"model={model}", *PLAIN, *small, "trainer.max_epochs=1", "compile=true"))
    assert outcome.status == 0, outcome.err
    compiled = only_run()
    assert results_of(compiled)["status"] == "finished"
    assert not any("_orig_mod" in name for name in checkpoint_of(compiled)["state_dict"])
    if model == "lenet":
        run_well("task=test", f"ckpt_path={compiled}/checkpoints/best.ckpt")
        tested = max(Path("outputs/lenet/mnist_5k").iterdir())
        assert results_of(tested)["val/accuracy"] == pytest.approx(results_of(compiled)["val/accuracy"], abs=2e-3)


def test_compiling_a_gradient_penalty_is_refused_in_one_line() -> None:
    outcome = finish(start("model=wgan_gp", *PLAIN, "trainer.max_epochs=1", "compile=true"))
    assert outcome.status == 2
    assert "compile=true" in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the system does not tell which libraries a process has")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")], ids=["a run", "a sweep"])
def test_command_stopped_during_its_imports_ends_at_once_in_one_line(
    sweep: tuple[str, ...], number: signal.Signals
) -> None:
    process = start(*sweep, "model=lenet", *PLAIN)
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():  # then the import goes on for long
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    outcome = finish(process)
    assert outcome.status == 128 + number
    if sweep:  # whose first job has a folder by now
        assert outcome.out.splitlines()[-1].startswith("To go on with the sweep: ")
        assert outcome.err == ""
    else:
        assert outcome.err == "Stopped before the task began.\n"
        assert not list(Path().rglob("*.yaml"))


@pytest.mark.parametrize("trainer", ["trainer.limit_train_batches=1", "trainer.nonsense=1"])
def test_garbage_is_collected_again_once_the_imports_are_done(trainer: str) -> None:
    run("model=lenet", *PLAIN, "trainer.max_epochs=1", trainer)
    assert gc.isenabled()
    assert gc.get_freeze_count()
