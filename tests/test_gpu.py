"""On a GPU: every model trains, the same seed gives the same weights to the bit, and a stopped run goes on to them."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import checkpoint_of, only_run, results_of, run_well
from conftest import MODELS
from stopping import STATUS, assert_same_end, stop, training_step

from gan.vanilla import VanillaGAN

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
SMALL = (
    *("data=mnist_5k", "data.train_images_per_class=40", "data.batch_size=40", "trainer.accelerator=gpu"),
    *("~callbacks.plots", "trainer.max_epochs=2"),
)
LENET = ("model=lenet", *SMALL, "data/augment=crop_flip_erase", "model.optimizer.lr=0.01")
GAN = ("model=gan", *SMALL, "model.discriminator_steps=2")


@pytest.fixture
def run_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Gives the folder of a run with these arguments, made in a folder of its own."""

    def make(name: str, *arguments: str) -> Path:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run_well(*arguments)
        return only_run()

    return make


@pytest.mark.parametrize("deterministic", ["false", "true"])
@pytest.mark.parametrize("model", MODELS)
def test_same_seed_gives_the_same_weights(model: str, deterministic: str, run_of: Callable[..., Path]) -> None:
    arguments = (f"model={model}", *SMALL, f"trainer.deterministic={deterministic}")
    first, second = run_of("first", *arguments), run_of("second", *arguments)
    assert_same_end(second, first)
    assert all(bool(value.isfinite().all()) for value in checkpoint_of(first)["state_dict"].values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize(
    ("arguments", "net", "call"), [(LENET, None, 14), (GAN, VanillaGAN, 12)], ids=["LeNet-5", "GAN"]
)
def test_stopped_run_goes_on_to_the_same_weights(
    arguments: tuple[str, ...], net: type[VanillaGAN] | None, call: int, precision: str, run_of: Callable[..., Path]
) -> None:
    arguments = (*arguments, f"trainer.precision={precision}")
    uninterrupted = run_of("uninterrupted", *arguments)
    moment = training_step(call, net) if net else training_step(call)
    assert stop(arguments, moment, signal.SIGTERM).status == STATUS[signal.SIGTERM]
    (stopped,) = {path.parent.resolve() for path in Path("outputs").rglob(".hydra")} - {uninterrupted}
    run_well(f"ckpt_path={stopped}/checkpoints/last.ckpt")
    assert_same_end(stopped, uninterrupted)


@pytest.mark.parametrize("model", ["lenet", "googlenet", "gan"])
def test_what_is_compiled_trains(model: str, run_of: Callable[..., Path]) -> None:
    assert results_of(run_of("compiled", f"model={model}", *SMALL, "compile=true"))["status"] == "finished"


def test_net_that_was_trained_on_a_gpu_is_the_same_on_a_cpu(run_of: Callable[..., Path]) -> None:
    path = f"ckpt_path={run_of('trained', *LENET)}/checkpoints/best.ckpt"
    on_gpu, on_cpu = (
        results_of(run_of(name, "task=test", path, "data=mnist", f"trainer.accelerator={name}"))
        for name in ("gpu", "cpu")
    )
    assert on_cpu["test/accuracy"] == pytest.approx(on_gpu["test/accuracy"], abs=0.001)
